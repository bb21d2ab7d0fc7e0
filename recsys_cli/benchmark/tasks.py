"""Ranking tasks read from the files in which public benchmarks come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recsys_cli.benchmark.config import HeldOut, NextItem
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import HOUR
from recsys_cli.data.state import State
from recsys_cli.errors import DataError
from recsys_cli.retrieval.base import Window

START = 1_577_836_800_000_000
"""2020-01-01: lists without times are dated from here, an hour between one item and the next."""


@dataclass(frozen=True)
class RankingTask:
    """What to fit on, what is known when ranking, and what is to be found."""

    window: Window
    state: State
    """with whole histories, also where they are longer than what is served from"""
    users: np.ndarray
    """int32[B] users with something to find"""
    relevant: Ragged
    """int32 items by row of `users`, ascending"""
    exclude_seen: bool
    notes: tuple[str, ...] = ()
    """what is to be told of the files"""

    @property
    def counts(self) -> dict[str, int]:
        return {
            "users": self.window.catalogue.n_users,
            "items": self.window.catalogue.n_items,
            "fitted_on": len(self.window.log),
            "test_users": len(self.users),
            "to_find": len(self.relevant.values),
        }


def ranking_task(protocol: HeldOut | NextItem, folder: Path, seed: int, *, validation: bool = False) -> RankingTask:
    """Read the files of a protocol below `folder`; raises DataError where they are missing or of another form.

    validation: hide a slice of what may be learned from instead of the test items, to choose settings on.
    """
    build = _held_out if isinstance(protocol, HeldOut) else _next_item
    return build(protocol, folder, seed, validation)


def read_lists(path: Path) -> Ragged:
    """Lines of blank-separated integers as int64 rows; raises DataError naming the first bad line."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "name the folder of the data with --from") from None
    parts = [line.split() for line in lines]
    try:
        values = np.array([int(v) for part in parts for v in part], np.int64)
    except ValueError:
        for number, part in enumerate(parts, 1):
            for value in part:
                if not value.removeprefix("-").isdigit():
                    raise DataError(f"{path} line {number}: {value!r} is no integer") from None
        raise
    if not len(values):
        raise DataError(f"{path} holds nothing", "name the folder of the data with --from")
    return Ragged(offsets_of(np.array([len(p) for p in parts], np.int64)), values)


