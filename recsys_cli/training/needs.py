"""How much memory the parts of a training take, known before any of them begins, and which setting makes one fit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from recsys_cli.data.read_log import bytes_of_log
from recsys_cli.pipeline.request_features import request_feature_names
from recsys_cli.ranking.networks.training_rows import PREPARED_VALUES
from recsys_cli.retrieval.base import Window
from recsys_cli.training.impressions import actions_to_learn, features_at_most, windows_of_tables
from recsys_cli.training.memory import MemoryBudget

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.settings import Settings
    from recsys_cli.training.job import TrainingJob

COUNTED, COUNTED_ROWS = 300, 2**22
"""Bytes beside its features of a row that is counted for, and how many are at once."""
HISTORY = 28
"""Bytes of a row of the log, while it is sorted by a key."""
FEWEST_ROWS = 10_000
"""Training rows below which nothing is proposed."""


def require_log(settings: Settings, dataset: Dataset) -> str | None:
    """What to say where the log of a dataset takes more memory than there is, before it is read.

    Raises ConfigError where the settings name a budget that is too small.
    """
    manifest, name = dataset.manifest, "the log"
    need = bytes_of_log(manifest)

    def fits(room: int) -> str | None:
        users = int(manifest.tables["users"].rows * 0.9 * room / need)
        return f"train on a part: `recsys data sample --users {users}`" if users > 1 else None

    return MemoryBudget(settings.memory_gib).check({name: need}, {name: fits})


def require_memory(job: TrainingJob, sources: dict[str, Retriever], log: Log) -> None:
    """Say before anything is fitted where the memory does not suffice for one source, or for the rows of the rankers.

    log: the longest that sources are fitted on. Raises ConfigError where the settings name a budget that is too small.
    """
    window = Window(job.dataset, job.dataset.catalogue, log, int(log.time[-1]) + 1, None)
    learning = {f"source {name}": (name, source) for name, source in sources.items() if source.learns}
    needs = {told: source.memory(window) for told, (_, source) in learning.items()}
    fits: dict[str, Callable[[int], str | None]] = {
        told: partial(_narrower, name, source, window) for told, (name, source) in learning.items()
    }
    name, requests = "what rankers learn from", request_bytes(job, sources)
    needs[name] = requests
    if actions_to_learn(job):
        train, valid = (len(rows) for rows in windows_of_tables(job))
        table = partial(table_bytes, features_at_most(job, sources), valid, len(job.lesson.dataset.log))
        needs[name] += table(train)
        fits[name] = lambda room: _fewer(table, train, room - requests)
    told = job.memory.check(needs, fits)
    if told is not None:
        job.progress.message(told)


def table_bytes(features: int, valid: int, log: int, train: int) -> int:
    """Of the features of so many training and validation rows, while they are made or learned from.

    features: of a row. log: rows that are counted.
    """
    values = 4 * features * (train + valid)
    made = HISTORY * log + COUNTED * min(max(train, valid), COUNTED_ROWS)
    normalised = ((rows, copies) for rows, copies in ((train, 2), (valid, 1)) if features * rows <= PREPARED_VALUES)
    return values + max(made, sum(4 * copies * features * rows for rows, copies in normalised))


def request_bytes(job: TrainingJob, sources: Iterable[str]) -> int:
    """Of the rows of requests, of which those of several moments are joined."""
    relevance, names = job.settings.ranking.relevance, request_feature_names(tuple(sources))
    columns = job.dataset.catalogue
    attributes = [*columns.item_codes, *columns.item_numbers, *columns.user_codes, *columns.user_numbers]
    each = len(names) + len(relevance.features) + (2 * len(attributes) if relevance.attributes else 0)
    return 2 * 4 * each * min(relevance.max_rows, relevance.requests * job.candidates)


def _fewer(table: Callable[[int], int], train: int, room: int) -> str | None:
    """The most training rows whose table takes so many bytes."""
    low, high = 0, train
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if table(middle) <= room else (low, middle)
    rows = low // 1000 * 1000
    return f"set ranking.heavy.max_rows to {rows}" if rows >= FEWEST_ROWS else None


def _narrower(name: str, source: Retriever, window: Window, room: int) -> str:
    """The widest vectors with which a source takes so many bytes, or to do without it."""
    dim = getattr(source.config, "dim", 0)
    while dim >= 2:
        dim //= 2
        narrow = type(source)(source.config.model_copy(update={"dim": dim}))
        if dim and narrow.memory(window) <= room:
            return f"set retrieval.{name}.dim to {dim}, or do without it"
    return f"set retrieval.{name}.enabled to false"
