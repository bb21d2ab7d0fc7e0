"""Ids that are known so far, and what happens to one that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import polars as pl

from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.convert import source_column
from recsys_cli.data.importer.ids import INTEGER, says_missing
from recsys_cli.data.importer.joins import join_file
from recsys_cli.data.importer.lists import exploded
from recsys_cli.data.importer.mapping import Column, Mapping, Part, Source
from recsys_cli.data.importer.readers import first_columns, read
from recsys_cli.data.importer.values import IdsAreText

ID_TYPES = {
    "user_id": "user_ids",
    "follower_id": "user_ids",
    "item_id": "item_ids",
    "author_id": "author_ids",
    "followee_id": "author_ids",
}
"""Id column → the mapping's setting for its type."""


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


def with_text_ids(mapping: Mapping, error: IdsAreText) -> tuple[Mapping, str]:
    """(the mapping with ids as text where one was found that is no integer, what is to be told of it)."""
    setting = ID_TYPES[error.column]
    if mapping.authors_are_users and setting == "author_ids":
        setting = "user_ids"
    return (
        mapping.model_copy(update={setting: "text"}),
        f"{setting.replace('_', ' ')} are kept as text: {error.place}",
    )


def id_types(mapping: Mapping, parts: dict[str, list[tuple[Part, list[Path]]]], folder: Path) -> dict[str, bool]:
    """Setting (user_ids, …) → whether those ids are integers, told from the first rows where the mapping is silent."""
    first: dict[str, tuple[Source, Path, Column]] = {}
    for table in ("users", "items", "impressions"):
        for part, files in parts[table]:
            for column, setting in ID_TYPES.items():
                spec = getattr(part.columns, column, None)
                if spec is None or setting in first:
                    continue
                if spec.column or spec.row_number:
                    first[setting] = _holder(part, files[0], spec, folder)
    types = {}
    for setting in dict.fromkeys(ID_TYPES.values()):
        chosen = getattr(mapping, setting)
        if chosen == "auto" and setting in first:
            types[setting] = ids_are_integers(*first[setting])
        else:
            types[setting] = chosen == "integer"
    if mapping.authors_are_users:
        types["author_ids"] = types["user_ids"]
    return types


def _holder(part: Part, file: Path, spec: Column, folder: Path) -> tuple[Source, Path, Column]:
    """The file that has a column: that of the part or one joined to it."""
    for join in part.join:
        other = join_file(join, folder)
        wanted = set(spec.column or ())
        if not wanted & set(first_columns(part, file)) and wanted & set(first_columns(join, other)):
            return join, other, spec
    return part, file, spec


def ids_are_integers(source: Source, file: Path, spec: Column) -> bool:
    """Whether ids are integers, told from the first rows of a file; words for "unknown" do not count."""
    if spec.row_number:
        return True
    how = getattr(source, "explode", None)
    names = [*(spec.column or ()), *([how.column] if how else [])]
    # a field within a field is found by its path alone
    columns = names if any("." in c for c in names) else None
    batch = next((b for b in read(source, file, columns) if b.frame.height), None)
    if batch is None:
        return False
    frame = batch.frame
    if how is not None and how.column in frame.columns:
        frame, _ = exploded(frame, how, str(file), set(spec.column or ()), {})
    name = source_column(spec, [c for c in frame.columns if c != LINE], "an id", str(file))
    if name is None:
        return False
    values = frame[name].drop_nulls()
    if values.dtype.is_float() or values.dtype.is_decimal():
        return bool((values == values.round(0)).all()) and len(values) > 0
    if values.dtype != pl.String:
        return values.dtype.is_integer()
    known = values.to_frame("id").filter(~says_missing(pl.col("id")))["id"].str.strip_chars()
    plain = known.str.contains(INTEGER) & known.cast(pl.Int64, strict=False).is_not_null()
    return bool(len(known)) and bool(plain.all())
