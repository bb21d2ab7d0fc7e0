"""The two-way map between the owner's ids and int32 positions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from recsys_cli.errors import DataError

if TYPE_CHECKING:
    import polars as pl

_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
"""An integer as a program writes it: 007, +7 and 1_0 are other ids than 7 and 10."""


class Vocabulary:
    """Ids in a fixed order; position = index. Saved as arrays that can be memory-mapped.

    ids: [n] int64, or bytes of fixed width (UTF-8) where the owner's ids are strings. Lookup is a binary
    search over the sorted ids, or a subtraction where the ids are consecutive integers.
    """

    def __init__(self, ids: np.ndarray, order: np.ndarray | None = None):
        if ids.dtype.kind in "UO":
            ids = np.char.encode(ids.astype(str), "utf-8")
        elif ids.dtype.kind in "iu":
            ids = ids.astype(np.int64, copy=False)
        self.ids = ids
        self._consecutive = (
            ids.dtype.kind == "i"
            and len(ids) > 0
            and int(ids[-1]) - int(ids[0]) == len(ids) - 1
            and order is None
            and bool(np.all(np.diff(ids) == 1))
        ) or (order is not None and len(order) == 0 and len(ids) > 0)
        if order is None:
            order = np.zeros(0, np.int32) if self._consecutive else np.argsort(ids, kind="stable").astype(np.int32)
        self._order = order

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def is_text(self) -> bool:
        return self.ids.dtype.kind == "S"

    def positions(self, values) -> np.ndarray:
        """int32[n] positions of ids given as integers or strings; -1 where an id is unknown."""
        if isinstance(values, list | tuple) and any(isinstance(v, str) for v in values):
            values = np.array(values, object)  # an array of text is as wide as its longest
        values = self._coerce(np.asarray(values))
        n = len(self.ids)
        if n == 0 or len(values) == 0:
            return np.full(len(values), -1, np.int32)
        if self._consecutive:
            offset = values - self.ids[0]
            return np.where((offset >= 0) & (offset < n), offset, -1).astype(np.int32)
        place = np.searchsorted(self.ids, values, sorter=self._order)
        found = self._order[np.minimum(place, n - 1)]
        return np.where(self.ids[found] == values, found, -1).astype(np.int32)

    def comma_counts(self) -> list[int]:
        """How many commas ids hold: each count once, ascending; none where ids are integers."""
        if not self.is_text or not len(self.ids):
            return []
        width, found = self.ids.dtype.itemsize, set()
        for start in range(0, len(self.ids), 1 << 20):
            letters = np.ascontiguousarray(self.ids[start : start + (1 << 20)]).view(np.uint8).reshape(-1, width)
            found.update(np.unique((letters == ord(",")).sum(axis=1)).tolist())
        return sorted(found)

    def position(self, value) -> int:
        """Position of one id, -1 where unknown. Text that spells an integer plainly (7, not 007) finds it."""
        return int(self.positions([value])[0])

    def external(self, positions) -> list:
        """The owner's ids (int or str) at positions; None at -1."""
        positions = np.asarray(positions)
        if not positions.size:  # a list of none has no whole numbers to look up with
            return []
        found = self.ids[np.maximum(positions, 0)] if len(self.ids) else np.zeros(len(positions), self.ids.dtype)
        values = [v.decode() for v in found.tolist()] if self.is_text else found.tolist()
        return [v if p >= 0 else None for v, p in zip(values, positions.tolist(), strict=True)]

    def _coerce(self, values: np.ndarray) -> np.ndarray:
        if self.is_text:
            if values.dtype.kind == "O":
                width = self.ids.dtype.itemsize
                encoded = [str(v).encode("utf-8", "surrogatepass") for v in values.tolist()]
                # what is longer than every id would make all of them wider; no id is this byte
                return np.array([v if len(v) <= width else b"\xff" for v in encoded], self.ids.dtype)
            if values.dtype.kind != "S":
                values = np.char.encode(values.astype(str), "utf-8") if len(values) else values.astype("S1")
            return values
        if values.dtype.kind in "iu":
            return values.astype(np.int64, copy=False)
        out = np.full(len(values), np.iinfo(np.int64).min, np.int64)
        for i, value in enumerate(values.tolist()):
            if isinstance(value, str) and not _INTEGER.fullmatch(value):
                continue
            try:
                number = int(value)
            except (TypeError, ValueError, OverflowError):
                continue
            if abs(number) < 2**63 and (isinstance(value, str) or number == value):
                out[i] = number
        return out

    def save(self, folder: Path, name: str) -> None:
        np.save(folder / f"{name}.ids.npy", self.ids)
        np.save(folder / f"{name}.order.npy", self._order)

    @classmethod
    def load(cls, folder: Path, name: str) -> Vocabulary:
        return cls(
            np.load(folder / f"{name}.ids.npy", mmap_mode="r"), np.load(folder / f"{name}.order.npy", mmap_mode="r")
        )

    def require_unique(self, what: str) -> None:
        """Raises DataError naming the first id that stands twice."""
        if self._consecutive or len(self.ids) < 2:
            return
        ordered = self.ids[self._order]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(twice):
            value = self.external([int(self._order[twice[0]])])[0]
            raise DataError(f"{what} {value!r} stands more than once", "each id may stand in one row only")


def lookup(vocabulary: Vocabulary, ids: pl.Series) -> np.ndarray:
    """int32 positions of a column of ids; -1 for null and unknown."""
    import polars as pl  # here, for serving reads vocabularies and does without

    if len(ids) == 0:
        return np.zeros(0, np.int32)
    if ids.dtype.is_integer() and not vocabulary.is_text:
        found = vocabulary.positions(ids.fill_null(np.iinfo(np.int64).min).cast(pl.Int64).to_numpy())
        return found
    unique = ids.unique().drop_nulls()
    found = vocabulary.positions(unique.cast(pl.String).to_numpy() if vocabulary.is_text else unique.to_numpy())
    return (
        ids.replace_strict(unique, pl.Series(found, dtype=pl.Int32), default=None, return_dtype=pl.Int32)
        .fill_null(-1)
        .to_numpy()
    )


class Vocabularies(Protocol):
    """Whoever knows users, items and authors by their ids: a dataset, a bundle, or a part of either."""

    @property
    def user_ids(self) -> Vocabulary: ...

    @property
    def item_ids(self) -> Vocabulary: ...

    @property
    def author_ids(self) -> Vocabulary: ...
