"""Interactions of public data split into what may be learned from and what is to be found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from recsys_cli.benchmark.suite_config import Adjacency, LastRows, ListTaskSettings, RandomRows, Sequences, Table
from recsys_cli.benchmark.tasks import read_lists, read_pairs
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Interactions in the order in which they happened to each user."""

    users: np.ndarray
    """str[n]"""
    items: np.ndarray
    """str[n]"""
    times: np.ndarray | None = None
    """int64[n] seconds since 1970, where they are known"""

    def take(self, rows: np.ndarray) -> Rows:
        return Rows(self.users[rows], self.items[rows], None if self.times is None else self.times[rows])


@dataclass(frozen=True)
class ListTask:
    """What may be learned from, and what is to be found for whom.

    Users and items have positions in the sorted ids of the rows to learn from; items that only stand in what is to be
    found come behind them.
    """

    train: Rows
    ordered: bool
    """whether the rows of a user are in order"""
    user_ids: np.ndarray
    """str[n] ascending"""
    item_ids: np.ndarray
    """str[m] ascending"""
    users: np.ndarray
    """int32[U] who has a history and something new to find, ascending"""
    wanted: Ragged
    """int32 items by row of `users`, ascending, each once"""
    follows: tuple[tuple[str, str], ...] = ()

    @cached_property
    def user(self) -> np.ndarray:
        """int32[n] of the rows to learn from"""
        return np.searchsorted(self.user_ids, self.train.users).astype(np.int32)

    @cached_property
    def item(self) -> np.ndarray:
        """int32[n] of the rows to learn from"""
        return np.searchsorted(self.item_ids, self.train.items).astype(np.int32)

    @cached_property
    def seen(self) -> Ragged:
        """Items that each user has a row with, ascending"""
        return Ragged.group(self.user, self.item, len(self.user_ids)).sorted_rows()

    @property
    def counts(self) -> dict[str, int]:
        return {
            "users": len(self.user_ids), "items": len(self.item_ids), "rows_to_learn_from": len(self.user),
            "test_users": len(self.users), "to_find": len(self.wanted.values),
        }

    def unseen(self, items: np.ndarray, k: int) -> np.ndarray:
        """int32[U, k]: the first k of each list of `users` that the user has no row with, -1 filling.

        items: int32[U, j] positions, -1 in empty places.
        """
        keep = (items >= 0) & ~self.seen.contains(self.users, items)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
        out = np.where(np.take_along_axis(keep, order, 1), np.take_along_axis(items, order, 1), -1)
        return np.pad(out, ((0, 0), (0, k - out.shape[1])), constant_values=-1).astype(np.int32)


def list_task(settings: ListTaskSettings, folder: Path) -> ListTask:
    """Read and split the files; raises DataError naming what is missing or of another form."""
    data, split = settings.data, settings.split
    if isinstance(data, Adjacency):
        train, test = (Rows(*(side.astype(str) for side in read_pairs(folder / f))) for f in (data.train, data.test))
    else:
        rows = read_sequences(data, folder) if isinstance(data, Sequences) else read_table(data, folder)
        hidden = hidden_rows(split, rows)
        train, test = rows.take(~hidden), rows.take(hidden)
    ordered = split.kind in ("last_share", "last_rows")
    follows = ()
    if isinstance(data, Table) and data.follows:
        lines = _lines(folder / data.follows)[1:]
        follows = tuple(tuple(line.split(data.separator)[:2]) for line in lines if line.strip())
    return build_task(train, test, ordered, follows)


def build_task(train: Rows, test: Rows, ordered: bool, follows: tuple = ()) -> ListTask:
    """The task of finding the rows of `test` for people who stand in `train`; raises DataError where nothing is."""
    user_ids, item_ids = np.unique(train.users), np.unique(train.items)
    known = np.isin(test.users, user_ids)
    test = test.take(known)
    user = np.searchsorted(user_ids, test.users)
    unknown = np.setdiff1d(test.items, item_ids)
    every = np.concatenate([item_ids, unknown])
    order = np.argsort(every, kind="stable")
    item = order[np.searchsorted(every[order], test.items)].astype(np.int32)
    bare = ListTask(train, ordered, user_ids, item_ids, np.zeros(0, np.int32), Ragged.empty(0), follows)
    new = ~bare.seen.contains(user, item[:, None])[:, 0] if len(user) else np.zeros(0, bool)
    users, place = np.unique(user[new], return_inverse=True)
    if not len(users):
        raise DataError("the split leaves nobody who has both a history and something to find", "check the files")
    wanted = Ragged.group(place, item[new], len(users)).sorted_rows()
    return ListTask(train, ordered, user_ids, item_ids, users.astype(np.int32), wanted, follows)


def read_table(data: Table, folder: Path) -> Rows:
    """Rows of a table; with a time ordered by user and time, else as they stand."""
    path = folder / data.file
    lines = _lines(path)
    header = [name.split(":")[0] for name in lines[0].split(data.separator)]
    wanted = [name for name in (data.user, data.item, data.time, data.rating) if name]
    for name in wanted:
        if name not in header:
            raise DataError(f"{path} line 1: no column {name!r}", f"it has {', '.join(header)}")
    at = [header.index(name) for name in wanted]
    rows = [line.split(data.separator) for line in lines[1:] if line.strip()]
    try:
        columns = {n: np.array([row[i] for row in rows]) for n, i in zip(wanted, at, strict=True)}
        users, items = columns[data.user], columns[data.item]
        times = columns[data.time].astype(float) if data.time else None
        keep = np.ones(len(rows), bool)
        if data.rating and data.at_least is not None:
            keep &= columns[data.rating].astype(float) >= data.at_least
    except (IndexError, ValueError):
        raise DataError(f"{path}: not every line has {', '.join(wanted)}", "check the file") from None
    if data.least_users > 1:
        _, place, count = np.unique(items, return_inverse=True, return_counts=True)
        keep &= count[place] >= data.least_users
    users, items = users[keep], items[keep]
    if times is None:
        return Rows(users, items)
    order = np.lexsort((times[keep], users))
    return Rows(users[order], items[order], times[keep][order].astype(np.int64))


def read_sequences(data: Sequences, folder: Path) -> Rows:
    """Rows of lines of items; line n is of user n."""
    lists = read_lists(folder / data.file)
    return Rows((lists.rows + 1).astype(str), lists.values.astype(str))


def hidden_rows(split, rows: Rows) -> np.ndarray:
    """bool[n]: which rows are to be found."""
    if isinstance(split, RandomRows):
        return np.random.default_rng(split.seed).random(len(rows.users)) < split.share
    _, user, count = np.unique(rows.users, return_inverse=True, return_counts=True)
    order = np.argsort(user, kind="stable")
    place = np.empty(len(user), np.int64)
    place[order] = np.arange(len(user)) - np.repeat(np.cumsum(count) - count, count)
    last = np.minimum(split.rows, count) if isinstance(split, LastRows) else (count * split.share).astype(np.int64)
    return place >= (count - last)[user]


def files_of(settings: ListTaskSettings) -> list[str]:
    """Names of the files that a task reads."""
    data = settings.data
    if isinstance(data, Adjacency):
        return [data.train, data.test]
    return [data.file, *([data.follows] if isinstance(data, Table) and data.follows else [])]


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "name the folder of the data with --from") from None
    if not lines:
        raise DataError(f"{path} holds nothing", "name the folder of the data with --from")
    return lines
