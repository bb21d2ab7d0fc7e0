"""Ids that are known so far, and what happens to one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from recsys_cli.data.importer.convert import source_column
from recsys_cli.data.importer.mapping import Column, Source
from recsys_cli.data.importer.readers import LINE, explode, read


class Keys:
    """The ids of one kind in the order in which they came."""

    def __init__(self, column: str, integer: bool, policy: Literal["reject", "add"]):
        self.column = column
        self.policy = policy
        self.dtype = pl.Int64 if integer else pl.String
        self.ids = pl.Series(column, [], dtype=self.dtype)

    def unknown(self, values: pl.Series) -> pl.Series:
        """bool[n]: not among the ids."""
        if len(self.ids) == 0:
            return pl.Series([True]).new_from_index(0, len(values))
        return ~values.is_in(self.ids.implode())

    def add(self, values: pl.Series) -> None:
        fresh = values.unique(maintain_order=True)
        self.ids = pl.concat([self.ids, fresh.filter(self.unknown(fresh)).rename(self.column)])


def ids_are_integers(source: Source, file: Path, spec: Column) -> bool:
    """Whether ids are integers, told from the first rows of a file.

    Text that spells integers in more than 99 of 100 rows counts, unless one has leading zeros.
    """
    batch = next(read(source, file), None)
    if batch is None or batch.frame.height == 0:
        return False
    exploded = getattr(source, "explode", None)
    frame = explode(batch.frame, exploded) if exploded in batch.frame.columns else batch.frame
    name = source_column(spec, [c for c in frame.columns if c != LINE], "an id", str(file))
    if name is None:
        return False
    values = frame[name].drop_nulls()
    if values.dtype != pl.String:
        return values.dtype.is_integer() or (
            values.dtype.is_float() and bool((values == values.round()).all())
        )
    values = values.filter(values != "")
    plain = values.str.contains(r"^-?(0|[1-9]\d{0,17})$")
    padded = values.str.contains(r"^0\d").any()
    return bool(len(values)) and not padded and plain.mean() > 0.99
