"""Is a folder the dataset that its manifest says? Every check, each with what it found."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cli.data.dataset import read_manifest, table_files
from recsys_cli.data.digest import dataset_digest, table_digest
from recsys_cli.data.importer.convert import RANGES
from recsys_cli.data.schema import COLUMNS, DAY, SECOND, DatasetManifest
from recsys_cli.progress import Progress

EARLIEST = "1990-01-01"
"""A moment before it was given in the wrong unit, almost surely; the manifest's `origin.earliest` may differ."""


_CONTEXT = frozenset(
    ("string", "bool", "float", "double", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
)
"""Types of what was known of an impression before its outcome."""


@dataclass
class Check:
    """One check: what was looked at, whether it holds, and the count and first place of what is wrong."""

    table: str
    check: str
    ok: bool
    detail: str = ""


class _Fault(Exception):
    """A check that fails, with what was found."""


def validate_dataset(folder: str | os.PathLike, progress: Progress | None = None) -> list[Check]:
    """Check a dataset folder against the schema and its manifest.

    Raises DataError where there is no readable manifest; everything else is in the result.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    checks: list[Check] = []

    def check(table: str, name: str, test: Callable[[], str | None]) -> bool:
        checks.append(_checked(table, name, test))
        return checks[-1].ok

    readable: dict[str, list[Path]] = {}
    with (progress or Progress()).step("validate", len(manifest.tables)) as step:
        check("dataset", "required tables", lambda: _required_tables(manifest))
        check("dataset", "digest of all tables", lambda: _dataset_digest(manifest))
        for name, info in manifest.tables.items():
            files = table_files(folder, name)
            if check(name, "file", lambda f=files, n=name: _readable(f, folder / f"{n}.parquet")):
                readable[name] = files
                same = check(name, "columns", lambda f=files, i=info: _columns(f, i.columns))
                check(name, "rows", lambda f=files, i=info: _rows(f, i.rows))
                check(name, "digest", lambda f=files, i=info, n=name: _digest(f, n, i.digest))
                if same:
                    for what, test in _content(name, files, manifest):
                        check(name, what, test)
                else:
                    del readable[name]
            step.advance()
        for table, what, test in _references(readable, manifest):
            check(table, what, test)
    return checks


def digest_checks(folder: str | os.PathLike, progress: Progress | None = None) -> list[Check]:
    """Whether the content of every table is what its manifest tells by rows and digest; see `validate_dataset`."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    tests = [("dataset", lambda: _dataset_digest(manifest))]
    for name, info in manifest.tables.items():
        files = table_files(folder, name)
        tests.append((name, lambda f=files, n=name: _readable(f, folder / f"{n}.parquet")))
        tests.append((name, lambda f=files, i=info: _rows(f, i.rows)))
        tests.append((name, lambda f=files, i=info, n=name: _digest(f, n, i.digest)))
    checks: list[Check] = []
    with (progress or Progress()).step("check data", len(tests)) as step:
        for table, test in tests:
            checks.append(_checked(table, "digest", test))
            if not checks[-1].ok:
                break
            step.advance()
    return checks


def _checked(table: str, name: str, test: Callable[[], str | None]) -> Check:
    try:
        return Check(table, name, True, test() or "")
    except _Fault as fault:
        return Check(table, name, False, str(fault))
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        return Check(table, name, False, str(error).splitlines()[0])


def _required_tables(manifest: DatasetManifest) -> str:
    missing = [t for t in ("users", "items", "impressions") if t not in manifest.tables]
    if missing:
        raise _Fault(f"no table {', '.join(missing)}")
    strange = [t for t in manifest.tables if t not in COLUMNS]
    if strange:
        raise _Fault(f"unknown table {strange[0]!r}")
    return f"{len(manifest.tables)} tables"


def _dataset_digest(manifest: DatasetManifest) -> None:
    expected = dataset_digest({name: info.digest for name, info in manifest.tables.items()})
    if expected != manifest.digest:
        raise _Fault(f"{expected}, the manifest says {manifest.digest or 'nothing'}")


# --- files against the manifest ---------------------------------------------------------------------------


def _readable(files: list[Path], expected: Path) -> str:
    if not files:
        raise _Fault(f"{expected} is missing")
    for file in files:
        try:
            pq.read_metadata(file)
        except (OSError, pa.ArrowException) as error:
            raise _Fault(f"{file.name} cannot be read: {str(error).splitlines()[0]}") from None
    return files[0].name if len(files) == 1 else f"{len(files)} files"


def _columns(files: list[Path], expected: dict[str, str]) -> str:
    for file in files:
        found = {f.name: str(f.type) for f in pq.read_schema(file)}
        for name, kind in expected.items():
            if name not in found:
                raise _Fault(f"{file.name} has no column {name!r}")
            if _same(found[name]) != _same(kind):
                raise _Fault(f"{file.name}: {name} is {found[name]}, the manifest says {kind}")
        if more := [c for c in found if c not in expected]:
            raise _Fault(f"{file.name}: column {more[0]!r} is not in the manifest")
    return f"{len(expected)} columns"


def _same(kind: str) -> str:
    """Arrow type without what makes no difference: names of list elements, widths of offsets, dictionaries."""
    for name in ("item: ", "element: ", "large_"):
        kind = kind.replace(name, "")
    return "string" if kind.startswith("dictionary<values=string") else kind


def _rows(files: list[Path], expected: int) -> str:
    rows = sum(pq.read_metadata(f).num_rows for f in files)
    if rows != expected:
        raise _Fault(f"{rows:,} rows, the manifest says {expected:,}")
    return f"{rows:,}"


def _digest(files: list[Path], name: str, expected: str) -> str:
    def batches() -> Iterator[pa.RecordBatch]:
        for file in files:
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(batch_size=1 << 17)

    digest = table_digest(name, batches()).hexdigest()
    if digest != expected:
        raise _Fault(f"{digest}, the manifest says {expected}: the rows were altered")
    return digest


# --- content ----------------------------------------------------------------------------------------------


def _content(
    name: str, files: list[Path], manifest: DatasetManifest
) -> Iterator[tuple[str, Callable[[], str | None]]]:
    columns = manifest.tables[name].columns
    frame = pl.scan_parquet(files, hive_partitioning=False)
    required = [c for c, (_, needed) in COLUMNS.get(name, {}).items() if needed]
    required += list(manifest.actions) if name == "impressions" else []
    yield "schema", lambda: _schema(name, columns, manifest)
    yield "no nulls", lambda: _no_nulls(frame, [c for c in required if c in columns])
    if name in ("users", "items"):
        yield "unique ids", lambda: _unique(frame, required[0])
    for column, (kind, _) in COLUMNS.get(name, {}).items():
        if column not in columns:
            continue
        if kind == "timestamp" and (manifest.has_time or name != "impressions"):
            yield f"{column} within bounds", lambda c=column: _moments(frame, c, manifest)
        elif column in RANGES or column == "propensity":
            yield f"{column} within bounds", lambda c=column: _in_range(frame, c)
    if name == "impressions":
        yield "action counts", lambda: _actions(frame, manifest)
        yield "time span", lambda: _span(frame, manifest)
    if name in ("follows", "blocks"):
        yield "no repeated edges", lambda: _unique(frame, *required)


def _schema(name: str, columns: dict[str, str], manifest: DatasetManifest) -> None:
    kinds = {
        "timestamp": ("timestamp[us, tz=UTC]",),
        "bool": ("bool",),
        "float": ("float", "double"),
        "int": ("int8", "int16", "int32", "int64"),
        "id": ("int64", "int32", "string"),
        "text": ("string",),
        "category": ("string",),
        "list": ("list<string>", "list<int64>", "list<int32>"),
    }
    known = COLUMNS.get(name, {})
    for column, (_, required) in known.items():
        if required and column not in columns:
            raise _Fault(f"required column {column!r} is missing")
    for column, given in columns.items():
        kind = known[column][0] if column in known else ("bool" if column in manifest.actions else None)
        if kind is None and name == "impressions" and _same(given) not in _CONTEXT:
            raise _Fault(f"{column} is {given}, a further column of impressions is a number, a Boolean or a string")
        if kind is None and name not in ("users", "items", "impressions"):
            raise _Fault(f"column {column!r} is not of the schema")
        if kind is not None and _same(given) not in kinds[kind]:
            raise _Fault(f"{column} is {given}, the schema wants {kinds[kind][0]}")
    if name == "impressions" and (missing := [a for a in manifest.actions if a not in columns]):
        raise _Fault(f"action {missing[0]!r} has no column")


def _no_nulls(frame: pl.LazyFrame, columns: list[str]) -> None:
    counts = frame.select(pl.col(c).null_count() for c in columns).collect().row(0, named=True)
    for column, count in counts.items():
        if count:
            raise _Fault(
                f"{column}: {count:,} nulls, first in row {_first(frame, pl.col(column).is_null()):,}"
            )


def _first(frame: pl.LazyFrame, wrong: pl.Expr) -> int:
    """1-based row of the first fault."""
    return int(frame.select(wrong.fill_null(False).arg_max()).collect().item()) + 1


def _unique(frame: pl.LazyFrame, *columns: str) -> str:
    again = ~pl.struct(columns).is_first_distinct()
    count = frame.select(again.sum()).collect().item()
    if count:
        row = _first(frame, again)
        value = frame.select(columns).slice(row - 1, 1).collect().row(0)
        raise _Fault(f"{count:,} repeated, first in row {row:,}: {', '.join(map(str, value))}")
    return ""


def _moments(frame: pl.LazyFrame, column: str, manifest: DatasetManifest) -> None:
    day = str(manifest.origin.get("earliest", EARLIEST))
    earliest = int(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC).timestamp()) * SECOND
    latest = int(dt.datetime.now(dt.UTC).timestamp()) * SECOND + DAY
    value = pl.col(column).cast(pl.Datetime("us")).cast(pl.Int64)
    for wrong, what in (
        (value < earliest, f"before {day} (wrong unit?)"),
        (value > latest, "in the future (wrong unit?)"),
    ):
        count = frame.select(wrong.sum()).collect().item()
        if count:
            raise _Fault(f"{count:,} {what}, first in row {_first(frame, wrong):,}")


