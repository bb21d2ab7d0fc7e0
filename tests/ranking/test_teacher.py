"""A network that learns from trees as well as from the labels."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from recsys_cli.progress import Progress
from recsys_cli.ranking.heavy_config import with_common
from recsys_cli.ranking.networks import ranker as fitting
from recsys_cli.ranking.networks.kinds import DcnConfig, SharedBottomConfig
from recsys_cli.ranking.networks.training_loop import TrainingLoop
from recsys_cli.ranking.networks.training_rows import input_spec, training_rows
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.testing.ranker_tables import make_table

TREES = LightGbmConfig(rounds=30, min_rows_in_leaf=20, patience=10)
SMALL = {"hidden": [16], "epochs": 4, "min_steps": 0, "batch_size": 128, "learning_rate": 5e-3}


def taught(**settings) -> SharedBottomConfig:
    return SharedBottomConfig(**SMALL, teacher=TREES, **settings)


def test_a_row_teaches_its_label_and_what_the_teacher_says_by_their_shares():
    table = make_table(4)
    says = np.tile(np.array([0.5, 0.25], np.float32), (4, 1))
    rows = training_rows(
        taught(teacher_share=0.8), input_spec(table), table, ("click", "like"), False, torch.device("cpu"), Progress(),
        says,
    )
    click, like = (table.labels[a].astype(float) for a in ("click", "like"))
    np.testing.assert_allclose(rows.taught, np.column_stack([0.2 * click + 0.4, 0.2 * like + 0.2]), atol=1e-6)
    np.testing.assert_array_equal(rows.labels, np.column_stack([click, like]))


def test_the_network_comes_closer_to_its_teacher_than_to_the_labels_alone():
    train, valid = make_table(2500), make_table(900, seed=1)
    trees = fit_heavy(with_common(TREES, taught(), dwell=False), train, valid, seed=3).logits(valid.values)[0]
    distance = {}
    for name, config in (("alone", SharedBottomConfig(**SMALL)), ("taught", taught(teacher_share=1.0))):
        logits = fit_heavy(config, train, valid, seed=3).logits(valid.values)[0]
        distance[name] = np.abs(logits - trees).mean()
    assert distance["taught"] < 0.9 * distance["alone"]


def test_an_interrupted_training_does_not_ask_for_the_teacher_twice(tmp_path, monkeypatch):
    train, valid = make_table(1000), make_table(300, seed=1)
    whole = fit_heavy(taught(), train, valid, seed=3).logits(valid.values)[0]
    save, place = TrainingLoop._save, tmp_path / "heavy.pt"

    def interrupt(self, member):
        save(self, member)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_save", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit_heavy(taught(), train, valid, seed=3, resume=place)
    fitted = []
    monkeypatch.setattr("recsys_cli.ranking.trees.ranker.fit_action", lambda *given: fitted.append(given))
    again = fit_heavy(taught(), train, valid, seed=3, resume=place)
    assert not fitted
    np.testing.assert_array_equal(again.logits(valid.values)[0], whole)


def test_the_teacher_learns_the_actions_of_the_network_and_not_dwell(monkeypatch):
    asked = {}

    def fit_trees(config, inputs):
        asked.update(config=config, tasks=inputs.tasks)
        return real(config, inputs)

    real = fitting.fit_trees
    monkeypatch.setattr(fitting, "fit_trees", fit_trees)
    config = taught(task_weights={"like": 0})
    ranker = fit_heavy(config, make_table(800), make_table(200, seed=1), seed=0)
    assert asked["tasks"] == ranker.tasks and "like" not in asked["tasks"]
    assert not asked["config"].dwell and asked["config"].rounds == TREES.rounds


@pytest.mark.parametrize(("settings", "told"), [
    ({"teacher": {"min_positives": 9}}, "min_positives is for the network"),
    ({"teacher": {}, "loss": "focal"}, "loss: bce"),
    ({"teacher": {}, "position_bias": "tower"}, "position_bias: none"),
])
def test_what_a_teacher_cannot_be_told_is_refused(settings, told):
    with pytest.raises(ValidationError, match=told):
        DcnConfig.model_validate(settings)
