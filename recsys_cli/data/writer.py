"""Writing a dataset folder: Parquet tables in canonical types, and the manifest that describes them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_cli.data.digest import ORDERED_TABLES, TableDigest, dataset_digest
from recsys_cli.data.schema import COLUMNS, Action, ColumnKind, DatasetManifest, TableInfo
from recsys_cli.errors import DataError, nearest
from recsys_cli.files import atomic_dir, require_ours

if TYPE_CHECKING:
    import polars as pl

ARROW_TYPES: dict[ColumnKind, pa.DataType] = {
    "timestamp": pa.timestamp("us", "UTC"),
    "bool": pa.bool_(),
    "float": pa.float32(),
    "int": pa.int32(),
    "text": pa.string(),
    "category": pa.string(),
    "list": pa.list_(pa.string()),
}
"""Arrow type of each kind of column; ids are int64, or string where the owner's are."""


def arrow_table(table: pa.Table | pl.DataFrame) -> pa.Table:
    """A polars or Arrow table as Arrow with the plain types (no views, large offsets or dictionaries)."""
    if not isinstance(table, pa.Table):
        table = table.to_arrow()
    return table.cast(pa.schema([pa.field(f.name, plain_type(f.type)) for f in table.schema]))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that stands in a dataset for whatever a reader made of a column: plain texts, lists and moments."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return ARROW_TYPES["timestamp"]
    return kind


def conform(
    name: str, table: pa.Table | pl.DataFrame, actions: Mapping[str, object] = (), context: Collection[str] = ()
) -> pa.Table:
    """The table `name` with each known column in its canonical type; further attributes as they are.

    context: columns of impressions, beyond the schema and the actions, that were known before the outcome.
    Raises DataError where a required column is missing, a column cannot take its type, an action or a
    required column holds null, or a table other than `users` and `items` has a column of no known meaning.
    """
    table = arrow_table(table)
    known = COLUMNS[name]
    missing = [c for c, (_, required) in known.items() if required and c not in table.column_names]
    if missing:
        close = nearest(missing[0], table.column_names)
        raise DataError(
            f"table {name} has no column {missing[0]!r}",
            f"is it {close!r}?" if close else f"its columns: {', '.join(table.column_names) or 'none'}",
        )
    fields = []
    for field in table.schema:
        kind, required = known.get(field.name, ("bool", True) if field.name in actions else (None, False))
        if kind is None and name == "impressions":
            _require_context(field, actions, context)
        if kind is None and name not in ("users", "items", "impressions"):
            raise DataError(f"table {name}: unknown column {field.name!r}", f"it takes {', '.join(known)}")
        fields.append(pa.field(field.name, _target(kind, field.type), nullable=not required))
    try:
        table = table.cast(pa.schema(fields))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"table {name}: {reason}", "`recsys docs data` lists the type of each column") from None
    return table


def _require_context(field: pa.Field, actions: Mapping[str, object], context: Collection[str]) -> None:
    if field.name not in context:
        raise DataError(
            f"table impressions: column {field.name!r} is neither of the schema nor an action of this dataset",
            f"actions: {', '.join(actions) or 'none'}",
        )
    kind, types = field.type, pa.types
    number = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind) or types.is_boolean(kind)
    if not (number or types.is_string(kind) or types.is_large_string(kind)):
        raise DataError(
            f"table impressions: column {field.name!r} is of type {kind}",
            "further columns of impressions are numbers, Booleans or text",
        )


def _target(kind: ColumnKind | None, given: pa.DataType) -> pa.DataType:
    if kind is None:
        return given
    if kind == "id":
        return pa.int64() if pa.types.is_integer(given) else pa.string()
    return ARROW_TYPES[kind]


