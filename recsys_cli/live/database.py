"""Slates of everybody into a table of a database, in one transaction: whoever reads it sees the old ones or the new."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from recsys_cli.data.importer.databases import address, shown_address
from recsys_cli.errors import ConfigError, DataError, UsageError
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection, Table

    from recsys_cli.answers.export import Written
    from recsys_cli.engine import RecommendationEngine

TABLE = "recommendations"
ROWS = 5_000
"""Rows in memory and in one statement's parameters at a time."""
KEY = ("user_id", "rank")
WRITABLE = ("postgresql", "sqlite")


@dataclass
class InDatabase:
    """What was written."""

    written: Written
    table: str
    run_id: str
    batch_id: str
    """of this write alone; every row of the table carries it"""
    removed: int
    """rows of earlier writes that no new one took the place of"""


def write_to_database(
    engine: RecommendationEngine, database: str, table: str = TABLE, *, n: int | None = None,
    context: dict[str, Any] | None = None, progress: Progress | None = None,
) -> InDatabase:
    """Recommend to every user of a run, and put the rows in the place of those of the write before.

    database: an address as SQLAlchemy reads it, with `${NAME}` for variables of the environment; a SQLite file is made
    where there is none. table: made where it is not there, `schema.name` too. Rows are put in by user and rank,
    replacing what stood there, and those of earlier writes are removed after, all in one transaction. Raises UsageError
    where the table is another one, ConfigError where address or driver are wrong, DataError where the database refuses;
    then the table is as it was.
    """
    import sqlalchemy as sql
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    url, told = address(database, Path.cwd(), write=True), shown_address(database)
    if not re.fullmatch(r"(\w+\.)?\w+", table):
        raise UsageError(f"--table {table[:80]!r} names no table", "letters, digits and _, maybe a schema before it")
    if url.get_backend_name() not in WRITABLE:
        raise ConfigError(f"{told}: slates are written to PostgreSQL and SQLite", "write a file, and load that")
    progress = progress or Progress()
    run = engine.manifest.id if engine.manifest is not None else "none"
    batch = f"{run}-{uuid.uuid4().hex[:8]}"
    with scratch_folder() as folder:
        file = Path(folder) / "slates.parquet"
        written = engine.write_slates(None, file, "parquet", n=n, context=context, progress=progress)
        try:
            connected = sql.create_engine(url)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            what = f"no driver for {url.get_backend_name()}: {error}"
            raise ConfigError(what, "pip install 'recsys-cli[sql]'") from None
        try:
            with connected.begin() as connection:
                target = _table(connection, table, file)
                put = _upsert(target, url.get_backend_name())
                with progress.step(f"write to {table}", total=written.rows) as bar:
                    for rows in _rows(file, run, batch):
                        connection.execute(put, rows)
                        bar.advance(len(rows))
                removed = connection.execute(target.delete().where(target.c.batch_id != batch)).rowcount
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise DataError(f"{told}: {reason}", "nothing was changed; check the address and the rights") from None
        finally:
            connected.dispose()
    return InDatabase(written, table, run, batch, removed)


def _table(connection: Connection, name: str, file: Path) -> Table:
    """The table, made where it is not there. Raises UsageError where one of that name is of other columns."""
    import sqlalchemy as sql

    types = {field.name: field.type for field in pq.read_schema(file)}

    def ids(column: str) -> Any:
        return sql.BigInteger() if str(types[column]).startswith("int") else sql.String()

    schema, _, plain = name.rpartition(".")
    table = sql.Table(
        plain, sql.MetaData(),
        sql.Column("user_id", ids("user_id"), primary_key=True, autoincrement=False),
        sql.Column("rank", sql.Integer, primary_key=True, autoincrement=False),
        sql.Column("item_id", ids("item_id"), nullable=False), sql.Column("author_id", ids("author_id")),
        sql.Column("title", sql.String), sql.Column("score", sql.Double), sql.Column("sources", sql.String),
        sql.Column("explored", sql.Boolean), sql.Column("fallback", sql.String),
        sql.Column("run_id", sql.String, nullable=False), sql.Column("batch_id", sql.String, nullable=False),
        schema=schema or None,
    )
    seen = sql.inspect(connection)
    if seen.has_table(plain, schema=schema or None):
        there = {c["name"] for c in seen.get_columns(plain, schema=schema or None)}
        key = seen.get_pk_constraint(plain, schema=schema or None)["constrained_columns"]
        lacks = [c.name for c in table.columns if c.name not in there]
        if lacks or sorted(key) != sorted(KEY):
            why = f"has no column {lacks[0]}" if lacks else f"has the key ({', '.join(key)})"
            raise UsageError(f"the table {name} is another one: it {why}", "name a table of its own with --table")
    else:
        table.create(connection)
    return table


def _rows(file: Path, run: str, batch: str) -> Iterator[list[dict[str, Any]]]:
    kept = ["user_id", "rank", "item_id", "author_id", "title", "score", "sources", "explored", "fallback"]
    for part in pq.ParquetFile(file).iter_batches(batch_size=ROWS, columns=kept):
        rows = part.to_pylist()
        for row in rows:
            score = row["score"]
            row |= {
                "sources": ";".join(row["sources"]), "score": score if score is not None and score == score else None,
                "run_id": run, "batch_id": batch,
            }
        yield rows


def _upsert(table: Table, backend: str) -> Any:
    """A statement that puts a row in, or in the place of the one with the same user and rank."""
    from sqlalchemy.dialects import postgresql, sqlite

    insert = (postgresql if backend == "postgresql" else sqlite).insert(table)
    changed = {c.name: insert.excluded[c.name] for c in table.columns if c.name not in KEY}
    return insert.on_conflict_do_update(index_elements=list(KEY), set_=changed)
