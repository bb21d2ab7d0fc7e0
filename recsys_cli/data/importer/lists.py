"""Lists: lines of ids, lists written as text, and one row for each element of a list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from recsys_cli.data.importer.batches import LINE, Batch
from recsys_cli.data.importer.json_rows import series, text_of
from recsys_cli.data.importer.mapping import Explode, Source
from recsys_cli.data.importer.text import blocks
from recsys_cli.errors import ConfigError, DataError

_BARE = r"""[^\s,'"\[\](){}]+"""
_TOKEN = re.compile(
    r"""\s*(?:u?'((?:[^'\\]|\\.)*)'|u?"((?:[^"\\]|\\.)*)"|(""" + _BARE + "(?:[ ]" + _BARE + r""")*))\s*,?"""
)
_BACKSLASH = re.compile(r"\\(.)")
_ENCLOSED = r"^\s*(?:\[.*\]|\(.*\)|\{.*\})\s*$"


def parse_list(text: str) -> list[str | None] | None:
    """A list written as JSON, as Python writes one, or as numpy prints one; None where it is none of them.

    "['RPG', 'Indie, co-op']" → ["RPG", "Indie, co-op"]; "[0.1 0.2]" → ["0.1", "0.2"]; "[]" → [].
    """
    text = text.strip()
    try:
        values = orjson.loads(text)
        return [None if v is None else text_of(v) for v in values] if isinstance(values, list) else None
    except orjson.JSONDecodeError:
        pass
    if (text[:1], text[-1:]) not in (("[", "]"), ("(", ")"), ("{", "}")):
        return None
    inner, found, at = text[1:-1], [], 0
    while inner[at:].strip():
        token = _TOKEN.match(inner, at)
        if token is None:
            return None
        single, double, bare = token.groups()
        quoted = single if single is not None else double
        if quoted is not None:
            found.append(_BACKSLASH.sub(r"\1", quoted))
        elif "," in inner:
            found.append(None if bare in ("None", "nan") else bare)
        else:
            found += bare.split()
        at = token.end()
    return found


def listed(column: pl.Series, separator: str | None) -> pl.Series:
    """Texts as lists of texts: those written as lists are read as such, others are split at the separator.

    Without a separator a text is a list of one.
    """
    unique = column.drop_nulls().unique()
    enclosed = unique.filter(unique.str.contains(_ENCLOSED))
    split = column.str.split(separator) if separator else column.to_frame().select(pl.concat_list(pl.all())).to_series()
    split = split.to_frame("s").select(
        pl.when(column.is_not_null()).then(pl.col("s").list.eval(pl.element().str.strip_chars()))
    ).to_series()
    read = {text: parsed for text in enclosed.to_list() if (parsed := parse_list(text)) is not None}
    if not read:
        return split.rename(column.name)
    known = pl.DataFrame(
        {"text": list(read), "read": list(read.values())}, schema={"text": pl.String, "read": pl.List(pl.String)}
    )
    frame = pl.DataFrame({"text": column.rename("text"), "split": split}).join(
        known, on="text", how="left", maintain_order="left"
    )
    return frame.select(pl.coalesce("read", "split")).to_series().rename(column.name)


def read_lists(source: Source, file: Path, separator: str | None, keyed: bool) -> Iterator[Batch]:
    """Lines of tokens as rows (user, item, rank); of the first token or the line's number as user.

    separator: None for blanks and tabs of any number.
    """
    notes: dict[str, None] = {}
    for block in blocks(source, file, None, notes):
        text = pl.Series("item", block.content.decode().split("\n")).str.strip_chars()
        tokens = text.str.split(separator) if separator else text.str.extract_all(r"\S+")
        frame = pl.DataFrame([pl.Series(LINE, np.arange(len(text)) + block.line), tokens])
        frame = each_element(frame.filter(text != ""), "item").filter(pl.col("item") != "")
        frame = frame.with_columns(_places(frame[LINE].to_numpy()))
        bad = []
        if keyed:
            first = frame.filter(pl.col("rank") == 0).select(LINE, pl.col("item").alias("user"))
            frame = frame.filter(pl.col("rank") > 0).join(first, on=LINE, how="left", maintain_order="left")
            frame = frame.with_columns(pl.col("rank") - 1)
            alone = first.filter(~pl.col(LINE).is_in(frame[LINE].implode()))
            other = alone.filter(pl.col("user").str.contains(r"[\s,;|]"))
            bad = [(n, f"no {separator!r} in the line", t) for n, t in other.rows()]
            if alone.height > other.height:
                notes[f"{file.name}: {alone.height - other.height:,} lines name a user and no item"] = None
        else:
            frame = frame.with_columns(pl.col(LINE).alias("user"))
        yield Batch(file, frame.select("user", "item", "rank", LINE), bad, block.bytes_read, list(notes))
        notes.clear()


def each_element(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row for each element of a list column, with `rank` its place from 0; empty lists give no row."""
    frame = frame.filter(pl.col(column).list.len() > 0)
    rows = np.repeat(np.arange(frame.height), frame[column].list.len().to_numpy())
    return frame.drop(column)[rows].with_columns(frame[column].explode(), _places(rows))


def _places(groups: np.ndarray) -> pl.Series:
    """Place of each row within its run of equal values, from 0."""
    n = np.arange(len(groups))
    starts = np.ones(len(groups), bool)
    starts[1:] = groups[1:] != groups[:-1]
    return pl.Series("rank", n - np.maximum.accumulate(np.where(starts, n, 0)))


def exploded(
    frame: pl.DataFrame, how: Explode, where: str, wanted: set[str], decided: dict[str, str]
) -> tuple[pl.DataFrame, list[str]]:
    """(one row for each element of a column, what is to be told); see `Explode` for what becomes of elements.

    decided: what the first batch of the file showed, kept for the others. wanted: the source columns that the mapping
    reads; `COLUMN.FIELD` is a field of the elements. Raises DataError where the file has no such column, ConfigError
    where the elements are objects and no field is read.
    """
    column, notes = how.column, []
    if column not in frame.columns:
        columns = ", ".join(c for c in frame.columns if c != LINE)
        raise DataError(f"{where} has no column {column!r} (to explode)", f"its columns: {columns}")
    values = frame[column]
    if values.dtype == pl.Null:
        values = values.cast(pl.List(pl.String))
    if not isinstance(values.dtype, pl.List | pl.Array):
        texts = values.cast(pl.String)
        separator = how.separator or decided.get("separator")
        if separator is None:
            plain = texts.drop_nulls()
            apart = plain.str.contains(r"\S\s+\S").any() and not plain.str.contains(_ENCLOSED).any()
            separator = decided["separator"] = " " if apart else ""
            if apart:
                notes.append(f"{column} is text: its elements are taken to stand between blanks (see `separator`)")
        if separator == " ":
            texts = texts.str.strip_chars().str.replace_all(r"\s+", " ")
        values = listed(texts.rename(column), separator or None).list.eval(
            pl.element().filter(pl.element().is_null() | (pl.element() != ""))
        )
    elif isinstance(values.dtype, pl.Array):
        values = values.arr.to_list()
    frame = frame.with_columns(values)
    empty = int((values.is_null() | (values.list.len() == 0)).sum())
    if empty:
        notes.append(f"{empty:,} rows have no element in {column}")
    frame = each_element(frame, column)
    frame = _with_fields(frame, column, {c for c in wanted if c.startswith(f"{column}.")}, where, column in wanted)
    return _with_label(frame, how, notes, decided), notes


def _with_fields(frame: pl.DataFrame, column: str, fields: set[str], where: str, itself: bool) -> pl.DataFrame:
    """The rows with the fields of the elements as columns `COLUMN.FIELD`."""
    elements = frame[column]
    if isinstance(elements.dtype, pl.Struct):
        inner = elements.struct.unnest()
        columns = {f"{column}.{name}": inner[name] for name in inner.columns}
        told = list(inner.columns)
        frame = frame.with_columns(*(s.alias(name) for name, s in columns.items()))
    elif elements.dtype == pl.String and (fields or itself):
        first = elements.drop_nulls().head(100).str.starts_with("{")
        if not fields and not first.any():
            return frame
        objects = [_object(text) for text in elements.to_list()]
        told = list(dict.fromkeys(name for o in objects[:1000] for name in o))
        frame = frame.with_columns(
            series([o.get(name.removeprefix(f"{column}.")) for o in objects]).alias(name) for name in sorted(fields)
        )
    else:
        return frame
    if told and itself:
        raise ConfigError(
            f"{where}: the elements of {column} are objects with the fields {', '.join(told[:8])}",
            f"map a field of them, such as `{column}.{told[0]}`",
        )
    return frame.drop(column) if told else frame


def _object(text: str | None) -> dict:
    try:
        value = orjson.loads(text) if text is not None else {}
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _with_label(frame: pl.DataFrame, how: Explode, notes: list[str], decided: dict[str, str]) -> pl.DataFrame:
    """The rows with what stands behind the last label separator of each element as column `label`."""
    column = how.column
    if column not in frame.columns or frame[column].dtype != pl.String:
        return frame
    mark = how.label if how.label is not None else decided.get("label")
    if mark is None:
        known = frame[column].drop_nulls()
        # every id ending in -0 or -1, with both about, is no coincidence: it is how impressions are written
        ends = known.str.extract(r"^\S+-([01])$")
        marked = ends.null_count() == 0 and ends.n_unique() == 2 and "label" not in frame.columns
        mark = decided["label"] = "-" if marked else ""
        if marked:
            notes.append(
                f"{column}: its elements end in a label ({known[0]}); it is split off as the column `label`, which an "
                'action can read (`explode: {label: ""}` keeps it)'
            )
    if mark == "":
        return frame
    pattern = f"^(.*){re.escape(mark)}(.*?)$"
    parts = frame[column].str.extract(pattern, 1), frame[column].str.extract(pattern, 2)
    return frame.with_columns(parts[0].fill_null(frame[column]).alias(column), parts[1].alias("label"))
