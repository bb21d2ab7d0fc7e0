"""Files as batches of raw rows, each row with its place; lines that do not parse are handed over apart."""

from __future__ import annotations

import contextlib
import lzma
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from recsys_cli.data.importer.batches import LINE, Batch
from recsys_cli.data.importer.containers import inspect
from recsys_cli.data.importer.delimited import header_of, read_csv
from recsys_cli.data.importer.ids import as_text
from recsys_cli.data.importer.json_rows import read_json
from recsys_cli.data.importer.lists import read_lists
from recsys_cli.data.importer.mapping import Source
from recsys_cli.data.importer.text import Dialect, blocks
from recsys_cli.errors import ConfigError, DataError

PARQUET_ROWS = 1 << 17
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
}
_PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip")


def find_files(source: Source, folder: Path) -> list[Path]:
    """The files of a part, globs expanded in sorted order; [] where it is optional and none is there.

    Raises DataError where a file is missing.
    """
    found: list[Path] = []
    for pattern in source.files:
        matches = sorted(folder.glob(pattern)) if any(c in pattern for c in "*?[") else [folder / pattern]
        matches = [m for m in matches if m.is_file()]
        if not matches and not source.optional:
            raise DataError(f"no file {pattern} in {folder}", _what_is_there(folder))
        found.extend(m for m in matches if m not in found)
    return found


def _what_is_there(folder: Path) -> str:
    if not folder.is_dir():
        return "the folder given with --from does not exist"
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    return (
        f"it holds {', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
        if names
        else "the folder is empty"
    )


def form_of(source: Source, file: Path) -> tuple[str, str | None]:
    """(format, separator) of a file, from its first bytes where they tell, else from the mapping or the name.

    The separator is None where blanks of any number stand between the fields of lists.
    """
    kind = inspect(file)
    if kind.table:
        if kind.packed:
            raise DataError(f"{file} is a Parquet file packed with {kind.packed}", "unpack it")
        return kind.table, None
    suffixes = [s.lower() for s in file.suffixes if s.lower() not in _PACKED]
    last = suffixes[-1] if suffixes else ""
    form = source.format or _SUFFIXES.get(last) or ("csv" if source.separator else None)
    if form == "parquet":
        raise DataError(f"{file} is not a Parquet file, though its name or the mapping says so", "give its `format`")
    if form is None and kind.array:
        form = "jsonl"
    if form is None:
        raise ConfigError(
            f"the form of {file.name} does not show in its name",
            "give `format` (and `separator`) in the mapping",
        )
    separator = source.separator or {".csv": ",", ".tsv": "\t"}.get(last)
    if form in ("csv", "grouped") and separator is None:
        raise ConfigError(
            f"the separator of {file.name} does not show in its name", "give `separator` in the mapping"
        )
    return form, source.separator if form in ("adjacency", "sequences") else separator


def read(source: Source, file: Path, columns: list[str] | None = None) -> Iterator[Batch]:
    """Batches of a file.

    columns: the source columns wanted, None for all; those that the file has not are left out.
    Raises DataError where the file is unreadable, truncated, empty or of another encoding.
    """
    if columns is not None:
        columns = sorted({*columns, *source.where})
    for batch in _read(source, file, columns):
        yield _taken(source, batch) if source.where else batch


def _taken(source: Source, batch: Batch) -> Batch:
    """A batch with the rows that `where` takes; raises DataError where a column of it is missing."""
    conditions = []
    for column, values in source.where.items():
        if column not in batch.frame.columns:
            columns = ", ".join(c for c in batch.frame.columns if c != LINE)
            raise DataError(f"{batch.file} has no column {column!r} (for `where`)", f"its columns: {columns}")
        texts = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
        conditions.append(as_text(pl.col(column), batch.frame.schema[column]).is_in(texts).fill_null(False))
    frame = batch.frame.filter(*conditions)
    return replace(batch, frame=frame, passed_over=batch.frame.height - frame.height)


def _read(source: Source, file: Path, columns: list[str] | None) -> Iterator[Batch]:
    with _unreadable(file):
        form, separator = form_of(source, file)
        if form == "parquet":
            yield from _read_parquet(file, columns)
        elif form in ("csv", "grouped"):
            yield from read_csv(source, file, separator or "", columns)
        elif form == "jsonl":
            yield from read_json(source, file, columns)
        else:
            yield from read_lists(source, file, separator, form == "adjacency")


def column_names(source: Source, file: Path) -> list[str] | None:
    """Names of the source columns of a file; None for JSON lines, where each row has its own."""
    with _unreadable(file):
        form, separator = form_of(source, file)
    if form == "jsonl":
        return None
    if form in ("adjacency", "sequences"):
        return ["user", "item", "rank"]
    if form == "grouped":
        return [*source.names, "group"]
    if source.names and form == "csv":
        return list(source.names)
    with _unreadable(file):
        if form == "parquet":
            from pyarrow.parquet import read_schema

            return read_schema(file).names
        dialect = Dialect(separator or "", source.quote, source.escape)
        block = next(blocks(source, file, dialect, {}), None)
        return [] if block is None else header_of(source, file, block.content, dialect)[0]


def first_columns(source: Source, file: Path) -> list[str]:
    """Names of the source columns, for JSON lines those of the first rows."""
    names = column_names(source, file)
    if names is None:
        first = next(read(source, file), None)
        names = first.frame.drop(LINE).columns if first else []
    return names


@contextlib.contextmanager
def _unreadable(file: Path) -> Iterator[None]:
    try:
        if file.stat().st_size == 0:
            raise DataError(f"{file} is empty", "give a file with rows, or leave it out of the mapping")
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise DataError(
            f"{file} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "the file is damaged, truncated or of another form than its name and the mapping say",
        ) from None


def _read_parquet(file: Path, columns: list[str] | None) -> Iterator[Batch]:
    size = file.stat().st_size
    from pyarrow.parquet import ParquetFile  # a table of texts need not wait for it

    with ParquetFile(file) as parquet:
        rows, row = parquet.metadata.num_rows, 1
        # nested columns have dotted leaves, so take the top-level names
        wanted = [c for c in parquet.schema_arrow.names if columns is None or c in columns]
        for batch in parquet.iter_batches(batch_size=PARQUET_ROWS, columns=wanted, use_threads=True):
            frame = pl.from_arrow(pa.table([_plain(c) for c in batch.columns], names=batch.schema.names))
            lines = pl.Series(LINE, np.arange(row, row + batch.num_rows))
            row += batch.num_rows
            frame = frame.with_columns(lines) if frame.width else lines.to_frame()
            yield Batch(file, frame, [], size * batch.num_rows // max(rows, 1))


def _plain(column: pa.Array) -> pa.Array:
    """Binary values as texts: UTF-8 as it is, sixteen bytes each as UUIDs; others stay what they are."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        column, kind = column.storage, kind.storage_type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)):
        return column
    with contextlib.suppress(pa.ArrowInvalid):
        if not (pa.types.is_fixed_size_binary(kind) and kind.byte_width == 16):
            return column.cast(pa.large_binary()).cast(pa.large_string())
    values = column.to_pylist()
    if all(v is None or len(v) == 16 for v in values):
        return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in values], pa.large_string())
    return column
