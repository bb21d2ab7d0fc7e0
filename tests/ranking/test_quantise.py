"""The int8 form of a network is smaller, nearly as good, and what it loses is told."""

import numpy as np
import onnx
import pytest
from ranking_tables import KINDS, make_table

from recsys_cli.errors import RecsysError
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.quantise import int8_loss, quantise
from recsys_cli.ranking.serving import GRAPH_FILE, ServedRanker
from recsys_cli.ranking.trainer import fit_heavy


def test_an_int8_graph_is_served_like_the_other_and_loses_what_training_says(fitted, tmp_path):
    ranker, valid = fitted
    ranker.export(tmp_path)
    before = ServedRanker.load(tmp_path).predict(valid.values)
    quantise(tmp_path)
    graph = onnx.load(tmp_path / GRAPH_FILE).graph
    assert any(node.op_type == "MatMulInteger" for node in graph.node)
    served = ServedRanker.load(tmp_path)
    after = served.predict(valid.values)
    assert served.tasks == ranker.tasks and after.keys() == before.keys()
    loss = int8_loss(ranker, valid)
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
@pytest.mark.parametrize("kind", KINDS)
def test_every_network_is_served_in_int8(kind, form, tmp_path):
    settings = {"epochs": 1, "min_steps": 0, "calibration": "none", "id_buckets": 64} | FORMS[form]
    settings |= {"behind": ["like"]} if kind == "esmm" else {}
    if kind in ("din", "transformer"):
        settings["history"] = kind
    if kind == "fm":
        settings.pop("head", None)
    ranker = fit_heavy(KINDS[kind](**settings), make_table(300), make_table(60, 1), seed=0)
    ranker.export(tmp_path)
    valid = make_table(100, 2)
    before = ServedRanker.load(tmp_path).predict(valid.values, valid.entities)
    quantise(tmp_path)
    after = ServedRanker.load(tmp_path).predict(valid.values, valid.entities)
    assert any(node.op_type == "MatMulInteger" for node in onnx.load(tmp_path / GRAPH_FILE).graph.node)
    for task in ranker.tasks:
        np.testing.assert_allclose(after[task], before[task], atol=0.05)
    assert ("dwell" in after) == ranker.dwell


def test_a_graph_that_loads_and_does_not_run_is_told_when_it_is_written(fitted, tmp_path):
    fitted[0].export(tmp_path)
    model = onnx.load(tmp_path / GRAPH_FILE)
    # two rows reshaped to three: known only when it is run
    (last,) = [n for n in model.graph.node if "probabilities" in n.output]
    last.output[0] = "before"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([3, 3]), "three"))
    model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "three"], ["probabilities"]))
    onnx.save(model, tmp_path / GRAPH_FILE)
    with pytest.raises(RecsysError, match=r"served form of the heavy ranker \(shared_bottom\) does not run"):
        ServedRanker.load(tmp_path).try_out()
    with pytest.raises(RecsysError, match="does not run"):
        quantise(tmp_path)
