"""A head that gives every row one probability stops training with the reason; one that is merely rare does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recsys_cli.errors import RecsysError
from recsys_cli.ranking.constant_heads import STEPS, ConstantHeadWatch, constant_heads
from recsys_cli.ranking.networks import training_loop
from recsys_cli.ranking.networks.kinds import NETWORKS, SharedBottomConfig
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table

# steps so long, without batch normalisation, that every unit dies
DEADLY = {"hidden": [32, 16], "min_steps": 0, "learning_rate": 3.0, "batch_norm": False, "average": False}


@pytest.fixture
def epochs(monkeypatch):
    """Epochs that were begun."""
    begun, real = [], training_loop.TrainingLoop._train_epoch

    def counted(self, member, *rest):
        begun.append(member.epoch)
        return real(self, member, *rest)

    monkeypatch.setattr(training_loop.TrainingLoop, "_train_epoch", counted)
    return begun


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_dead_units_stop_training_in_the_epoch_in_which_they_die(epochs, precision, tmp_path):
    config = SharedBottomConfig(**DEADLY, epochs=30, batch_size=256, patience=30, precision=precision)
    with pytest.raises(RecsysError, match=r"collapsed in epoch \d+: every row gets click [01]\.\d+ \(of the") as error:
        fit_heavy(config, make_table(2000), make_table(300, 1), seed=0, resume=tmp_path / "heavy.pt")
    assert len(epochs) < 5 and f"in epoch {epochs[-1]}:" in error.value.message
    assert "lower ranking.heavy.learning_rate (3)" in error.value.hint and error.value.exit_code == 1


def test_a_long_epoch_is_not_waited_for(epochs, monkeypatch):
    monkeypatch.setattr(training_loop.TrainingLoop, "_validate", lambda *a: pytest.fail("the epoch went on to its end"))
    config = SharedBottomConfig(**DEADLY, epochs=1, batch_size=20)
    with pytest.raises(RecsysError, match="collapsed in epoch 1: every row gets click"):
        fit_heavy(config, make_table(6000), make_table(300, 1), seed=0)


def test_it_is_noticed_without_validation_rows(epochs):
    table = make_table(2000)
    with pytest.raises(RecsysError, match="collapsed in epoch"):
        fit_heavy(SharedBottomConfig(**DEADLY, epochs=30, batch_size=256), table, table.take(slice(0, 0)), seed=0)
    assert len(epochs) < 5


def test_one_dead_head_is_named_and_the_living_are_not(monkeypatch):
    real = training_loop.TrainingLoop._network

    def deaf(self, number):  # the head of "hide" reads nothing, and no gradient comes back to what it does not read
        network = real(self, number)
        network.heads.hidden[1].data[2] = -1e6
        return network

    monkeypatch.setattr(training_loop.TrainingLoop, "_network", deaf)
    config = SharedBottomConfig(hidden=[16], head=8, epochs=3, min_steps=0, batch_size=256)
    with pytest.raises(RecsysError, match=r"collapsed in epoch 1: every row gets hide 0\.\d+ \(of the") as error:
        fit_heavy(config, make_table(1500), make_table(300, 1), seed=0)
    assert "click" not in error.value.message


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_rare_head_is_no_collapse(kind, precision):
    train, valid = make_table(800), make_table(200, 1)
    rare = np.zeros(800, bool)
    rare[::160] = True
    train, valid = (
        replace(t, labels={"click": t.labels["click"], "rare": r}) for t, r in ((train, rare), (valid, rare[:200]))
    )
    config = NETWORKS[kind](
        epochs=1, min_steps=0, batch_size=8, precision=precision, id_buckets=64, history_length=4,
        **({"behind": ["rare"]} if kind == "esmm" else {}),
    )
    assert "rare" in fit_heavy(config, train, valid, seed=0).tasks  # a hundred batches, each of which could be flat


def test_rows_that_are_all_alike_are_no_collapse():
    train, valid = make_table(300), make_table(60, 1)
    train.values[:], valid.values[:] = train.values[0], train.values[0]
    config = SharedBottomConfig(epochs=2, min_steps=0, dropout=0)
    assert fit_heavy(config, train, valid, seed=0).tasks == ("click", "like", "hide")


def test_a_probability_that_is_sure_of_everything_is_flat_though_its_logits_differ():
    logits = np.column_stack([np.linspace(40, 900, 10), np.linspace(-8, -7, 10), np.full(10, 0.3)]).astype(np.float32)
    assert constant_heads(logits).tolist() == [True, False, True]


def test_only_batch_after_batch_makes_suspicious():
    still, moving = torch.zeros(8, 2), torch.stack([torch.zeros(8), torch.arange(8.0)], dim=1)
    watch = ConstantHeadWatch(2, torch.device("cpu"))
    assert [watch.see(still) for _ in range(STEPS - 1)] == [[]] * (STEPS - 1)
    assert watch.see(moving) == [0]
    assert [watch.see(still) for _ in range(STEPS)][-1] == [0, 1]
    watch.see(moving)
    assert [watch.see(still) for _ in range(STEPS - 1)][-1] == [0]
