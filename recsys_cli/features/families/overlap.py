"""How alike a user's and an item's lists, texts or vectors are: values in common, cosines.

It needs no history, so it tells of people and items that nobody has met yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from recsys_cli.arrays import find_rows, find_sorted
from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.features.dataset_columns import bag, column_vectors, unit, width_of
from recsys_cli.features.family import Arrays, DatasetFacts, ItemKeys, Past, TimelessFamily, Values
from recsys_cli.features.spec import Column, Definitions, Feature, Features, FeatureSpec

BETWEEN = "|"
MOST_VALUES = 64
"""Values of one item that are looked for among the user's, those of the lowest hashes."""
SHARED = 0.5
"""A user's list is compared with an item's by itself where so many of its values occur there."""


class Overlap(TimelessFamily):
    """Share and Jaccard of lists and texts, cosine of vectors, of a user's column and an item's."""

    name = "overlap"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for column in facts.columns:
            if column.side == "user" and column.becomes in ("list", "text", "vector"):
                for name in _compared(facts.catalogue, column, facts.columns):
                    yield from _features(column, name)

    def tables(self, features: Features, past: Past) -> Arrays:
        out: Arrays = {}
        for argument in dict.fromkeys(f.argument for f in features):
            common = CommonValues.of(past.catalogue, argument)
            out |= {f"{argument}/{part.name}": np.asarray(getattr(common, part.name)) for part in fields(common)}
        return out

    def held(self, spec: FeatureSpec, arrays: Arrays) -> dict[str, CommonValues]:
        parts = [part.name for part in fields(CommonValues)]
        arguments = dict.fromkeys(f.argument for f in spec.of_family(self.name))
        return {a: CommonValues(*(arrays[f"{a}/{part}"] for part in parts)) for a in arguments}

    def values(self, features: Features, held: Any, keys: ItemKeys, users: np.ndarray, items: np.ndarray) -> Values:
        for argument in dict.fromkeys(f.argument for f in features):
            mine = [f for f in features if f.argument == argument]
            found = held[argument].values([f.measure for f in mine], users, items)
            yield from zip((f.name for f in mine), found, strict=True)

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        return zip(("user", "item"), feature.argument.split(BETWEEN), strict=True)


def _compared(catalogue: Catalogue, column: Column, columns: Sequence[Column]) -> list[str]:
    """Columns of items that a user's is compared with; raises ConfigError for one that it cannot be."""
    vector = column.becomes == "vector"
    kinds = ("vector",) if vector else ("list", "text")
    there = {c.name: c.becomes for c in columns if c.side == "item" and c.becomes in kinds}
    if not vector and len(catalogue.item_topics.values):
        there.setdefault("topics", "list")
    if column.compared_with is None:
        same = [name for name, becomes in there.items() if becomes == column.becomes]
        return [name for name in same if _alike(catalogue, column, name)]
    chosen = list(dict.fromkeys(column.compared_with))
    for name in chosen:
        _require(catalogue, column, name, there)
    return chosen


def _features(column: Column, name: str) -> Iterator[Feature]:
    argument = f"{column.name}{BETWEEN}{name}"
    about, told = f"{column.name}_{name}", f"the user's {column.name} and the item's {name}"
    if column.becomes == "vector":
        yield Feature(f"{about}_cosine", "pair", "pair", "cosine", f"likeness of {told}", "cosine", argument)
        return
    yield Feature(
        f"{about}_share", "pair", "pair", "share", f"how much of the item's {name} is in the user's {column.name}",
        "values in common ÷ values of the item", argument, unit="share",
    )
    yield Feature(
        f"{about}_jaccard", "pair", "pair", "jaccard", f"likeness of {told}",
        "values in common ÷ different values of both", argument,
    )


def _alike(catalogue: Catalogue, column: Column, name: str) -> bool:
    """Whether the two hold the same kind of thing, as their values show."""
    if column.becomes == "vector":
        return name == column.name and width_of(catalogue, "user", name) == width_of(catalogue, "item", name)
    if column.becomes == "text":
        return False
    mine, theirs = np.unique(bag(catalogue, "user", column.name).values), bag(catalogue, "item", name).values
    return len(mine) > 0 and np.isin(mine, theirs).mean() >= SHARED


