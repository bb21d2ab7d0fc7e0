"""A network and trees as one ranker: the mean of their log-odds in training, in serving and in explanations."""

import numpy as np
import pytest
from pydantic import ValidationError

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.attribution import explain_heavy
from recsys_cli.ranking.ensemble import ranker as ranker_module
from recsys_cli.ranking.ensemble.config import EnsembleConfig
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks.kinds import SharedBottomConfig
from recsys_cli.ranking.registry import load_ranker, restore_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.testing.ranker_tables import make_table

CONFIG = EnsembleConfig(
    network=SharedBottomConfig(hidden=[16], epochs=2, min_steps=0, batch_size=256, learning_rate=5e-3),
    trees=LightGbmConfig(rounds=30, min_rows_in_leaf=20, patience=10),
    trees_share=0.3,
)


@pytest.fixture(scope="module")
def fitted():
    train, valid = make_table(2500), make_table(900, seed=1)
    return fit_heavy(CONFIG, train, valid, seed=3), train, valid


def test_the_score_is_the_weighted_mean_of_the_parts_log_odds(fitted):
    ranker, _, valid = fitted
    mean = 0.7 * ranker.network.logits(valid.values)[0] + 0.3 * ranker.trees.logits(valid.values)[0]
    np.testing.assert_allclose(ranker.logits(valid.values)[0], mean, atol=1e-6)
    click = ranker.calibration["click"].apply(mean[:, ranker.tasks.index("click")])
    np.testing.assert_allclose(ranker.predict(valid.values)["click"], click, atol=1e-6)


def test_its_parts_are_what_each_is_alone(fitted):
    ranker, train, valid = fitted
    alone = fit_heavy(CONFIG.part("network"), train, valid, seed=3)
    np.testing.assert_allclose(ranker.network.logits(valid.values)[0], alone.logits(valid.values)[0], atol=1e-6)
    trees = fit_heavy(CONFIG.part("trees"), train, valid, seed=3)
    np.testing.assert_allclose(ranker.trees.logits(valid.values)[0], trees.logits(valid.values)[0], atol=1e-6)


def test_one_graph_serves_what_was_trained(fitted, tmp_path):
    ranker, _, valid = fitted
    ranker.export(tmp_path)
    served = load_ranker(tmp_path)
    assert (served.kind, served.tasks, served.dwell) == ("ensemble", ranker.tasks, True)
    expected, got = ranker.predict(valid.values), served.predict(valid.values)
    assert expected.keys() == got.keys()
    for task in ranker.tasks:
        np.testing.assert_allclose(got[task], expected[task], atol=2e-5, err_msg=task)
    np.testing.assert_allclose(got["dwell"], expected["dwell"], rtol=1e-4)


def test_a_checkpoint_brings_it_back(fitted, tmp_path):
    ranker, _, valid = fitted
    save_checkpoint(tmp_path / "heavy.pt", ranker.checkpoint())
    content = load_checkpoint(tmp_path / "heavy.pt")
    again = restore_ranker(content)
    for task, p in ranker.predict(valid.values).items():
        np.testing.assert_allclose(again.predict(valid.values)[task], p, rtol=1e-5)
    del content["parts"]
    with pytest.raises(ArtifactError, match="not a checkpoint of a heavy ranker of kind ensemble"):
        restore_ranker(content)


def test_what_its_features_contribute_adds_up_to_its_score(fitted):
    ranker, _, valid = fitted
    told = explain_heavy(ranker, valid.values[4], "click")
    assert told.base + told.contributions.sum() == pytest.approx(told.score, abs=2e-3)
    served = ranker.calibration["click"].curve(np.array([sigmoid(told.score)], np.float32))[0]
    assert served == pytest.approx(told.prediction, abs=1e-5)
    assert "integrated gradients" in told.method and "TreeSHAP" in told.method


def test_an_interrupted_training_goes_on_to_the_same_ranker(fitted, tmp_path, monkeypatch):
    ranker, train, valid = fitted
    trees = ranker_module.fit_trees

    def killed(*given, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(ranker_module, "fit_trees", killed)
    with pytest.raises(KeyboardInterrupt):
        fit_heavy(CONFIG, train, valid, seed=3, resume=tmp_path / "heavy.pt")
    assert (tmp_path / "heavy-network.pt").is_file()
    monkeypatch.setattr(ranker_module, "fit_trees", trees)
    again = fit_heavy(CONFIG, train, valid, seed=3, resume=tmp_path / "heavy.pt")
    np.testing.assert_allclose(again.logits(valid.values)[0], ranker.logits(valid.values)[0], atol=1e-6)


def test_each_part_begins_with_its_own_of_an_earlier_run(fitted):
    ranker, train, valid = fitted
    warm = WarmStart("r", ranker.checkpoint(), None)
    later = fit_heavy(CONFIG, train, valid, seed=3, warm=warm)
    old, new = ranker.trees.models["click"][0], later.trees.models["click"][0]
    assert new.count("\nTree=") > old.count("\nTree=")
    assert later.metrics["click"]["roc_auc"] > ranker.metrics["click"]["roc_auc"] - 0.02


def test_settings_of_the_whole_are_refused_in_a_part():
    with pytest.raises(ValidationError, match="min_positives is for the whole ensemble: set it beside trees"):
        EnsembleConfig(trees={"min_positives": 3})
    with pytest.raises(ValidationError, match="seeds is for the whole ensemble: set it beside network"):
        EnsembleConfig(network={"kind": "dcn_v2", "seeds": 2})
    assert EnsembleConfig(min_positives=3, trees={"rounds": 9}).part("trees").min_positives == 3