def encodings(schema: pa.Schema) -> dict[str, object]:
    """Options of a Parquet writer: whole numbers and moments as differences, dictionaries for the rest.

    A dictionary of ids or moments, of which few come twice, costs four times the seconds and three times the bytes.
    """
    whole = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_timestamp(f.type)]
    lists = [f"{f.name}.list.element" for f in schema if pa.types.is_list(f.type)]
    others = [f.name for f in schema if f.name not in whole and not pa.types.is_floating(f.type)]
    return {"use_dictionary": [*others, *lists], "column_encoding": dict.fromkeys(whole, "DELTA_BINARY_PACKED")}


class TableWriter:
    """Streams one table to a Parquet file, keeping its digest and, for `impressions`, its totals.

    Every batch must have the columns of the first. Batches become row groups; give them in chunks of
    some ten thousand rows or more.
    """

    def __init__(self, path: Path, name: str, actions: Mapping[str, object] = (), context: Collection[str] = ()):
        self.name = name
        self._context = context
        self.rows = 0
        self.action_counts = dict.fromkeys(actions, 0)
        self.without_positive = 0
        self.time_span: tuple[int, int] | None = None
        self._positive = [a for a, polarity in dict(actions).items() if polarity == "positive"]
        self._path = path
        self._digest = TableDigest(ordered=name in ORDERED_TABLES)
        self._file: pq.ParquetWriter | None = None
        self._schema: pa.Schema | None = None

    def write(self, batch: pa.Table | pl.DataFrame) -> None:
        """Append rows; raises DataError as `conform` does."""
        batch = conform(self.name, batch, self.action_counts, self._context)
        if self._file is None:
            self._schema = batch.schema
            self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd", **encodings(self._schema))
        elif batch.schema != self._schema:
            batch = self._fit(batch)
        if batch.num_rows == 0:
            return
        self._file.write_table(batch)
        self._digest.update(batch)
        self.rows += batch.num_rows
        if self.name == "impressions":
            self._count(batch)

    def _fit(self, batch: pa.Table) -> pa.Table:
        """A later batch in the columns of the first: what it lacks is null."""
        if more := [c for c in batch.column_names if c not in self._schema.names]:
            raise DataError(
                f"table {self.name}: column {more[0]!r} is in later rows but not in the first",
                "every file and part of a table must give the same columns",
            )
        lacking = [f for f in self._schema if f.name not in batch.column_names]
        if needed := [f.name for f in lacking if not f.nullable]:
            raise DataError(
                f"table {self.name}: later rows have no column {needed[0]!r}", "every part must give it"
            )
        for f in lacking:
            batch = batch.append_column(f, pa.nulls(batch.num_rows, f.type))
        return batch.select(self._schema.names).cast(self._schema)

    def _count(self, batch: pa.Table) -> None:
        positive = np.zeros(batch.num_rows, bool)
        for action in self.action_counts:
            done = batch[action].to_numpy()
            self.action_counts[action] += int(done.sum())
            if action in self._positive:
                positive |= done
        self.without_positive += int((~positive).sum())
        low, high = (v.as_py() for v in pc.min_max(batch["timestamp"].cast(pa.int64())).values())
        if self.time_span is not None:
            low, high = min(low, self.time_span[0]), max(high, self.time_span[1])
        self.time_span = (low, high)

    def close(self) -> TableInfo:
        """Finish the file; a table to which nothing was written leaves no file and has no columns."""
        if self._file is not None:
            self._file.close()
        columns = {} if self._schema is None else {f.name: str(f.type) for f in self._schema}
        return TableInfo(rows=self.rows, digest=self._digest.hexdigest(), columns=columns)


