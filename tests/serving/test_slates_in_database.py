"""Slates of everybody in a table: replaced in one transaction, in SQLite and in a real PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from law_world import USERS, make_world

from recsys_cli.cli.common import run
from recsys_cli.errors import ConfigError, DataError, UsageError
from recsys_cli.live.database import write_to_database

sql = pytest.importorskip("sqlalchemy", reason="the extra `sql` is not installed")


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("slates") / "data").engine


def as_run(engine, name: str):
    return replace(engine, manifest=SimpleNamespace(id=name, windows=SimpleNamespace(places=False)))


def rows_of(url: str, table: str = "recommendations") -> list:
    connected = sql.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with connected.connect() as connection:
        columns = "user_id, rank, item_id, run_id, batch_id, sources"
        rows = connection.execute(sql.text(f"SELECT {columns} FROM {table} ORDER BY user_id, rank")).fetchall()
    connected.dispose()
    return rows


def statement(url: str, text: str) -> None:
    connected = sql.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with connected.begin() as connection:
        connection.execute(sql.text(text))
    connected.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    url = request.getfixturevalue("postgres")
    statement(url, "DROP TABLE IF EXISTS recommendations")
    return url


def expected(engine, n: int) -> list[tuple]:
    ids = list(range(100, 100 + USERS))
    return [
        (slate.user_id, item.rank, item.item_id)
        for slate in engine.recommend_many(ids, n) for item in slate.items
    ]


def test_a_second_write_leaves_its_own_rows_alone(engine, database):
    first = write_to_database(as_run(engine, "run-1"), database, n=5)
    rows = rows_of(database)
    assert [tuple(r[:3]) for r in rows] == expected(engine, 5) and first.removed == 0
    assert {r.run_id for r in rows} == {"run-1"} and {r.batch_id for r in rows} == {first.batch_id}
    assert all(r.sources for r in rows)
    second = write_to_database(as_run(engine, "run-2"), database, n=3)
    rows = rows_of(database)
    assert [tuple(r[:3]) for r in rows] == expected(engine, 3)
    assert {r.run_id for r in rows} == {"run-2"}
    assert second.removed == first.written.rows - second.written.rows > 0
    again = write_to_database(as_run(engine, "run-2"), database, n=2)  # the same run may be written again
    assert {r.batch_id for r in rows_of(database)} == {again.batch_id}
    assert len(rows_of(database)) == again.written.rows


def test_a_write_that_fails_on_its_way_changes_nothing(engine, database, monkeypatch):
    from recsys_cli.live import database as module

    write_to_database(as_run(engine, "run-1"), database, n=5)
    before = rows_of(database)
    whole = module._rows

    def torn(*arguments):
        for part, rows in enumerate(whole(*arguments)):
            yield rows if part == 0 else [row | {"item_id": None} for row in rows]

    monkeypatch.setattr(module, "ROWS", 20)
    monkeypatch.setattr(module, "_rows", torn)
    with pytest.raises(DataError, match="nothing was changed"):
        write_to_database(as_run(engine, "run-2"), database, n=5)
    assert rows_of(database) == before


def test_another_table_of_that_name_is_left_alone(engine, database):
    statement(database, "CREATE TABLE recommendations (user_id INTEGER PRIMARY KEY, note TEXT)")
    with pytest.raises(UsageError, match="is another one: it has no column rank"):
        write_to_database(engine, database)
    with pytest.raises(UsageError, match="names no table"):
        write_to_database(engine, database, "a; DROP TABLE b")


def test_what_cannot_be_written_to_is_told_without_its_password(engine, monkeypatch):
    with pytest.raises(ConfigError, match="variable SHOP_PASSWORD"):
        write_to_database(engine, "postgresql://me:${SHOP_PASSWORD}@127.0.0.1:1/x")
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    with pytest.raises(DataError) as error:
        write_to_database(engine, "postgresql://me:${SHOP_PASSWORD}@127.0.0.1:1/x")
    assert "s3cret" not in str(error.value)
    with pytest.raises(ConfigError, match="PostgreSQL and SQLite"):
        write_to_database(engine, "mysql://me@127.0.0.1/x")


def test_the_command_wants_everybody(capsys):
    assert run(["recommend", "--user", "1", "--to-database", "sqlite:///x.db"]) == 2
    assert "--all" in capsys.readouterr().err
