"""Labelled texts from files, or from a column that the items (or users) of a dataset have."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.mapping import Source
from recsys_cli.data.importer.readers import column_names, read
from recsys_cli.errors import DataError, RecsysError, UsageError, did_you_mean
from recsys_cli.safety.text import join_fields, words_of

YES, NO = ("1", "true", "yes"), ("0", "false", "no")
MAX_BAD_SHARE = 0.01
"""Rows of another width than the header that a file may have; they are left out and counted."""


@dataclass(frozen=True)
class LabelOptions:
    """Which column is the label, what it must say, and how files are written."""

    label: str
    positive: tuple[str, ...] = ()
    """Values of the positive class; by default 1, true and yes."""
    negative: tuple[str, ...] = ()
    """Values of the negative class; by default every other."""
    above: float | None = None
    """Instead of values: a number above this is positive."""
    text: tuple[str, ...] = ("text",)
    """Columns of the text; the words of all but the first are marked with their column's name."""
    header: bool = True
    """Without a header columns are called 1, 2, 3, …"""
    separator: str | None = None
    quote: str | None = None
    """By default \" in CSV and none in TSV."""
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if self.above is not None and (self.positive or self.negative):
            raise UsageError("--above and --positive or --negative exclude each other", "give one of them")
        if both := set(self.positive) & set(self.negative):
            raise UsageError(f"{sorted(both)[0]!r} is named as positive and as negative", "name each value once")


@dataclass
class Labelled:
    """Rows with a label: parallel lists."""

    texts: list[str]
    labels: np.ndarray
    """bool[n]"""
    rows: np.ndarray
    """int64[n] places in the table they come from"""
    left_out: dict[str, int] = field(default_factory=dict)
    """reason → rows"""
    origin: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


def from_files(files: Sequence[Path], options: LabelOptions) -> Labelled:
    """The rows of CSV, TSV, JSON lines or Parquet files, one after the other.

    Raises DataError naming file and line where a file cannot be read, a column is missing or a label is none of
    the named values.
    """
    parts = [_read(Path(file), options) for file in files]
    frame = pl.concat([part for part, _ in parts])
    out = _labelled(frame, options)
    bad = sum(count for _, count in parts)
    if bad:
        out.left_out["rows of another width"] = bad
    out.origin = [str(file) for file in files]
    return out


def from_dataset(dataset: Dataset, options: LabelOptions, table: str = "items") -> Labelled:
    """The rows of a dataset's `items` (or `users`) that carry a label."""
    frame = dataset.items if table == "items" else dataset.users
    wanted = (options.label,) if table == "users" else (*options.text, options.label)
    for column in wanted:
        _column(column, frame.columns, f"{dataset.path}: table {table}")
    frame = frame.with_columns(pl.Series("row", np.arange(1, frame.height + 1)))
    frame = frame.filter(pl.col(options.label).is_not_null())
    texts = (
        _text(frame.select(words_of(frame[c]) for c in options.text))
        if table == "items"
        else pl.Series("text", ["-"] * frame.height)
    )
    place = pl.lit(f"{dataset.path / table} row ").alias("file")
    frame = pl.DataFrame([texts, _value(frame[options.label]), frame["row"]]).with_columns(place)
    if not frame.height:
        raise DataError(f"{dataset.path}: column {options.label!r} of {table} is empty", "name another --label-column")
    out = _labelled(frame, options)
    out.origin = [f"{dataset.path} {table}.{options.label}"]
    return out


def _read(file: Path, options: LabelOptions) -> tuple[pl.DataFrame, int]:
    if not file.is_file():
        raise DataError(f"no file {file}", "check the path given with --labels or --test-labels")
    tabs = file.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".tsv")
    quote = options.quote if options.quote is not None else None if tabs else '"'
    how = {
        "files": [str(file)], "separator": options.separator, "quote": quote or None, "encoding": options.encoding
    }
    try:
        if options.header:
            names = column_names(Source(**how), file)
        else:
            names = [str(n + 1) for n in range(_width(file, options, tabs, quote))]
            how |= {"header": False, "names": names}
        for column in (*options.text, options.label):
            if names is not None:
                _column(column, names, str(file))
        frames, bad, first = [], 0, ""
        for batch in read(Source(**how), file, [*options.text, options.label]):
            for column in (*options.text, options.label):
                _column(column, batch.frame.columns, str(file))
            frame = batch.frame
            texts = frame.select(words_of(frame[c]) for c in options.text)
            value = _value(frame[options.label])
            frames.append(
                pl.DataFrame([_text(texts), value, frame[LINE].cast(pl.Int64).alias("row")]).with_columns(
                    pl.lit(f"{file} line ").alias("file")
                )
            )
            if batch.bad and not first:
                first = f"{file} line {batch.bad[0][0]}: {batch.bad[0][1]}"
            bad += len(batch.bad)
    except DataError as error:
        if "encoding" in (error.hint or ""):
            raise DataError(error.message, "convert it to UTF-8, or give --encoding, for example latin-1") from None
        if "mapping" in (error.hint or ""):
            raise DataError(error.message, "give another file, or --separator, --quote or --no-header") from None
        raise
    except RecsysError as error:
        raise DataError(error.message, "give --separator, or a name that ends in .csv, .tsv or .parquet") from None
    frame = pl.concat(frames).select("text", "label", "file", "row") if frames else None
    if frame is None or not frame.height:
        raise DataError(f"{file} has no rows", "give a file with a text and a label in each row")
    if bad > MAX_BAD_SHARE * (frame.height + bad):
        raise DataError(f"{first} ({bad:,} such rows)", "check --separator and --quote")
    return frame, bad


