"""Columns from small tables beside the rows: the author of an item from a file of its own."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.ids import as_text as key_text
from recsys_cli.data.importer.mapping import Join, Part
from recsys_cli.data.importer.readers import find_files, read
from recsys_cli.errors import DataError

SUFFIX = "__joined"
Joined = tuple[dict[str, str], pl.DataFrame]
"""(source column → column of the other file, that file's rows with their keys as text)"""


def join_file(join: Join, folder: Path) -> Path:
    """The first file of a join; raises DataError where there is none."""
    files = find_files(join, folder)
    if not files:
        raise DataError(f"no file {join.files[0]} in {folder}", "it is joined to another; see the mapping")
    return files[0]


def load_joins(part: Part, folder: Path) -> tuple[list[Joined], list[Path]]:
    """The tables joined to a part, whole, and their files; raises DataError where a key column is missing."""
    joins, all_files = [], []
    for join in part.join:
        files = find_files(join, folder)
        all_files += files
        frames = [batch.frame.drop(LINE) for file in files for batch in read(join, file)]
        frame = pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame()
        missing = [right for right in join.match.values() if right not in frame.columns]
        if missing:
            raise DataError(
                f"{join.files[0]} has no column {missing[0]!r} (to join on)",
                f"its columns: {', '.join(frame.columns)}",
            )
        keys = {left: f"__on_{left}" for left in join.match}
        frame = frame.with_columns(
            key_text(pl.col(r), frame.schema[r]).alias(keys[left]) for left, r in join.match.items()
        )
        frame = frame.drop([*join.match.values()]).unique([*keys.values()], keep="first", maintain_order=True)
        joins.append((join.match, frame))
    return joins, all_files


def add_columns(frame: pl.DataFrame, joins: list[Joined]) -> pl.DataFrame:
    """The rows with the columns of the joined tables; null where there is no match.

    Where both have a column the row's own value counts, and the other fills what it leaves open.
    """
    for match, other in joins:
        keys = [f"__on_{left}" for left in match]
        frame = frame.with_columns(key_text(pl.col(left), frame.schema[left]).alias(f"__on_{left}") for left in match)
        frame = frame.join(other, on=keys, how="left", maintain_order="left", suffix=SUFFIX).drop(keys)
        frame = _completed(frame)
    return frame


def _completed(frame: pl.DataFrame) -> pl.DataFrame:
    """See `add_columns`."""
    both = [c for c in frame.columns if f"{c}{SUFFIX}" in frame.columns]
    for c in both:
        own, other = frame[c], frame[f"{c}{SUFFIX}"]
        if own.dtype == pl.String:
            own = own.to_frame().select(pl.when(pl.col(c) != "").then(pl.col(c))).to_series()
        if own.null_count() == len(own):
            frame = frame.with_columns(other.alias(c))
        elif own.dtype == other.dtype:
            frame = frame.with_columns(own).with_columns(pl.coalesce(c, f"{c}{SUFFIX}").alias(c))
    return frame.drop(f"{c}{SUFFIX}" for c in both)