def _require(catalogue: Catalogue, column: Column, name: str, there: Mapping[str, str]) -> None:
    where = f"features.columns.user.{column.name}.compared_with"
    if name not in there:
        kind = "vector" if column.becomes == "vector" else "list or text"
        raise ConfigError(
            f"{where}: no column {name!r} of items becomes a {kind}",
            did_you_mean(name, there, f"there are {', '.join(there) or 'none'}"),
        )
    if column.becomes == "vector":
        mine, theirs = width_of(catalogue, "user", column.name), width_of(catalogue, "item", name)
        if mine != theirs:
            raise ConfigError(
                f"{where}: the user's vectors have {mine} numbers, those of {name!r} {theirs}",
                "compare vectors of one space",
            )


@dataclass(frozen=True)
class CommonValues:
    """Values of users and items by one pair of columns; the last row of items and of lengths is the unknown one."""

    keys: np.ndarray
    """int64 user · width + value, ascending; empty for vectors"""
    items: np.ndarray
    """int32[n_items + 1, T] values that some user has, -1 fills; for vectors float32[n_items + 1, D] of length 1"""
    user_lengths: np.ndarray
    """float32[n_users + 1]; for vectors float32[n_users + 1, D] of length 1"""
    item_lengths: np.ndarray
    """float32[n_items + 1]"""
    width: np.ndarray | np.int64
    """int64[] of the keys, 0 for vectors"""

    @classmethod
    def of(cls, catalogue: Catalogue, argument: str) -> CommonValues:
        """argument: USER_COLUMN|ITEM_COLUMN"""
        mine, _, theirs = argument.partition(BETWEEN)
        if mine in catalogue.user_columns.vectors:
            of_users, of_items = (
                unit(column_vectors(catalogue, f"{side}.{name}", width_of(catalogue, side, name)))
                for side, name in (("user", mine), ("item", theirs))
            )
            return cls(np.zeros(0, np.int64), of_items, of_users, np.ones(len(of_items), np.float32), np.int64(0))
        users, items = bag(catalogue, "user", mine), bag(catalogue, "item", theirs)
        if theirs == "text":  # texts of items are held by bucket
            users = Ragged(users.offsets, users.values % np.int32(TEXT_BUCKETS)).sorted_rows()
        values = np.unique(users.values)
        width = max(len(values), 1)
        keys = users.rows.astype(np.int64) * width + np.searchsorted(values, users.values)
        place = np.arange(len(items.values)) - np.repeat(items.offsets[:-1], items.lengths)
        rows, at = items.rows[place < MOST_VALUES], place[place < MOST_VALUES]
        code = find_sorted(values, items.values[place < MOST_VALUES])
        table = np.full((len(items) + 1, int(at.max(initial=0)) + 1), -1, np.int32)
        table[rows, at] = np.where(code < len(values), code, -1)
        held = np.minimum(items.lengths, MOST_VALUES)
        of_users, of_items = (np.append(n, 0).astype(np.float32) for n in (users.lengths, held))
        return cls(keys, table, of_users, of_items, np.int64(width))

    def values(self, measures: Sequence[str], users: np.ndarray, items: np.ndarray) -> list[np.ndarray]:
        """float32 by measure, for users and items of shapes that broadcast; -1 is unknown and 0."""
        if self.width == 0:
            mine = self.user_lengths.take(users, axis=0, mode="wrap")
            cosine = np.einsum("...d,...d->...", mine, self.items.take(items, axis=0, mode="wrap"))
            return [cosine for _ in measures]
        common, theirs = self._common(users, items), self.item_lengths.take(items, mode="wrap")
        either = theirs + self.user_lengths.take(users, mode="wrap") - common
        return [common / np.maximum(either if m == "jaccard" else theirs, 1) for m in measures]

    def _common(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        out = np.zeros(np.broadcast_shapes(users.shape, items.shape), np.float32)
        by_user = users.ndim == 2 and users.shape[1] == 1  # users [B, 1] of whom many items are asked for
        users = users.astype(np.int64)
        for t in range(self.items.shape[1]):
            code = self.items[:, t].take(items, mode="wrap")
            if by_user:
                out += find_rows(self.keys, users[:, 0], int(self.width), code) >= 0
                continue
            keys = np.where((code >= 0) & (users >= 0), users * self.width + code, -1)
            out += find_sorted(self.keys, keys) < len(self.keys)
        return out
