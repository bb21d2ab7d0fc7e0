"""Rows and edges of a fold in the positions of a bundle: a Log, and edges as `Dataset.edges` gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.serving.fold import Fold, Names
from recsys_cli.serving.growth import Growth
from recsys_cli.serving.state_merge import EdgeChange

REQUESTS = np.int64(2**41)
"""Offset of the requests and sessions of the server, beyond those of datasets."""


@dataclass(frozen=True)
class LogShape:
    """Which columns the base log has, so that rows of events can stand behind it."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    columns: frozenset[str]
    """optional columns that it has"""
    context: dict[str, str]
    """further column → kind of its dtype, "f" or "i" """

    @classmethod
    def of(cls, log: Log) -> LogShape:
        optional = ("dwell", "surface", "device", "position", "request", "session", "propensity", "part")
        held = frozenset(name for name in optional if getattr(log, name) is not None)
        kinds = {name: values.dtype.kind for name, values in log.context.items()}
        return cls(log.positive_actions, log.negative_actions, held, kinds)

    @classmethod
    def plain(cls, positive: Sequence[str], negative: Sequence[str]) -> LogShape:
        """Where the base log is not at hand: all that events tell."""
        held = ("dwell", "surface", "device", "position", "request", "session", "propensity")
        return cls(tuple(positive), tuple(negative), frozenset(held), {})

    @property
    def actions(self) -> tuple[str, ...]:
        return (*self.positive, *self.negative)


def rows_as_log(fold: Fold, growth: Growth, shape: LogShape, first: int = 0, end: int | None = None) -> Log:
    """The rows of a fold from `first` to `end` (exclusive), ordered by time (ties by user, then as they came)."""
    held = fold.arrays(first, end)
    known = (held["user"] >= 0) & (held["item"] >= 0)
    user = np.where(known, _of(growth.users, held["user"]), -1)
    item = np.where(known, _of(growth.items, held["item"]), -1)
    keep = np.flatnonzero((user >= 0) & (item >= 0))
    keep = keep[np.lexsort((user[keep], held["time"][keep]))]
    held = {name: values[keep] for name, values in held.items()}
    bit = {name: np.uint64(1 << a) for a, name in enumerate(fold.actions)}
    n, names = len(keep), growth.bundle.catalogue.names
    none = np.zeros(n, bool)
    optional = {
        "dwell": held["dwell"],
        "surface": _codes(fold.names["surfaces"], names.get("surface", ()), held["surface"]),
        "device": _codes(fold.names["devices"], names.get("device", ()), held["device"]),
        "position": held["position"],
        "request": np.where(held["request"] >= 0, held["request"] + REQUESTS, -1),
        "session": np.where(held["session"] >= 0, held["session"] + REQUESTS, -1),
        "propensity": held["propensity"],
        "part": np.full(n, -1, np.int8),
    }
    return Log(
        user=user[keep].astype(np.int32),
        item=item[keep].astype(np.int32),
        time=held["time"],
        actions={a: (held["bits"] & bit[a]) != 0 if a in bit else none for a in shape.actions},
        positive_actions=shape.positive,
        negative_actions=shape.negative,
        context={
            name: np.full(n, np.nan, np.float32) if kind == "f" else np.full(n, -1, np.int32)
            for name, kind in shape.context.items()
        },
        **{name: values for name, values in optional.items() if name in shape.columns},
    )


def _of(positions: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return positions[codes] if len(positions) else np.full(len(codes), -1, np.int32)


def _codes(own: Names, known: Sequence[str], codes: np.ndarray) -> np.ndarray:
    """Codes of a fold as those of a catalogue, -1 for what it does not know."""
    places = {name: i for i, name in enumerate(known)}
    table = np.array([*(places.get(name, -1) for name in own.listed), -1], np.int16)
    return table[codes]


@dataclass(frozen=True)
class EdgeTables:
    """Edges of a fold: as changes of a state, and as rows of the tables `follows` and `blocks`."""

    follow_change: EdgeChange
    block_change: EdgeChange
    follows: dict[str, np.ndarray]
    blocks: dict[str, np.ndarray]


def edge_tables(fold: Fold, growth: Growth, now: int) -> EdgeTables:
    """The edges before `now` (µs), by what was last said of each pair."""
    bundle = growth.bundle
    last: dict[tuple[str, int, int], tuple[int, bool]] = {}
    told = [e for e in fold.edges if e.time < now]
    users = bundle.user_ids.positions([e.user for e in told]) if told else ()
    for edge, user in zip(sorted(told, key=lambda e: e.time), _in_order(told, users), strict=True):
        author = _author(edge, growth, bundle.catalogue)
        if user >= 0 and author >= 0:
            last[edge.kind, int(user), author] = (edge.time, edge.on)
    return EdgeTables(
        _change(last, ("follow",)), _change(last, ("block", "mute")),
        _table(last, ("follow",), weight=np.float32), _table(last, ("block", "mute"), mute=bool),
    )


def _in_order(told: list, users: Sequence[int]) -> list[int]:
    order = sorted(range(len(told)), key=lambda i: told[i].time)
    return [users[i] for i in order]


def _author(edge, growth: Growth, catalogue: Catalogue) -> int:
    if edge.author is not None:
        return growth.bundle.author_ids.position(edge.author)
    item = growth.bundle.item_ids.position(edge.item)
    return int(catalogue.item_author[item]) if item >= 0 else -1


def _change(last: dict, kinds: tuple[str, ...]) -> EdgeChange:
    on: dict[tuple[int, int], bool] = {}
    for (kind, user, author), (_, there) in last.items():
        if kind in kinds:
            on[user, author] = on.get((user, author), False) or there
    pairs = np.array(list(on), np.int32).reshape(-1, 2)
    return EdgeChange(pairs[:, 0], pairs[:, 1], np.array(list(on.values()), bool))


def _table(last: dict, kinds: tuple[str, ...], **more: type) -> dict[str, np.ndarray]:
    rows = [(u, a, t, k == "mute") for (k, u, a), (t, there) in last.items() if k in kinds and there]
    table = np.array([r[:3] for r in rows], np.int64).reshape(-1, 3)
    out = {"from": table[:, 0].astype(np.int32), "to": table[:, 1].astype(np.int32), "time": table[:, 2]}
    if "weight" in more:
        out["weight"] = np.ones(len(rows), np.float32)
    else:
        out["mute"] = np.array([r[3] for r in rows], bool)
    return out


def joined(first: dict[str, np.ndarray] | None, second: dict[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Two tables of edges as one; None where neither has any."""
    if first is None:
        return second if len(second["from"]) else None
    return {name: np.concatenate([values, second[name]]) for name, values in first.items()}