def _in_range(frame: pl.LazyFrame, column: str) -> None:
    value = pl.col(column).cast(pl.Float64)
    if column == "propensity":
        inside, what = (value > 0) & (value <= 1), "outside 0 (excluded) to 1"
    else:
        low, high, what = RANGES[column]
        inside = value.is_between(low, high)
    wrong = value.is_not_null() & (value.is_nan() | inside.not_())
    count = frame.select(wrong.sum()).collect().item()
    if count:
        raise _Fault(
            f"{count:,} {what.removeprefix('is ').removeprefix('lies ')}, first in row {_first(frame, wrong):,}"
        )


def _actions(frame: pl.LazyFrame, manifest: DatasetManifest) -> str:
    if not manifest.actions:
        raise _Fault("the manifest names no action")
    positive = [a for a, info in manifest.actions.items() if info.polarity == "positive"]
    counts = (
        frame.select(
            *(pl.col(a).sum() for a in manifest.actions),
            (~pl.any_horizontal(positive)).sum().alias("__without")
            if positive
            else pl.len().alias("__without"),
        )
        .collect()
        .row(0, named=True)
    )
    for action, info in manifest.actions.items():
        if counts[action] != info.count:
            raise _Fault(f"{action}: {counts[action]:,}, the manifest says {info.count:,}")
    if bool(counts["__without"]) != manifest.negatives_observed:
        raise _Fault(
            f"{counts['__without']:,} impressions without a positive action, "
            f"negatives_observed is {manifest.negatives_observed}"
        )
    return ", ".join(manifest.actions)


