"""Trees as a heavy ranker: the served graph says what LightGBM says."""

from dataclasses import replace

import lightgbm
import numpy as np
import pytest

from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees import boosting
from recsys_cli.ranking.trees import ranker as fitting
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.testing.ranker_tables import make_table

QUICK = {"rounds": 40, "min_rows_in_leaf": 20, "patience": 10}


@pytest.fixture(scope="module")
def grown():
    valid = make_table(1500, seed=1)
    return fit_heavy(LightGbmConfig(**QUICK, members=2), make_table(4000), valid, seed=3), valid


def test_the_graph_says_what_lightgbm_says(grown, tmp_path):
    ranker, valid = grown
    ranker.export(tmp_path)
    served = load_ranker(tmp_path)
    assert served.kind == "lightgbm" and served.tasks == ("click", "like", "hide")
    got, logits = served.predict(valid.values), ranker.logits(valid.values)[0]
    for t, task in enumerate(ranker.tasks):
        boosters = [lightgbm.Booster(model_str=text) for text in ranker.models[task]]
        raw = np.mean([b.predict(valid.values, raw_score=True) for b in boosters], axis=0)
        np.testing.assert_allclose(logits[:, t], raw, atol=1e-5)
        correction = ranker.calibration[task]
        expected = correction.curve(sigmoid(correction.scale * raw + correction.shift).astype(np.float32))
        np.testing.assert_allclose(got[task], expected, atol=1e-5)
    np.testing.assert_allclose(got["dwell"], ranker.predict(valid.values)["dwell"], rtol=1e-5)
    assert served.predict(valid.values[:0])["click"].shape == (0,)


def test_values_that_lie_on_a_threshold_go_the_way_lightgbm_sends_them(grown):
    ranker, valid = grown
    booster = lightgbm.Booster(model_str=ranker.models["click"][0])
    splits = [
        (node["split_feature"], node["threshold"])
        for tree in booster.dump_model()["tree_info"]
        for _, node, _, _ in boosting._nodes(tree["tree_structure"])
        if "threshold" in node
    ]
    rows = np.repeat(valid.values[:1], 3 * len(splits), axis=0)
    for i, (feature, threshold) in enumerate(splits):
        near = np.float32(threshold)
        rows[3 * i : 3 * i + 3, feature] = [np.nextafter(near, np.float32(-1e9)), near, np.nextafter(near, 1e9)]
    boosters = [lightgbm.Booster(model_str=text) for text in ranker.models["click"]]
    raw = np.mean([b.predict(rows, raw_score=True) for b in boosters], axis=0)
    np.testing.assert_allclose(ranker.logits(rows)[0][:, 0], raw, atol=1e-5)


def test_they_learn_and_are_measured_like_a_network(grown):
    ranker, valid = grown
    assert ranker.dropped == {"never": "0 positives, 5 needed"}
    assert ranker.metrics["click"]["roc_auc"] > 0.78 and ranker.metrics["click"]["ece"] < 0.06
    assert ranker.metrics["dwell"]["log_correlation"] > 0.5
    assert roc_auc(valid.labels["click"], ranker.predict(valid.values)["click"]) > 0.78


def test_a_tree_without_a_split_is_its_leaf(tmp_path):
    table = make_table(300)
    same = replace(table, values=np.ones_like(table.values))
    config = LightGbmConfig(rounds=3, calibration="none")
    empty = replace(
        same, values=same.values[:0], labels={k: v[:0] for k, v in same.labels.items()}, dwell=same.dwell[:0],
        user=same.user[:0], item=same.item[:0], time=same.time[:0],
    )
    ranker = fit_heavy(config, same, empty, seed=0)
    assert ranker.predict(same.values)["click"] == pytest.approx(np.full(300, table.labels["click"].mean()), abs=1e-4)


def test_an_interrupted_training_goes_on_with_the_models_it_has(tmp_path, monkeypatch):
    train, valid, path = make_table(800), make_table(300, 1), tmp_path / "heavy.pt"
    whole = fit_heavy(LightGbmConfig(**QUICK), train, valid, seed=2)
    real, fitted = fitting.fit_action, []

    def killed(*arguments):
        if len(fitted) == 2:
            raise KeyboardInterrupt
        fitted.append(1)
        return real(*arguments)

    monkeypatch.setattr(fitting, "fit_action", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_heavy(LightGbmConfig(**QUICK), train, valid, seed=2, resume=path)
    fitted.clear()
    monkeypatch.setattr(fitting, "fit_action", lambda *a: (fitted.append(1), real(*a))[1])
    resumed = fit_heavy(LightGbmConfig(**QUICK), train, valid, seed=2, resume=path)
    assert len(fitted) == 2
    assert resumed.models == whole.models


def test_an_action_gets_the_trees_that_it_gets_alone():
    train, valid = make_table(1500), make_table(400, seed=1)
    config = LightGbmConfig(rounds=20, min_rows_in_leaf=20, dwell=False)
    together = fit_heavy(config, train, valid, seed=2)
    for action in together.tasks:
        alone = fit_heavy(config, *(replace(t, labels={action: t.labels[action]}) for t in (train, valid)), seed=2)
        assert alone.models[action] == together.models[action]
