"""The int8 form of a network is smaller, nearly as good, and what it loses is told."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from recsys_cli.errors import RecsysError
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.ensemble.config import EnsembleConfig
from recsys_cli.ranking.networks.kinds import NETWORKS, DinConfig
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.serving.quantise import _rewrite, int8_loss, quantise
from recsys_cli.ranking.serving.served import GRAPH_FILE, GraphRanker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.testing.ranker_tables import SPAN, make_table


def products(folder):
    """Nodes that multiply in int8."""
    return [n for n in onnx.load(folder / GRAPH_FILE).graph.node if n.op_type == "MatMulIntegerToFloat"]


def test_an_int8_graph_is_served_like_the_other_and_loses_what_training_says(fitted, tmp_path):
    ranker, valid = fitted
    train = make_table(4000)
    ranker.export(tmp_path, graph=True)
    before = load_ranker(tmp_path).predict(valid.values)
    size = (tmp_path / GRAPH_FILE).stat().st_size
    quantise(tmp_path, train)
    assert len(products(tmp_path)) == 2 and (tmp_path / GRAPH_FILE).stat().st_size < size
    served = load_ranker(tmp_path)
    after = served.predict(valid.values)
    assert served.tasks == ranker.tasks and after.keys() == before.keys()
    loss = int8_loss(ranker, train, valid)
    for task in ranker.tasks:
        assert 0 < np.abs(after[task] - before[task]).max() < 0.2
        assert loss[task]["int8"] == pytest.approx(roc_auc(valid.labels[task], after[task]), abs=1e-9)
        assert loss[task]["float32"] == pytest.approx(roc_auc(valid.labels[task], before[task]), abs=1e-9)
        assert abs(loss[task]["float32"] - loss[task]["int8"]) < 0.01


FORMS = {
    "two members": {"members": 2},
    "no dwell, history, hidden heads": {"dwell": False, "history": "din", "head": 8, "history_length": 6},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_network_is_served_in_int8(kind, form, tmp_path):
    settings = {"epochs": 1, "min_steps": 0, "calibration": "none", "id_buckets": 64} | FORMS[form]
    settings |= {"behind": ["like"]} if kind == "esmm" else {}
    if kind in ("din", "transformer"):
        settings["history"] = kind
    if kind == "fm":
        settings.pop("head", None)
    ranker = fit_heavy(NETWORKS[kind](**settings), make_table(300), make_table(60, 1), seed=0)
    ranker.export(tmp_path, graph=True)
    valid = make_table(100, 2)
    before = load_ranker(tmp_path).predict(valid.values, valid.entities)
    quantise(tmp_path, make_table(300))
    after = load_ranker(tmp_path).predict(valid.values, valid.entities)
    assert products(tmp_path)
    for task in ranker.tasks:
        np.testing.assert_allclose(after[task], before[task], atol=0.05)
    assert ("dwell" in after) == ranker.dwell


def test_a_candidate_scores_the_same_alone_and_in_any_company(fitted, tmp_path):
    ranker, valid = fitted
    ranker.export(tmp_path, graph=True)
    quantise(tmp_path, make_table(4000))
    served = load_ranker(tmp_path)
    values = valid.values[:200].copy()
    values[7] *= 1e6  # somebody far out, by whom a scale taken from the batch would be set
    together = served.predict(values)
    for row in (0, 7, 100):
        alone = served.predict(values[row : row + 1])
        assert all(abs(alone[name][0] - together[name][row]) < 1e-6 * max(1, alone[name][0]) for name in alone)


def test_a_product_in_int8_is_that_of_the_rounded_numbers(tmp_path):
    """One product by hand: inputs 0 … 255 on a scale of 1, weights of two columns on scales of 1 and 2."""
    from onnx import helper, numpy_helper

    matrix = np.zeros((2, 16), np.float32)
    matrix[:, 0], matrix[:, 1] = [63, -10], [126, 6]
    bias = np.arange(16, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])], "one",
        [helper.make_tensor_value_info("x", 1, ["n", 2])], [helper.make_tensor_value_info("y", 1, ["n", 16])],
        [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    _rewrite(model, list(model.graph.node), {"x": (0.0, 255.0)})
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.array([[3.4, 1.0], [300.0, 2.6]], np.float32)})
    # 3.4 → 3, 2.6 → 3, 300 is beyond what was seen → 255
    expected = np.zeros((2, 16)) + bias
    expected[:, :2] += [[3 * 63 - 10, 3 * 126 + 6], [255 * 63 - 30, 255 * 126 + 18]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_graph_that_loads_and_does_not_run_is_told_when_it_is_written(fitted, tmp_path):
    fitted[0].export(tmp_path, graph=True)
    model = onnx.load(tmp_path / GRAPH_FILE)
    # two rows reshaped to three: known only when it is run
    (last,) = [n for n in model.graph.node if "probabilities" in n.output]
    last.output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 3]), "three"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "three"], ["probabilities"]))
    onnx.save(model, tmp_path / GRAPH_FILE)
    with pytest.raises(RecsysError, match=r"served form of the heavy ranker \(shared_bottom\) does not run"):
        GraphRanker.load(tmp_path).try_out()


def test_the_network_of_an_ensemble_is_taken_in_int8_with_all_that_its_branches_read(tmp_path):
    config = EnsembleConfig(
        network=DinConfig(epochs=1, min_steps=0, id_buckets=64, history_length=6),
        trees=LightGbmConfig(rounds=3, min_rows_in_leaf=20), calibration="none",
    )
    ranker = fit_heavy(config, make_table(300), make_table(60, 1), seed=0)
    ranker.export(tmp_path, graph=True)
    quantise(tmp_path, make_table(300))
    table, served = make_table(100, 2), load_ranker(tmp_path)
    one = replace(table, user=np.full_like(table.user, 3), time=np.full_like(table.time, SPAN))
    for rows in (table, one):  # everybody for himself, and a request of one user
        found, expected = (r.predict(rows.values, rows.entities) for r in (served, ranker))
        np.testing.assert_allclose(found["click"], expected["click"], atol=0.05)
    assert products(tmp_path)
