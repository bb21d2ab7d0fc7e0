"""Tables and queries of a database, brought to files batch by batch and then read like any others."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cli.data.importer.json_rows import EXACT, text_of
from recsys_cli.data.importer.mapping import Mapping, Source
from recsys_cli.data.schema import COLUMNS
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress, Step

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

FETCHED_ROWS = 20_000
"""Rows in memory at a time."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
"""Name of a database in an address → with the driver that the extra `sql` installs."""
_VARIABLE = re.compile(r"\$\{(\w+)\}")


@contextlib.contextmanager
def fetched(
    mapping: Mapping, folder: Path, limit: int | None = None, progress: Progress | None = None
) -> Iterator[Mapping]:
    """The mapping with every part that comes from a database reading files instead, which are there in the block.

    All parts of one database are read in one transaction, so they fit together, and never more than some thousand
    rows are in memory. limit: at most so many rows of each. Raises ConfigError where the address, its driver or its
    variables are not there, DataError where the database refuses.
    """
    if not any(source.database for t in COLUMNS for part in getattr(mapping, t) for source in (part, *part.join)):
        yield mapping
        return
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(scratch_folder()))
        connections: dict[str, Connection] = {}

        def bring(source: Source, name: str) -> Source:
            joins = [bring(j, f"{name}-join") for j in getattr(source, "join", [])]
            if joins:
                source = source.model_copy(update={"join": joins})
            if not source.database:
                return source
            if source.database not in connections:
                url = address(source.database, folder)
                connections[source.database] = stack.enter_context(_connected(url, shown_address(source.database)))
            with (progress or Progress()).step(f"fetch {source.table or name}") as step:
                files = _fetch(connections[source.database], source, place, name, limit, step)
            if not files:
                raise DataError(
                    f"{source.table or f'the query of {name}'} holds no rows",
                    "leave it out of the mapping, or change the query",
                )
            return source.model_copy(update={"files": [str(f) for f in files], "database": None, "format": "parquet"})

        parts = {t: [bring(part, t) for part in getattr(mapping, t)] for t in COLUMNS}
        yield mapping.model_copy(update=parts)


def first_rows(database: str, folder: Path, place: Path, limit: int) -> dict[str, list[Path]]:
    """Table or view of the usual schema → Parquet files in `place` of its first `limit` rows, none for an empty one.

    Raises as `fetched` does.
    """
    import sqlalchemy as sql

    with _connected(address(database, folder), shown_address(database)) as connection:
        schema = sql.inspect(connection)
        names = [*schema.get_table_names(), *schema.get_view_names()]
        sources = {name: Source.model_validate({"from": database, "table": name}) for name in sorted(names)}
        return {name: _fetch(connection, source, place, name, limit, Step()) for name, source in sources.items()}


def address(text: str, folder: Path, *, write: bool = False) -> URL:
    """The URL of a database with its variables filled in and its driver named; SQLite files are found below `folder`.

    write: it is written to, and a SQLite file need not be there.
    Raises ConfigError where SQLAlchemy or a variable is missing, or where it is no address; DataError where the file
    of a SQLite database is not there, which SQLite would make.
    """
    try:
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError:
        raise ConfigError("databases are reached by SQLAlchemy", "pip install 'recsys-cli[sql]'") from None
    missing = [name for name in _VARIABLE.findall(text) if name not in os.environ]
    if missing:
        raise ConfigError(f"the environment variable {missing[0]} of the address is not set", f"export {missing[0]}=…")
    try:
        url = make_url(_VARIABLE.sub(lambda m: os.environ[m.group(1)], text))
    except (ArgumentError, ValueError):
        raise ConfigError(
            "this is not the address of a database", "for example postgresql://user:${PASSWORD}@host/name"
        ) from None
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        file = folder / url.database
        if write:
            return url.set(database=str(file))
        if not file.is_file():
            raise DataError(f"no SQLite database {file}", "its path counts from the folder given with --from")
        url = url.set(database=f"file:{file.resolve()}", query={"mode": "ro", "uri": "true"})
    return url


@contextlib.contextmanager
def _connected(url: URL, shown: str) -> Iterator[Connection]:
    """A connection that only reads and sees one state of the database; `shown` is its address in messages."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        engine = create_engine(url)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise ConfigError(
            f"no driver for {url.get_backend_name()}: {_first_line(error)}",
            "pip install 'recsys-cli[sql]' brings that of PostgreSQL; others are to be installed by their names",
        ) from None
    options: dict[str, Any] = {"stream_results": True, "max_row_buffer": FETCHED_ROWS}
    if url.get_backend_name() == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    try:
        with engine.connect().execution_options(**options) as connection:
            yield connection
    except SQLAlchemyError as error:
        raise DataError(f"{shown}: {_first_line(error)}", "check the address and the query") from None
    finally:
        engine.dispose()


def shown_address(database: str) -> str:
    """An address without its password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", database)