def _span(frame: pl.LazyFrame, manifest: DatasetManifest) -> str:
    value = pl.col("timestamp").cast(pl.Datetime("us")).cast(pl.Int64)
    found = frame.select(value.min().alias("low"), value.max().alias("high")).collect().row(0)
    if manifest.has_time and manifest.time_span is not None and tuple(found) != tuple(manifest.time_span):
        raise _Fault(
            f"{found[0]} to {found[1]}, the manifest says {manifest.time_span[0]} to {manifest.time_span[1]}"
        )
    for name, (start, end) in (manifest.splits or {}).items():
        if start >= end:
            raise _Fault(f"split {name!r} is empty")
    if "split" in manifest.tables["impressions"].columns:
        named = set(frame.select(pl.col("split").cast(pl.String).unique()).collect()["split"].to_list())
        if named != set(manifest.splits or {}):
            said = ", ".join(manifest.splits or {}) or "none"
            raise _Fault(f"parts {', '.join(sorted(map(str, named)))}, the manifest says {said}")
    if manifest.has_time:
        return ""
    return "order stands for time" if manifest.has_order else "neither time nor order"


# --- references -------------------------------------------------------------------------------------------


def _references(
    readable: dict[str, list[Path]], manifest: DatasetManifest
) -> Iterator[tuple[str, str, Callable[[], str | None]]]:
    def ids(table: str, column: str) -> pl.Series | None:
        if table not in readable or column not in manifest.tables[table].columns:
            return None
        try:
            return pl.read_parquet(readable[table], columns=[column], hive_partitioning=False)[column]
        except (pl.exceptions.PolarsError, OSError):
            return None  # the check of the table's digest says so

    users, items = ids("users", "user_id"), ids("items", "item_id")
    authors = users if manifest.authors_are_users else ids("items", "author_id")
    people = "users" if manifest.authors_are_users else "authors"
    known = {
        "user_id": (users, "users"),
        "item_id": (items, "items"),
        "follower_id": (users, "users"),
        "followee_id": (authors, people),
        "author_id": (authors, people),
    }
    for table in readable:
        for column in manifest.tables[table].columns:
            if column not in known or (table, column) in (("users", "user_id"), ("items", "item_id")):
                continue
            if (table, column) == ("items", "author_id") and not manifest.authors_are_users:
                continue
            among, of = known[column]
            if among is not None:
                yield (
                    table,
                    f"{column} known",
                    lambda t=table, c=column, a=among, o=of: _known(readable[t], c, a, o),
                )


def _known(files: list[Path], column: str, known: pl.Series, of: str) -> None:
    values = pl.read_parquet(files, columns=[column], hive_partitioning=False)[column]
    if values.dtype != known.dtype and not (values.dtype.is_integer() and known.dtype.is_integer()):
        raise _Fault(f"{values.dtype} here, {known.dtype} in {of}")
    wrong = (values.is_not_null() & ~values.is_in(known.cast(values.dtype).unique().implode())).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _Fault(f"{int(wrong.sum()):,} not in {of}, first in row {row + 1:,}: {values[row]!r}")