def read_pairs(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """(user ids, item ids) of adjacency lists, in the order of the file."""
    lists = read_lists(path)
    known = lists.lengths[lists.lengths > 0]
    heads = lists.values[lists.offsets[:-1][lists.lengths > 0]]
    if len(known) > 1 and known.min() == known.max() and known[0] in (3, 4) and len(np.unique(heads)) <= len(heads) / 2:
        # users who come back line by line have one row a pair; what follows the item is its rating or time
        rows = lists.values.reshape(-1, known[0])
        return rows[:, 0], rows[:, 1]
    first = lists.offsets[:-1][lists.lengths > 0]
    rest = np.ones(len(lists.values), bool)
    rest[first] = False
    user, item = np.repeat(lists.values[first], known - 1), lists.values[rest]
    if len(np.unique(heads)) < len(heads):
        order = np.argsort(user, kind="stable")
        user, item = user[order], item[order]
    return user, item


def _held_out(protocol: HeldOut, folder: Path, seed: int, validation: bool) -> RankingTask:
    user, item = read_pairs(folder / protocol.train)
    found_user, found_item = read_pairs(folder / protocol.test)
    users, items = np.unique(np.concatenate([user, found_user])), np.unique(np.concatenate([item, found_item]))
    user, item = np.searchsorted(users, user), np.searchsorted(items, item)
    if validation:
        hidden = _hidden(protocol, user, seed)
        found_user, found_item = user[hidden], item[hidden]
        user, item = user[~hidden], item[~hidden]
    else:
        found_user, found_item = np.searchsorted(users, found_user), np.searchsorted(items, found_item)
    notes = _overlap(user, item, found_user, found_item, len(items))
    catalogue = bare_catalogue(len(users), len(items))
    log = clicks(user, item, np.full(len(user), START))
    return replace(_task(catalogue, log, log, found_user, found_item, seed, exclude_seen=True), notes=notes)


def _overlap(user, item, found_user, found_item, n_items: int) -> tuple[str, ...]:
    """What is to be told of pairs that stand in both files, and so can never be listed, and of repeated ones."""
    train, test = user.astype(np.int64) * n_items + item, found_user.astype(np.int64) * n_items + found_item
    both, again = int(np.isin(test, train).sum()), len(test) - len(np.unique(test))
    notes = []
    if both:
        told = "test pairs stand in train too: they can never be listed, and count as missed"
        notes.append(f"{both:,} of {len(test):,} {told}")
    if again:
        notes.append(f"{again:,} test pairs repeat another")
    return tuple(notes)


def _hidden(protocol: HeldOut, user: np.ndarray, seed: int) -> np.ndarray:
    """bool[m]: rows of train that are hidden where settings are chosen; the rows of a user stand together."""
    if protocol.validation_from is None:
        return np.random.default_rng(seed).random(len(user)) < protocol.validation_share
    first = np.flatnonzero(np.diff(user, prepend=-1))
    length = np.diff(np.append(first, len(user)))
    place = (np.arange(len(user)) - np.repeat(first, length)) / np.repeat(length, length)
    return (place >= protocol.validation_from) & (place < protocol.validation_from + protocol.validation_share)


def _next_item(protocol: NextItem, folder: Path, seed: int, validation: bool) -> RankingTask:
    lists = read_lists(folder / protocol.sequences)
    items = np.unique(lists.values)
    user, item = lists.rows, np.searchsorted(items, lists.values)
    back = lists.offsets[1:][user] - 1 - np.arange(len(item))
    time = START + (lists.lengths.max() - back) * HOUR
    catalogue = bare_catalogue(len(lists), len(items))
    target = back == (1 if validation else 0)
    if validation:
        chosen = np.random.default_rng(seed).permutation(len(lists))[: protocol.validation_users]
        target &= np.isin(user, chosen)
    learned, known = back > 1, back > (1 if validation else 0)
    return _task(
        catalogue,
        clicks(user[learned], item[learned], time[learned]),
        clicks(user[known], item[known], time[known]),
        user[target],
        item[target],
        seed,
        exclude_seen=False,
    )


def _task(
    catalogue: Catalogue, learned: Log, known: Log, user: np.ndarray, item: np.ndarray, seed: int, exclude_seen: bool
) -> RankingTask:
    if not len(user) or not len(learned):
        raise DataError("the files leave nothing to learn from or nothing to find", "check what they hold")
    users = np.unique(user)
    relevant = Ragged.group(np.searchsorted(users, user), item.astype(np.int32), len(users)).sorted_rows()
    now = int(known.time.max()) + 1
    window = Window(None, catalogue, learned, now, whole_state(catalogue, learned, now), seed)
    state = window.state if learned is known else whole_state(catalogue, known, now)
    return RankingTask(window, state, users.astype(np.int32), relevant, exclude_seen)


def whole_state(catalogue: Catalogue, log: Log, now: int) -> State:
    """A State whose histories are not cut: a protocol gives a model all that a user did."""
    return replace(
        State.build(catalogue, log, now),
        history=Ragged.group(log.user, log.item, catalogue.n_users),
        history_time=Ragged.group(log.user, log.time, catalogue.n_users),
        history_actions=Ragged.group(log.user, log.action_bits, catalogue.n_users),
        history_numbers={},
    )


def clicks(user: np.ndarray, item: np.ndarray, time: np.ndarray) -> Log:
    """A log in which every row is a click."""
    order = np.lexsort((user, time))
    return Log(
        user=user[order].astype(np.int32),
        item=item[order].astype(np.int32),
        time=time[order].astype(np.int64),
        actions={"click": np.ones(len(order), bool)},
        positive_actions=("click",),
        negative_actions=(),
    )


def bare_catalogue(users: int, items: int) -> Catalogue:
    """A catalogue of which nothing but the numbers is known."""
    return Catalogue(
        n_users=users,
        n_authors=0,
        item_author=np.full(items, -1, np.int32),
        item_created=np.zeros(items, np.int64),
        item_topics=Ragged.empty(items),
        item_text=Ragged.empty(items),
        item_codes={},
        item_numbers={},
        item_safety={},
        user_created=np.zeros(users, np.int64),
        user_codes={},
        user_numbers={},
        author_user=np.zeros(0, np.int32),
        names={"topics": []},
    )