class DatasetWriter:
    """Writes tables into an empty folder and, at `finish`, the manifest.

    actions: action → "positive" or "negative", in the order of reports. context: as `conform` takes it.
    """

    def __init__(self, folder: Path, name: str, actions: Mapping[str, str], context: Collection[str] = ()):
        self.folder = folder
        self.context = set(context)
        self.name = name
        self.actions = dict(actions)
        self._writers: dict[str, TableWriter] = {}

    def table(self, name: str) -> TableWriter:
        """The writer of one table, made at the first call."""
        if name not in self._writers:
            actions = self.actions if name == "impressions" else {}
            self._writers[name] = TableWriter(self.folder / f"{name}.parquet", name, actions, self.context)
        return self._writers[name]

    def finish(
        self,
        *,
        origin: dict | None = None,
        has_time: bool = True,
        has_order: bool = True,
        authors_are_users: bool = False,
        splits: dict[str, tuple[int, int]] | None = None,
    ) -> DatasetManifest:
        """Close every table and write `dataset.json`; tables without any batch are left out."""
        tables = {name: info for name, w in self._writers.items() if (info := w.close()).columns}
        log = self._writers.get("impressions")
        counts = log.action_counts if log else {}
        manifest = DatasetManifest(
            name=self.name,
            origin=origin or {},
            tables=tables,
            actions={a: Action(polarity=p, count=counts.get(a, 0)) for a, p in self.actions.items()},
            time_span=log.time_span if log and has_time else None,
            has_time=has_time,
            has_order=has_time or has_order,
            negatives_observed=bool(log and log.without_positive),
            authors_are_users=authors_are_users,
            splits=splits,
            digest=dataset_digest({name: info.digest for name, info in tables.items()}),
        )
        text = orjson.dumps(
            manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        )
        (self.folder / "dataset.json").write_bytes(text)
        return manifest

    def abandon(self) -> None:
        """Close open files after a failure; the folder is not a dataset."""
        for writer in self._writers.values():
            with contextlib.suppress(OSError, pa.ArrowException):
                writer.close()


_TRUTH = ("world.arrays", "future_items.parquet", "responses.parquet")
_PART = re.compile(r"part-\d{5,}\.parquet")


def dataset_files(folder: Path) -> set[str]:
    """Names below a folder of what a dataset of ours put there, as its manifest says; none without one of ours."""
    try:
        content = orjson.loads((folder / "dataset.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return set()
    if not isinstance(content, dict) or not {"schema_version", "tables", "origin"} <= content.keys():
        return set()
    if not isinstance(content["tables"], dict) or not isinstance(content["origin"], dict):
        return set()
    tables = [t for t in content["tables"] if t in COLUMNS]
    out = {"dataset.json", "rejects.parquet", *(f"{t}.parquet" for t in tables)}
    if "generator" in content["origin"]:
        out.update(f"truth/{name}" for name in _TRUTH)
        tables.append("truth/responses")
    return out | {f"{t}/{p.name}" for t in tables for p in (folder / t).glob("part-*") if _PART.fullmatch(p.name)}


def require_replaceable(path: str | os.PathLike) -> None:
    """Raises UsageError where writing a dataset to `path` would remove something that is of no dataset of ours."""
    require_ours(path, dataset_files)


def write_dataset(
    path: str | os.PathLike,
    name: str,
    tables: Mapping[str, pa.Table | pl.DataFrame],
    actions: Mapping[str, str],
    *,
    origin: dict | None = None,
    has_time: bool = True,
    has_order: bool = True,
    authors_are_users: bool = False,
    splits: dict[str, tuple[int, int]] | None = None,
    context: Collection[str] = (),
) -> DatasetManifest:
    """Write a whole dataset folder at `path`, replacing one that is there, and return its manifest.

    tables: table name → rows (see `schema.COLUMNS`). actions: action → "positive" or "negative"; each is a
    Boolean column of `impressions`. context: as `conform` takes it. Types are made canonical; raises DataError as
    `conform` does, UsageError where `path` holds something that is no dataset.
    """
    with atomic_dir(path, ours=dataset_files) as folder:
        writer = DatasetWriter(folder, name, actions, context)
        for table, rows in tables.items():
            writer.table(table).write(rows)
        return writer.finish(
            origin=origin, has_time=has_time, has_order=has_order, authors_are_users=authors_are_users, splits=splits,
        )
