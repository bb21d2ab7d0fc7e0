"""The heavy ranker learns what there is to learn, the same way every time, and says what it cannot."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError, DataError, RecsysError
from recsys_cli.metrics import roc_auc
from recsys_cli.progress import Progress
from recsys_cli.ranking.networks import training_loop
from recsys_cli.ranking.networks.kinds import NETWORKS, SharedBottomConfig
from recsys_cli.ranking.networks.network import HeavyNetwork, InputSpec
from recsys_cli.ranking.networks.training_rows import input_spec
from recsys_cli.ranking.registry import restore_ranker
from recsys_cli.ranking.serving.side_inputs import SideSpec
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table

SMALL = {"hidden": [32, 16], "epochs": 4, "min_steps": 0, "batch_size": 256, "learning_rate": 5e-3}
STAGES = {"esmm": {"behind": ["like"]}}
"""Settings without which a kind cannot learn from the tables of these tests."""
SMALL_HISTORY = {"id_buckets": 64, "history_length": 8, "history_dim": 16, "id_dim": 8}
CAPACITY = {
    "fm": {"ids": ["user", "item"], "dim": 32, "id_buckets": 512, "min_steps": 700}, "ncf": {"id_buckets": 64},
    "din": SMALL_HISTORY, "transformer": SMALL_HISTORY,
}
"""Settings with which a kind has enough weights to learn 200 rows by heart, and no more than it needs."""


class Said(Progress):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def weights_of(ranker):
    return {k: v.numpy() for k, v in ranker.network.state_dict().items()}


def same_weights(a, b):
    a, b = weights_of(a), weights_of(b)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_network_overfits_200_rows(kind):
    table = make_table(200)
    plain = {
        "epochs": 150, "min_steps": 0, "batch_size": 100, "dropout": 0, "weight_decay": 0, "embedding_l2": 0,
        "learning_rate": 1e-2, "average": False, "patience": 150, "calibration": "none", "id_l2": 0,
    }
    config = NETWORKS[kind](**plain | STAGES.get(kind, {}) | CAPACITY.get(kind, {}))
    empty = replace(
        table, values=table.values[:0], labels={k: v[:0] for k, v in table.labels.items()}, dwell=table.dwell[:0],
        user=table.user[:0], item=table.item[:0], time=table.time[:0],
    )
    ranker = fit_heavy(config, table, empty, seed=0)
    predicted = ranker.predict(table.values, table.entities)
    for task in ("click", "like", "hide"):
        assert roc_auc(table.labels[task], predicted[task]) > 0.99, task
    known = np.isfinite(table.dwell)
    assert np.corrcoef(np.log1p(predicted["dwell"][known]), np.log1p(table.dwell[known]))[0, 1] > 0.97


@pytest.mark.parametrize("kind", NETWORKS)
def test_gradients_of_each_network_are_those_of_finite_differences(kind):
    torch.manual_seed(3)
    small = {"dropout": 0, "embedding_dim": 2, "id_dim": 4, "id_buckets": 30, "history_dim": 4, "history_length": 5}
    small |= {"dim": 3} if kind == "fm" else {"hidden": [5, 3], "head": 2}
    config, table = NETWORKS[kind](**small), make_table(6)
    length = 0 if config.history == "none" else config.history_length
    side = SideSpec.create(tuple(config.ids), length, table.behaviour) if config.ids or length else None
    behind = [-1, 0] if kind == "esmm" else []
    spec = InputSpec([0, 1, 2], [False, False, True], [0.0] * 3, [1.0] * 3, [3], [4], side, behind)
    network = HeavyNetwork(config, spec, 2, True).double().train()
    with torch.no_grad():  # away from units whose input is exactly zero, where slopes differ from side to side
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    sides = None
    if side is not None:
        sides = {name: torch.from_numpy(a) for name, a in side.arrays(table.entities).items()}
        sides |= {"history_facts": sides["history_facts"].double()} if length else {}
    numbers, codes = torch.randn(6, 3, dtype=torch.float64), torch.randint(0, 4, (6, 1))

    def loss() -> torch.Tensor:
        logits, mean, log_variance, _ = network.raw(numbers, codes, sides)
        return (torch.sigmoid(logits).square().sum() + (mean * 0.3).sin().sum() + log_variance.tanh().sum()).sum()

    network.zero_grad()
    loss().backward()
    rng, compared = np.random.default_rng(0), 0
    for name, parameter in network.named_parameters():
        at = int(rng.integers(parameter.numel()))
        flat, step, kept = parameter.data.view(-1), 1e-6, parameter.data.view(-1)[at].item()
        found = []
        for value in (kept + step, kept - step):
            flat[at] = value
            found.append(loss().item())
        flat[at] = kept
        assert float(parameter.grad.view(-1)[at]) == pytest.approx((found[0] - found[1]) / 2e-6, abs=2e-5), name
        compared += 1
    assert compared > 5


def test_it_ranks_unseen_rows_nearly_as_well_as_the_truth(fitted):
    ranker, valid = fitted
    assert ranker.tasks == ("click", "like", "hide")
    assert ranker.metrics["click"]["roc_auc"] > 0.8
    assert ranker.metrics["click"]["rce"] > 20
    assert ranker.metrics["click"]["ece"] < 0.05
    assert ranker.metrics["dwell"]["log_correlation"] > 0.5
    dwell = ranker.metrics["dwell"]
    assert dwell["mean_predicted"] == pytest.approx(dwell["mean_observed"], rel=0.15)
    dwell = ranker.predict(valid.values)["dwell"]
    assert dwell.min() >= 0
    assert dwell.max() <= ranker.network.dwell_max


def test_an_action_without_positives_has_no_head_and_this_is_said_once():
    said = Said()
    ranker = fit_heavy(SharedBottomConfig(**SMALL), make_table(), make_table(300, 1), seed=0, progress=said)
    assert "never" not in ranker.tasks
    assert "never" not in ranker.predict(make_table(5).values)
    assert ranker.dropped == {"never": "0 positives, 5 needed"}
    assert [line for line in said.lines if "never" in line] == ["no head for never (0 positives, 5 needed)"]


def test_nothing_to_learn_is_refused_with_each_reason():
    table = make_table(100)
    table = replace(table, labels={"never": np.zeros(100, bool), "always": np.ones(100, bool)})
    with pytest.raises(DataError, match=r"never: 0 positives.*always: every row has it"):
        fit_heavy(SharedBottomConfig(**SMALL), table, table, seed=0)


def test_where_there_are_only_positives_the_other_side_is_asked_for():
    table = make_table(200)
    table = replace(table, labels={"click": np.ones(200, bool), "never": np.zeros(200, bool)})
    with pytest.raises(DataError, match="every row has it") as caught:
        fit_heavy(SharedBottomConfig(**SMALL), table, table, seed=0)
    assert "not taken" in caught.value.hint and "min_positives" not in caught.value.hint


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_with_column_and_count(bad):
    table = make_table(100)
    table.values[[3, 8], 2] = bad
    with pytest.raises(DataError, match=r"'number_2' holds 2 values .* first in row 3"):
        fit_heavy(SharedBottomConfig(**SMALL), table, make_table(50, 1), seed=0)
    with pytest.raises(DataError, match="'number_2'"):
        fit_heavy(SharedBottomConfig(**SMALL), make_table(50, 1), table, seed=0)


def test_the_same_seed_gives_the_same_weights_and_another_seed_gives_others():
    config = SharedBottomConfig(**SMALL)
    first, again, other = (fit_heavy(config, make_table(), make_table(300, 1), seed=s) for s in (5, 5, 6))
    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_the_number_of_threads_changes_neither_the_weights_nor_what_torch_uses_afterwards():
    config, before = SharedBottomConfig(**SMALL), torch.get_num_threads()
    one, four = (fit_heavy(config, make_table(), make_table(300, 1), seed=5, threads=t) for t in (1, 4))
    assert same_weights(one, four)
    assert torch.get_num_threads() == before


def test_training_leaves_the_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    fit_heavy(SharedBottomConfig(**SMALL), make_table(500), make_table(300, 1), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("members", [1, 2])
def test_a_killed_training_resumes_and_ends_with_the_same_weights(tmp_path, monkeypatch, members):
    config = SharedBottomConfig(**SMALL, members=members, patience=4)
    train, valid = make_table(), make_table(300, 1)
    whole = fit_heavy(config, train, valid, seed=2)
    epochs = []
    real = training_loop.TrainingLoop._train_epoch

    def killed(self, *arguments):
        if len(epochs) == 2 + 4 * (members - 1):
            raise KeyboardInterrupt
        epochs.append(1)
        return real(self, *arguments)

    monkeypatch.setattr(training_loop.TrainingLoop, "_train_epoch", killed)
    path = tmp_path / "heavy.pt"
    with pytest.raises(KeyboardInterrupt):
        fit_heavy(config, train, valid, seed=2, resume=path)
    ran = []
    monkeypatch.setattr(training_loop.TrainingLoop, "_train_epoch", lambda self, *a: (ran.append(1), real(self, *a))[1])
    resumed = fit_heavy(config, train, valid, seed=2, resume=path)
    assert len(ran) == 2
    assert same_weights(whole, resumed)
    assert [h["loss"] for h in resumed.history] == [h["loss"] for h in whole.history]
    assert {k: v for k, v in resumed.metrics.items() if k != "training"} == {
        k: v for k, v in whole.metrics.items() if k != "training"
    }


def test_a_checkpoint_of_another_training_or_of_none_is_not_continued(tmp_path):
    path, said = tmp_path / "heavy.pt", Said()
    config, train, valid = SharedBottomConfig(**SMALL), make_table(500), make_table(300, 1)
    fit_heavy(config, train, valid, seed=2, resume=path)
    fresh = fit_heavy(config, train, valid, seed=3)
    assert same_weights(fresh, fit_heavy(config, train, valid, seed=3, resume=path, progress=said))
    assert any("have changed" in line for line in said.lines)
    path.write_bytes(b"garbage")
    assert same_weights(fresh, fit_heavy(config, train, valid, seed=3, resume=path, progress=said))
    assert any("not a checkpoint" in line for line in said.lines)


def test_training_stops_when_validation_no_longer_improves():
    train, valid = make_table(300), make_table(300, 1)
    shuffled = replace(valid, labels={k: np.random.default_rng(0).permutation(v) for k, v in valid.labels.items()})
    ranker = fit_heavy(SharedBottomConfig(**SMALL | {"epochs": 40}, patience=2), train, shuffled, seed=0)
    best = max(ranker.history, key=lambda h: h["metric"])
    assert len(ranker.history) < 40
    assert len(ranker.history) - ranker.metrics["training"]["best_epoch"] == 2
    assert ranker.metrics["training"]["best_epoch"] == [h["epoch"] for h in ranker.history if h["best"]][-1]
    assert best["metric"] - ranker.history[ranker.metrics["training"]["best_epoch"] - 1]["metric"] < 1e-3


def test_small_tables_are_passed_over_until_enough_steps_are_made():
    config = SharedBottomConfig(**SMALL | {"min_steps": 21}, patience=100)
    ranker = fit_heavy(config, make_table(1000), make_table(300, 1), seed=0)
    assert len(ranker.history) == 6  # four steps an epoch


def test_a_loss_that_is_no_number_stops_training_with_the_reason():
    config = SharedBottomConfig(**SMALL, batch_norm=False, average=False)
    config = config.model_copy(update={"learning_rate": 1e12, "clip_norm": 1e12})  # beyond what settings may say
    with pytest.raises(RecsysError, match=r"not numbers|loss is"):
        fit_heavy(config, make_table(1000), make_table(300, 1), seed=0)


def test_a_constant_feature_is_harmless():
    train, valid = make_table(500), make_table(300, 1)
    train.values[:, 0], valid.values[:, 0] = 7.0, 7.0
    assert np.isfinite(fit_heavy(SharedBottomConfig(**SMALL), train, valid, seed=0).metrics["click"]["log_loss"])


def test_normalisation_uses_the_moments_of_the_training_rows_and_tames_long_tails():
    table = make_table(3000)
    table.values[:, 0] = np.random.default_rng(0).pareto(0.8, 3000)
    spec = input_spec(table)
    # compressed columns come last
    assert spec.numeric[-1] == 0 and spec.logged[-1] and not any(spec.logged[:-1])
    assert spec.mean[-1] == pytest.approx(np.log1p(table.values[:, 0].astype(np.float64)).mean(), rel=1e-5)
    third = spec.numeric.index(3)
    assert spec.mean[third] == pytest.approx(table.values[:, 3].astype(np.float64).mean(), rel=1e-5)


def test_an_unknown_category_counts_as_code_0(fitted):
    ranker, valid = fitted
    rows = valid.values[:1].repeat(4, axis=0)
    rows[:, -1] = [0, 8, 1e6, -3]
    click = ranker.predict(rows)["click"]
    assert np.all(click == click[0])


def test_sample_weights_count_rows_as_often_as_they_say():
    table, valid = make_table(600), make_table(300, 1)
    nothing = np.zeros(600, np.float32)
    nothing[:300] = 1
    noisy = {k: np.where(nothing > 0, v, ~v) for k, v in table.labels.items()}
    config = SharedBottomConfig(**SMALL | {"epochs": 15}, patience=15)
    table = replace(table, labels=noisy)
    weighed = fit_heavy(config, replace(table, weight=nothing), valid, seed=0).metrics["click"]["roc_auc"]
    assert weighed > fit_heavy(config, table, valid, seed=0).metrics["click"]["roc_auc"] + 0.05


def test_a_checkpoint_restores_the_same_ranker(fitted, tmp_path):
    ranker, valid = fitted
    save_checkpoint(tmp_path / "heavy.pt", ranker.checkpoint())
    back = restore_ranker(load_checkpoint(tmp_path / "heavy.pt"))
    assert (back.names, back.tasks, back.calibration, back.metrics) == (
        ranker.names, ranker.tasks, ranker.calibration, ranker.metrics,
    )
    for task, values in ranker.predict(valid.values).items():
        assert np.array_equal(values, back.predict(valid.values)[task])


def test_the_checkpoint_of_something_else_is_refused(fitted):
    with pytest.raises(ArtifactError, match="not a checkpoint of a heavy ranker"):
        restore_ranker({"weights": torch.zeros(3)})
    content = fitted[0].checkpoint()
    with pytest.raises(ArtifactError, match="heavy ranker"):
        restore_ranker(content | {"tasks": ["click"]})
    with pytest.raises(ArtifactError, match="version 0"):
        restore_ranker(content | {"ranker_version": 0})