def _first_line(error: Exception) -> str:
    reason = str(getattr(error, "orig", None) or error)
    return (reason.strip().splitlines() or [type(error).__name__])[0]


def _fetch(
    connection: Connection, source: Source, place: Path, name: str, limit: int | None, step: Step
) -> list[Path]:
    """The rows of a table or query as Parquet files, a new one where a column turns out to be of another type, none
    where there are no rows."""
    import sqlalchemy as sql

    if source.table:
        schema, _, table = source.table.rpartition(".")

        def quoted(name: str):
            # a name may be a word of this database's language
            return sql.quoted_name(name, quote=True) if name else None

        statement = sql.select(sql.literal_column("*")).select_from(sql.table(quoted(table), schema=quoted(schema)))
    else:
        # a colon within a query is no parameter
        statement = sql.text(re.sub(r"(?<!:):(?=\w)", r"\\:", source.query))
    result = connection.execute(statement)
    if not result.returns_rows:
        raise DataError(f"the query of {name} returns no rows", "give a SELECT")
    names = list(result.keys())
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise DataError(f"the query of {name} gives the column {twice!r} twice", "name it with AS")
    stem = re.sub(r"[^\w.-]", "_", source.table or f"query of {name}")
    files: list[Path] = []
    writer: pq.ParquetWriter | None = None
    left = limit
    try:
        while rows := result.fetchmany(FETCHED_ROWS if left is None else min(FETCHED_ROWS, left)):
            batch = _as_arrow(names, rows)
            if writer is None or writer.schema != batch.schema:
                if writer is not None:
                    writer.close()
                files.append(_free(place, stem))
                writer = pq.ParquetWriter(files[-1], batch.schema, compression="zstd")
            writer.write_table(batch)
            step.advance(len(rows))
            left = None if left is None else left - len(rows)
            if left == 0:
                break
    finally:
        if writer is not None:
            writer.close()
        result.close()
    return files


def _free(place: Path, stem: str) -> Path:
    n, path = 1, place / stem
    while path.exists():
        n += 1
        path = place / f"{stem}-{n}"
    return path


def _as_arrow(names: list[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    return pa.table({name: _column([row[n] for row in rows]) for n, name in enumerate(names)})


def _column(values: list[Any]) -> pa.Array:
    """Values of a driver as a column: exact numbers, moments in UTC, the rest as text."""
    kinds = {type(v) for v in values if v is not None}
    if kinds == {decimal.Decimal}:
        values = _plain_decimals(values)
        kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return pa.array([None] * len(values), pa.string())
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int} and all(v is None or -(2**63) <= v < 2**63 for v in values):
        return pa.array(values, pa.int64())
    if kinds == {float} or (kinds == {int, float} and all(v is None or abs(v) <= EXACT for v in values)):
        return pa.array([None if v is None else float(v) for v in values], pa.float64())
    if kinds == {dt.datetime}:
        aware = {v.tzinfo is not None for v in values if v is not None}
        if len(aware) == 1:
            return pa.array(values, pa.timestamp("us", "UTC" if aware.pop() else None))
    if kinds == {dt.date}:
        return pa.array(values, pa.date32())
    if kinds == {dt.timedelta}:
        return pa.array([None if v is None else v.total_seconds() for v in values], pa.float64())
    if kinds <= {bytes, memoryview, bytearray}:
        return pa.array([None if v is None else bytes(v) for v in values], pa.binary())
    if kinds == {list}:
        return pa.array(
            [None if v is None else [None if x is None else _text(x) for x in v] for v in values],
            pa.list_(pa.string()),
        )
    return pa.array([None if v is None else _text(v) for v in values], pa.string())


def _plain_decimals(values: list[Any]) -> list[Any]:
    """Decimals as integers where all are whole, as floats where that loses nothing that matters, else as texts."""
    known = [v for v in values if v is not None]
    if all(v.is_finite() and v == v.to_integral_value() for v in known):
        return [None if v is None else int(v) for v in values]
    if all(not v.is_finite() or abs(v) <= EXACT for v in known):
        return [None if v is None else float(v) for v in values]
    return [None if v is None else format(v, "f") for v in values]


def _text(value: Any) -> str:
    if isinstance(value, uuid.UUID | dt.date | dt.time | decimal.Decimal):
        return value.isoformat() if hasattr(value, "isoformat") else str(value)
    if isinstance(value, dict | list):
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    if isinstance(value, str | bool | int | float):
        return text_of(value)
    return str(value)
