"""Networks of sources on another device: nothing of a step stays behind on the CPU, and what a full GPU leads to.

A GPU is not needed for most of it: torch's tensors without data ("meta") are another device too, and refuse to be mixed
with those of the CPU.
"""

import warnings

import numpy as np
import pytest
import torch
from planted import make_window, planted

from recsys_cli import parallel
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError
from recsys_cli.parallel import train_on, training_device
from recsys_cli.progress import Progress
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.embeddings import two_tower_trainer
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
    monkeypatch.setattr(parallel, "_gpu", lambda: (True, None))
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


class Gpu:
    """In place of a device that is not there."""

    type = "cuda"


@pytest.fixture
def full_gpu(monkeypatch):
    """fit(batch, holds): a source's own fit where the GPU holds batches up to `holds`: (vectors, what was said)."""
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    begin, softmax = TowerTrainer.__init__, two_tower_trainer.sampled_softmax
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, follows=follows)

    def fit(batch, holds=None):
        on_gpu = []

        def beginning(self, *arguments):
            on_gpu[:] = [isinstance(arguments[-1], Gpu)]
            begin(self, *arguments[:-1], torch.device("cpu"))

        def step(users, *others):
            if on_gpu == [True] and len(users) > holds:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return softmax(users, *others)

        monkeypatch.setattr(parallel, "training_device", lambda *_: torch.device("cpu") if holds is None else Gpu())
        monkeypatch.setattr(TowerTrainer, "__init__", beginning)
        monkeypatch.setattr(two_tower_trainer, "sampled_softmax", step)
        told, source = Told(), SOURCES["two_tower"](TwoTowerConfig(dim=8, hidden=8, batch_size=batch, epochs=2))
        source.fit(window, told)
        return source.index.vectors, told.lines

    return fit


def test_a_fit_that_fills_the_gpu_goes_on_with_half_the_batch(full_gpu):
    vectors, told = full_gpu(128, holds=64)
    assert told == ["two towers: the GPU's memory does not suffice, going on with batches of half the size"]
    assert np.array_equal(vectors, full_gpu(64)[0]) and not np.array_equal(vectors, full_gpu(128)[0])


def test_a_fit_that_fills_the_gpu_twice_goes_on_on_the_cpu_with_the_batch_of_the_settings(full_gpu):
    vectors, told = full_gpu(128, holds=16)
    assert [line.rpartition("with ")[2] for line in told] == ["batches of half the size", "the CPU"]
    assert np.array_equal(vectors, full_gpu(128)[0])
    assert full_gpu(128, holds=128)[1] == []


def test_a_driver_that_torch_cannot_use_is_said_and_the_cpu_taken(monkeypatch):
    def old_driver():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\nmore", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    told = Told()
    assert train_on("auto", "two towers", told, lambda device, parts: device.type) == "cpu"
    assert told.lines == [
        "torch cannot use the GPU, networks are trained on the CPU: CUDA initialization: The NVIDIA driver on your "
        "system is too old"
    ]
    with pytest.raises(ConfigError, match="driver on your system is too old"):
        training_device("cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU here works")
def test_a_card_that_cannot_be_used_at_all_is_said_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as with a card that torch was not built for
    told = Told()
    assert training_device("auto", told).type == "cpu" and len(told.lines) == 1
    assert training_device("cpu", told).type == "cpu" and len(told.lines) == 1


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
