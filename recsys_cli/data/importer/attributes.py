"""Attributes: the columns of users and items beyond those of the schema, and their types."""

from __future__ import annotations

import fnmatch

import polars as pl

from recsys_cli.data.importer.delimited import UNNAMED
from recsys_cli.data.importer.mapping import Column
from recsys_cli.data.importer.values import Target
from recsys_cli.data.schema import COLUMNS, ColumnKind


def recognise(frame: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
    """Text columns that hold nothing but integers, or nothing but numbers, as int64 or float64.

    Numbers with leading zeros are codes and stay text; so do columns without any value.
    """
    for name in columns:
        column = frame[name]
        if column.dtype != pl.String or column.null_count() == len(column):
            continue
        text = column.str.strip_chars()
        # codes with leading zeros are no numbers, and those of many digits would lose some
        if text.str.contains(r"^[-+]?(0\d|\d{19})").any():
            continue
        for kind in (pl.Int64, pl.Float64):
            number = text.cast(kind, strict=False)
            if number.null_count() == column.null_count() and not (kind == pl.Float64 and number.is_infinite().any()):
                frame = frame.with_columns(number.fill_nan(None) if kind == pl.Float64 else number)
                break
    return frame


def nameless(column: str) -> bool:
    """Whether a column is the index of a data frame, which `to_csv()` writes under no name."""
    return column.split("_")[0] == UNNAMED or column.startswith("Unnamed: ")


def _implied_kind(spec: Column) -> ColumnKind | None:
    """The type of an attribute as its mapping says or implies; None where its values decide."""
    if spec.type is not None:
        return spec.type
    if spec.thresholds or spec.is_in is not None:
        return "bool"
    if spec.separator is not None:
        return "list"
    if spec.unit or spec.format:
        return "timestamp"
    if spec.replace:
        return "category"
    return "float" if spec.scale != 1 else None


def attribute_targets(
    table: str, attributes: dict[str, Column], leave_out: list[str], columns: list[str], used: set[str]
) -> list[Target]:
    """Targets of the attributes of a part in the order of the file.

    Globs are expanded over the source columns that have a name and are not used otherwise. One that has the name of a
    column of the schema becomes that column, and must be given as its kind asks.
    """
    found: dict[str, Target] = {}
    used = used | {c for spec in attributes.values() for c in spec.column or ()}
    for name, spec in attributes.items():
        if any(c in name for c in "*?["):
            matches = [c for c in columns if fnmatch.fnmatchcase(c, name) and c not in used and not nameless(c)]
        else:
            matches = [name]
        for match in matches:
            if match in found or any(fnmatch.fnmatchcase(match, out) for out in leave_out):
                continue
            filled = (
                spec if spec.column or spec.value is not None else spec.model_copy(update={"column": [match]})
            )
            if match in COLUMNS[table]:
                found[match] = Target(match, COLUMNS[table][match][0], filled, lenient=table != "impressions")
            else:
                found[match] = Target(match, _implied_kind(spec), filled, attribute=True, lenient=True)
    return sorted(found.values(), key=lambda t: columns.index(t.name) if t.name in columns else len(columns))