def _width(file: Path, options: LabelOptions, tabs: bool, quote: str | None) -> int:
    """Fields in the first line of a file without a header."""
    separator = options.separator or ("\t" if tabs else ",")
    with pa.input_stream(str(file)) as stream:  # unpacks what is compressed
        line = stream.read(1 << 20).partition(b"\n")[0].decode(options.encoding, "replace").rstrip("\r")
    if quote and len(separator) == 1:
        return len(next(csv.reader([line], delimiter=separator, quotechar=quote), [""]))
    return len(line.split(separator))


def _column(column: str, names: Sequence[str], where: str) -> None:
    if column not in names:
        known = ", ".join(n for n in list(names)[:12] if n != LINE)
        raise DataError(
            f"{where} has no column {column!r}", did_you_mean(column, names, f"it has {known}")
        )


def _text(columns: pl.DataFrame) -> pl.Series:
    names = columns.columns
    if len(names) == 1:
        return columns.to_series().fill_null("").alias("text")
    return pl.Series("text", [join_fields(names, row) for row in columns.iter_rows()], dtype=pl.String)


def _value(label: pl.Series) -> pl.Series:
    """A label as text: whole numbers without a point, Booleans as true and false."""
    if label.dtype.is_float() and (label.drop_nulls() == label.drop_nulls().round(0)).all():
        label = label.cast(pl.Int64, strict=False)
    return label.cast(pl.String).str.strip_chars().alias("label")


def _labelled(frame: pl.DataFrame, options: LabelOptions) -> Labelled:
    value = frame["label"].fill_null("")
    if options.above is not None:
        numbers = value.cast(pl.Float64, strict=False)
        _refuse(frame, numbers.is_null() | numbers.is_nan(), "is not a number", "--above needs numbers")
        labels = (numbers > options.above).to_numpy()
    else:
        labels = _named(frame, value, options)
    left_out = {}
    empty = (frame["text"].str.strip_chars() == "").to_numpy()
    if empty.any():
        left_out["rows without text"] = int(empty.sum())
    texts = frame.filter(pl.Series(~empty))["text"].to_list()
    out = Labelled(texts, labels[~empty], frame["row"].to_numpy()[~empty], left_out)
    if not len(out):
        raise DataError(f"{frame['file'][0].removesuffix(' line ')}: no row has a text", "name another --text-column")
    if out.labels.all() or not out.labels.any():
        held = ", ".join(repr(v) for v in value.unique().sort().to_list()[:8])
        side = "positive" if out.labels.all() else "negative"
        raise DataError(
            f"every label is {side} (column {options.label!r} holds {held})",
            "name the values of the positive class with --positive, or a threshold with --above",
        )
    return out


def _named(frame: pl.DataFrame, value: pl.Series, options: LabelOptions) -> np.ndarray:
    positive, negative = options.positive, options.negative
    if not positive:
        positive, negative = YES, negative or NO
        value = value.str.to_lowercase()
    _refuse(frame, value == "", "is empty", "give every row a label, or leave the row out")
    if negative:
        named = ", ".join([*positive, *negative])
        hint = "name it with --positive or --negative"
        if not options.positive:
            hint = "name the values of the positive class with --positive, or a threshold with --above"
        _refuse(frame, ~value.is_in([*positive, *negative]), f"is none of {named}", hint)
    return value.is_in(list(positive)).to_numpy()


def _refuse(frame: pl.DataFrame, wrong: pl.Series, what: str, hint: str) -> None:
    if wrong.any():
        row = int(wrong.arg_max())
        count = int(wrong.sum())
        place = f"{frame['file'][row]}{frame['row'][row]}"
        more = f" ({count:,} such rows)" if count > 1 else ""
        raise DataError(f"{place}: label {frame['label'][row] or ''!r} {what}{more}", hint)
