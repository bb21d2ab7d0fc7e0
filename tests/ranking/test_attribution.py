"""What features contribute adds up to the score that is served."""

import numpy as np
import pytest
from light_rankers import fitted_light

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError, UsageError
from recsys_cli.ranking.attribution import explain_heavy, explain_light
from recsys_cli.ranking.logistic import sigmoid
from recsys_cli.ranking.networks.kinds import SharedBottomConfig
from recsys_cli.ranking.registry import restore_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.testing.ranker_tables import make_table


def adds_up(told, tolerance):
    assert told.base + told.contributions.sum() + told.error == pytest.approx(told.score, abs=1e-9)
    assert abs(told.error) <= tolerance * max(abs(told.score - told.base), 1)


def test_the_light_ranker_is_a_sum_and_a_case_at_the_means_has_nothing_to_explain():
    table = make_table(1500)
    ranker = fitted_light(table, ("number_0", "number_1", "number_2"))
    told = explain_light(ranker, table.values[7, :3])
    adds_up(told, 1e-9)
    assert sigmoid(told.score) == pytest.approx(told.prediction, abs=1e-6)
    z = (table.values[7, 1] - ranker.mean[1]) / ranker.std[1]
    assert told.contributions[1] == pytest.approx(ranker.weights[1] * z, rel=1e-4)
    assert np.abs(explain_light(ranker, np.array(ranker.mean, np.float32)).contributions).max() < 1e-5


@pytest.mark.parametrize("action", ["click", "hide", "dwell"])
def test_a_network_explains_the_probability_that_it_serves(fitted, action):
    ranker, valid = fitted
    for row in (0, 5):
        told = explain_heavy(ranker, valid.values[row], action)
        adds_up(told, 1e-3)
        if action != "dwell":
            corrected = ranker.calibration[action].curve(np.array([sigmoid(told.score)], np.float32))[0]
            assert corrected == pytest.approx(told.prediction, abs=1e-5)


def test_of_a_linear_network_a_contribution_is_weight_times_distance_from_the_mean():
    config = SharedBottomConfig(hidden=[], epochs=2, min_steps=0, calibration="none", clip=1000)
    train = make_table(1000)
    ranker = fit_heavy(config, train, make_table(300, 1), seed=0)
    told = explain_heavy(ranker, train.values[3], "click")
    moved = train.values[3].copy()
    column = train.names.index("number_2")
    moved[column] = ranker.spec.mean[ranker.spec.numeric.index(column)]
    change = ranker.logits(train.values[3:4])[0][0, 0] - ranker.logits(moved[None])[0][0, 0]
    assert told.contributions[column] == pytest.approx(change, abs=1e-4)


def test_features_that_the_label_follows_explain_most():
    train, valid = make_table(4000, features=3), make_table(800, seed=1, features=3)
    told = make_table(4000, features=3).values
    config = SharedBottomConfig(hidden=[16], epochs=6, min_steps=0, batch_size=256, learning_rate=5e-3)
    ranker = fit_heavy(config, train, valid, seed=0)
    truth = np.random.default_rng(0).normal(0, 1, (3, 3))[:, 0]
    parts = np.stack([np.abs(explain_heavy(ranker, told[i], "click").contributions) for i in range(12)]).mean(axis=0)
    assert np.argmax(parts[:3]) == np.argmax(np.abs(truth))


def test_trees_are_explained_exactly_by_what_their_checkpoint_holds(tmp_path):
    config = LightGbmConfig(rounds=25, min_rows_in_leaf=20, patience=10, members=2)
    ranker = fit_heavy(config, make_table(2000), make_table(800, seed=1), seed=1)
    save_checkpoint(tmp_path / "heavy.pt", ranker.checkpoint())
    back = restore_ranker(load_checkpoint(tmp_path / "heavy.pt"))
    values = make_table(50, seed=4).values
    for task, column in ranker.predict(values).items():
        np.testing.assert_array_equal(back.predict(values)[task], column)
    for action in ("click", "like", "dwell"):
        told = explain_heavy(back, values[9], action)
        adds_up(told, 1e-6)
        if action != "dwell":
            corrected = back.calibration[action].curve(np.array([sigmoid(told.score)], np.float32))[0]
            assert corrected == pytest.approx(told.prediction, abs=1e-5)
    with pytest.raises(ArtifactError, match="not a checkpoint of a heavy ranker of kind lightgbm"):
        restore_ranker({k: v for k, v in ranker.checkpoint().items() if k != "models"})


def test_a_head_that_is_not_there_is_refused_with_the_nearest(fitted):
    ranker, valid = fitted
    with pytest.raises(UsageError, match="no head for 'clik'\ndid you mean 'click'"):
        explain_heavy(ranker, valid.values[0], "clik")
