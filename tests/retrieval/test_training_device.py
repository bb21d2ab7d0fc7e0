"""Networks of sources on another device: nothing of a step stays behind on the CPU, and what a full GPU leads to.

A GPU is not needed for most of it: torch's tensors without data ("meta") are another device too, and refuse to be mixed
with those of the CPU.
"""

import numpy as np
import pytest
import torch
from planted import make_window, planted

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError
from recsys_cli.parallel import train_on, training_device
from recsys_cli.progress import Progress
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.embeddings.sampled_softmax import Table, sampled_softmax
from recsys_cli.retrieval.embeddings.two_tower_config import TwoTowerConfig
from recsys_cli.retrieval.embeddings.two_tower_trainer import Examples, TowerTrainer
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.retrieval.sequential.networks.trainer import Sequences, SequenceTrainer

ELSEWHERE = torch.device("meta")


class Told(Progress):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def towers(window, config, device):
    """A trainer of the towers, as the source makes it."""
    users, items, times = window.interactions
    catalogue = window.catalogue
    item_tokens, user_tokens = Tokens.of_items(catalogue, 100), Tokens.of_users(catalogue)
    return TowerTrainer(
        config, 1, Examples.of(users, items, times, config.history), item_tokens.item_bags(catalogue),
        np.arange(catalogue.n_items) + 1, user_tokens.user_bags(catalogue), np.arange(catalogue.n_users) + 1,
        item_tokens.rows, user_tokens.rows, np.arange(catalogue.n_items), device,
    )


def test_a_step_of_the_towers_has_everything_on_its_device():
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, follows=follows)
    trainer = towers(window, TwoTowerConfig(dim=8, hidden=8, batch_size=64, uniform_negatives=8), ELSEWHERE)
    trainer.train_rows = trainer.train_rows[:64]
    trainer._train_epoch()
    assert trainer.step == 1 and trainer.model.item_id.weight.device == ELSEWHERE
    assert trainer.model.item_in.weight.grad.device == ELSEWHERE


def test_what_the_embeddings_share_stays_on_the_device_of_the_table():
    table = Table(20, 4, 0.1).to(ELSEWHERE)
    values, place = table.take(np.array([3, 5, 3, 7]))
    users, candidates = values[place[:2]], values[place]
    loss = sampled_softmax(users, candidates, np.array([3, 5, 3, 7]), torch.zeros(4, device=ELSEWHERE), 0.1)
    loss.backward()
    table.update(0.1, 1)
    assert loss.device == ELSEWHERE and table.mean.device == ELSEWHERE


@pytest.mark.parametrize("kind", ["sasrec", "bert4rec", "gru4rec"])
def test_an_encoded_batch_has_everything_on_its_device(kind):
    config = SOURCES[kind].config_type(dim=8, history=6)
    tokens = Ragged.group(np.array([0, 0, 0, 1, 1]), np.array([1, 2, 3, 2, 4], np.int32), 2)
    data = Sequences.of(tokens, np.arange(5) * 10**6, np.array([1, 2, 1, 2, 1], np.uint32), 2, config)
    trainer = SequenceTrainer(config, 1, data, ELSEWHERE)
    trainer.model.train()
    lengths = np.array([2, 1])
    *rows, place, _ = trainer._rows(np.array([0, 3]), lengths, np.random.default_rng(0))
    hidden = trainer.model(*rows, torch.from_numpy(lengths).to(ELSEWHERE)).flatten(0, 1)[place]
    hidden.sum().backward()
    assert hidden.shape == (3, 8) and hidden.device == ELSEWHERE


def test_device_cuda_is_refused_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no GPU") as error:
        training_device("cuda")
    assert "auto or cpu" in str(error.value.hint)
    assert training_device("auto").type == "cpu"


@pytest.mark.parametrize(("failures", "tried"), [(0, [("cuda", 1)]), (1, [("cuda", 1), ("cuda", 2)]), (
    2, [("cuda", 1), ("cuda", 2), ("cpu", 1)],
)])
def test_a_full_gpu_is_tried_with_half_the_batch_and_then_left(monkeypatch, failures, tried):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    seen, told = [], Told()

    def train(device, parts):
        seen.append((device.type, parts))
        if len(seen) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "made"

    assert train_on("auto", "two towers", told, train) == "made"
    assert seen == tried and len(told.lines) == failures
    assert all(line.startswith("two towers: the GPU's memory does not suffice") for line in told.lines)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU that it can use")
@pytest.mark.parametrize("kind", ["two_tower", "twhin", "lightgcn", "sasrec", "bert4rec", "gru4rec"])
def test_a_source_finds_as_much_whether_trained_on_a_gpu_or_not(kind):
    import dataclasses

    catalogue, log, follows = planted()
    window = make_window(catalogue, log, follows=follows)
    users = np.arange(catalogue.n_users, dtype=np.int32)
    had = Ragged.group(log.user, log.item, catalogue.n_users).sorted_rows()
    found = {}
    for device in ("cpu", "cuda"):
        source = SOURCES[kind](SOURCES[kind].config_type(dim=32, epochs=8, exclude_seen=False))
        source.fit(dataclasses.replace(window, device=device), Progress())
        items, _ = source.retrieve(window.state, users, 20)
        found[device] = had.contains(users, items).mean()
    assert found["cuda"] == pytest.approx(found["cpu"], abs=0.05)
