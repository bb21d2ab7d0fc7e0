"""Tables of databases: SQLite, and a PostgreSQL of our own where Debian's package is installed."""

from __future__ import annotations

import datetime as dt
import decimal
import sqlite3
import tracemalloc
import uuid
from pathlib import Path

import pytest
import yaml

from recsys_cli.cli.common import run
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer import databases
from recsys_cli.data.importer.databases import address, fetched
from recsys_cli.data.importer.mapping import Mapping, read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.errors import ConfigError, DataError

sqlalchemy = pytest.importorskip("sqlalchemy", reason="the extra `sql` is not installed")
START = 1_600_000_000


def shop(path: Path, rows: int = 100) -> None:
    with sqlite3.connect(path) as db:
        db.execute('CREATE TABLE "order lines" (who INTEGER, what TEXT, at INTEGER, kind TEXT)')
        db.execute("CREATE TABLE customers (id INTEGER, age INTEGER)")
        kinds = ["view", "buy"]
        db.executemany(
            'INSERT INTO "order lines" VALUES (?, ?, ?, ?)',
            ((k % 7, f"i{k % 5}", START + k, kinds[k % 2]) for k in range(rows)),
        )
        db.executemany("INSERT INTO customers VALUES (?, ?)", ((k, 20 + k) for k in range(7)))


def mapping(**impressions) -> dict:
    return {
        "name": "shop",
        "users": {"from": "sqlite:///shop.db", "table": "customers", "columns": {"user_id": "id"}, "attributes": "all"},
        "impressions": {
            "from": "sqlite:///shop.db",
            **({"table": "order lines"} | impressions),
            "columns": {"user_id": "who", "item_id": "what", "timestamp": {"column": "at", "unit": "s"}},
            "actions": {
                "click": {"column": "kind", "is_in": ["view"]},
                "purchase": {"column": "kind", "is_in": ["buy"]},
            },
        },
    }


def test_tables_of_sqlite_are_read(tmp_path, capsys):
    shop(tmp_path / "shop.db")
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(mapping()))
    assert run(["import-data", str(tmp_path / "map.yaml"), "--to", str(tmp_path / "data")]) == 0
    data = Dataset.open(tmp_path / "data")
    log = data.table("impressions")
    assert log.height == 100 and log["purchase"].sum() == 50 and log["user_id"][8] == 1
    assert log["timestamp"][1] == dt.datetime.fromtimestamp(START + 1, dt.UTC)
    assert data.users["age"].to_list() == list(range(20, 27))
    assert {f["file"] for f in data.manifest.origin["files"]} == {"customers", "order_lines"}
    assert run(["import-data", str(tmp_path / "map.yaml"), "--preview", "--format", "json"]) == 0
    assert '"item_id":"i0"' in capsys.readouterr().out.replace(" ", "").replace('": "', '":"')


def test_a_query_may_hold_colons_and_types_may_change_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(databases, "FETCHED_ROWS", 10)
    shop(tmp_path / "shop.db", 40)
    with sqlite3.connect(tmp_path / "shop.db") as db:
        db.execute("INSERT INTO \"order lines\" VALUES ('anna', 'i1', ?, 'view')", (START + 99,))
    query = "SELECT *, '10:30 :x' AS note FROM \"order lines\" ORDER BY at"
    tree = mapping(table=None, query=query)
    del tree["users"], tree["impressions"]["table"]
    summary = import_dataset(Mapping.model_validate(tree), tmp_path, tmp_path / "data")
    log = Dataset.open(tmp_path / "data").table("impressions")
    # one user is no integer: all ids are texts
    assert log.height == 41 and log["user_id"].to_list()[-1] == "anna" and log["user_id"][0] == "0"
    assert any("kept as text" in n for n in summary["notes"])


def test_memory_does_not_grow_with_the_rows(tmp_path):
    shop(tmp_path / "shop.db", 120_000)
    tree = Mapping.model_validate({k: v for k, v in mapping().items() if k != "users"})
    peaks = []
    for limit in (40_000, 120_000):
        tracemalloc.start()
        with fetched(tree, tmp_path, limit=limit):
            peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def test_values_of_drivers_keep_what_they_are():
    d = decimal.Decimal
    assert databases._column([d("12.00"), None]).to_pylist() == [12, None]
    assert databases._column([d("12.50"), d("1")]).to_pylist() == [12.5, 1.0]
    assert databases._column([d("9007199254740993.5")]).to_pylist() == ["9007199254740993.5"]
    assert databases._column([2**63]).to_pylist() == [str(2**63)]
    assert databases._column([1, "a", None]).to_pylist() == ["1", "a", None]
    assert databases._column([uuid.UUID(int=5)]).to_pylist() == ["00000000-0000-0000-0000-000000000005"]
    assert databases._column([["a", None, 3]]).to_pylist() == [["a", None, "3"]]
    assert databases._column([{"a": 1}]).to_pylist() == ['{"a":1}']
    zone = dt.timezone(dt.timedelta(hours=2))
    assert databases._column([dt.datetime(2024, 1, 1, 12, tzinfo=zone)])[0].as_py().utctimetuple().tm_hour == 10
    assert databases._column([2**53 + 1, 0.5]).to_pylist() == ["9007199254740993", "0.5"]


def test_faults_are_told_in_a_line_without_the_password(tmp_path, monkeypatch, capsys):
    with pytest.raises(DataError, match=r"no SQLite database .*none\.db"):
        address("sqlite:///none.db", tmp_path)
    with pytest.raises(ConfigError, match="variable SHOP_PASSWORD"):
        address("postgresql://me:${SHOP_PASSWORD}@host/x", tmp_path)
    monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
    url = address("postgresql://me:${SHOP_PASSWORD}@host/x", tmp_path)
    assert url.password == "s3cret" and url.drivername == "postgresql+psycopg"
    with pytest.raises(ConfigError, match="not the address"):
        address("shop.db", tmp_path)
    shop(tmp_path / "shop.db")
    for change, told in (
        ({"table": "nothing"}, "no such table"),
        ({"table": None, "query": "SELECT who FROM customers"}, "no such column"),
        ({"table": None, "query": "SELECT 1 AS a, 2 AS a"}, "'a' twice"),
        ({"table": None, "query": "DELETE FROM customers"}, "readonly"),
        ({"table": None, "query": "SELECT * FROM customers WHERE id < 0"}, "holds no rows"),
    ):
        tree = mapping(**change)
        tree["impressions"] = {k: v for k, v in tree["impressions"].items() if v is not None}
        with pytest.raises(DataError, match=told):
            import_dataset(Mapping.model_validate(tree), tmp_path, tmp_path / "data")
    (tmp_path / "map.yaml").write_text(
        yaml.safe_dump(mapping(**{"from": "postgresql://me:${SHOP_PASSWORD}@127.0.0.1:1/x"}))
    )
    assert run(["import-data", str(tmp_path / "map.yaml"), "--to", str(tmp_path / "data")]) == 4
    assert "s3cret" not in capsys.readouterr().err and not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"files": "a.csv", "from": "sqlite:///x"}, "`files`, or `from`"),
        ({"from": "sqlite:///x"}, "either `table` or `query`"),
        ({"files": "a.csv", "query": "SELECT 1"}, "need `from`"),
        ({"fromm": "sqlite:///x", "table": "t"}, "did you mean 'from'"),
    ],
)
def test_mappings_say_what_is_wrong(tmp_path, part, told):
    tree = {
        "name": "x",
        "impressions": {**part, "columns": {"user_id": "u", "item_id": "i"}, "actions": {"click": "c"}},
    }
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match=told):
        raise_with_hint(tmp_path / "map.yaml")


def raise_with_hint(path: Path) -> None:
    try:
        read_mapping(path)
    except ConfigError as error:
        raise ConfigError(str(error)) from None


# --- guessed ----------------------------------------------------------------------------------------------


def small_shop(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.executescript(
            "CREATE TABLE products (id INTEGER, title TEXT); CREATE TABLE unused (x INTEGER);"
            "CREATE TABLE orders (customer_id INTEGER, product_id INTEGER, ordered_at TEXT)"
        )
        db.executemany("INSERT INTO products VALUES (?, ?)", ((k, f"Chair number {k} of oak") for k in range(30)))
        moments = (dt.datetime(2024, 1, 1) + dt.timedelta(hours=k) for k in range(400))
        db.executemany(
            "INSERT INTO orders VALUES (?, ?, ?)", ((k % 41, k * k % 30, str(m)) for k, m in enumerate(moments))
        )


@pytest.mark.parametrize("given", ["shop.db", "sqlite:///shop.db"])
def test_a_database_is_guessed_and_imported_in_one_command(tmp_path, monkeypatch, capsys, given):
    small_shop(tmp_path / "shop.db")
    monkeypatch.chdir(tmp_path)
    assert run(["import-data", "--guess", given, "--to", "data"]) == 0
    assert "unused holds no rows" in capsys.readouterr().err
    data = Dataset.open(tmp_path / "data")
    assert data.manifest.name == "shop" and data.items["text"][3] == "Chair number 3 of oak"
    log = data.table("impressions")
    assert log.height == 400 and log["user_id"][40] == 40 and log["item_id"][7] == 49 % 30
    assert log["timestamp"][1] == dt.datetime(2024, 1, 1, 1, tzinfo=dt.UTC)
    written = yaml.safe_load((tmp_path / "mapping.yaml").read_text())
    assert written["impressions"]["from"] == "sqlite:///shop.db" and written["impressions"]["table"] == "orders"
    assert run(["import-data", "mapping.yaml", "--from", ".", "--to", "again"]) == 0
    assert Dataset.open(tmp_path / "again").manifest.digest == data.manifest.digest


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["postgresql://me:secret@127.0.0.1:1/x"], "holds a password"),
        (["shop.db", "log.csv"], "guessed alone"),
        (["sqlite:///none.db"], "no SQLite database"),
        (["sqlite:///empty.db"], "no table of the database holds rows"),
    ],
    ids=["password", "beside files", "absent", "empty"],
)
def test_what_cannot_be_guessed_of_a_database_is_refused(tmp_path, monkeypatch, capsys, given, told):
    small_shop(tmp_path / "shop.db")
    with sqlite3.connect(tmp_path / "empty.db") as db:
        db.execute("CREATE TABLE unused (x INTEGER)")
    monkeypatch.chdir(tmp_path)
    assert run(["import-data", "--guess", *given]) in (2, 4)
    assert told in capsys.readouterr().err
    assert not (tmp_path / "mapping.yaml").exists()


# --- PostgreSQL -------------------------------------------------------------------------------------------


def test_a_real_postgresql_is_read_in_one_transaction(postgres, tmp_path, monkeypatch):
    import psycopg

    with psycopg.connect(postgres) as db:
        db.execute("CREATE SCHEMA shop")
        db.execute(
            "CREATE TABLE shop.log (who uuid, what bigint, at timestamptz, price numeric(20, 2), liked boolean,"
            " tags text[], extra jsonb)"
        )
        db.execute(
            "INSERT INTO shop.log SELECT ('00000000-0000-0000-0000-' || lpad((n % 50)::text, 12, '0'))::uuid,"
            " 9007199254740993 + n % 40, '2024-01-01 12:00:00+02'::timestamptz + n * interval '1 second', n / 4.0,"
            " n % 2 = 0, ARRAY['a', 'b'], '{\"x\": 1}' FROM generate_series(0, 29999) n"
        )
    tree = {
        "name": "pg",
        "items": {
            "from": "${SHOP}",
            "query": "SELECT DISTINCT what, tags FROM shop.log",
            "columns": {"item_id": "what", "topics": "tags"},
        },
        "impressions": {
            "from": "${SHOP}",
            "table": "shop.log",
            "columns": {"user_id": "who", "item_id": "what", "timestamp": "at"},
            "actions": {"like": "liked"},
            "attributes": {"price": "float"},
        },
    }
    monkeypatch.setenv("SHOP", postgres)
    import_dataset(Mapping.model_validate(tree), tmp_path, tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    log = data.table("impressions")
    assert log.height == 30_000 and log["like"].sum() == 15_000
    assert log["item_id"][1] == 9007199254740994 and log["price"][3] == 0.75
    assert log["user_id"][7] == "00000000-0000-0000-0000-000000000007"
    assert log["timestamp"][0] == dt.datetime(2024, 1, 1, 10, tzinfo=dt.UTC)
    assert data.items.height == 40 and data.items["topics"][0].to_list() == ["a", "b"]
    tree["impressions"] = {**tree["impressions"], "query": "DELETE FROM shop.log RETURNING *"}
    del tree["impressions"]["table"], tree["items"]
    with pytest.raises(DataError):
        import_dataset(Mapping.model_validate(tree), tmp_path, tmp_path / "data")
    with psycopg.connect(postgres) as db:
        assert db.execute("SELECT count(*) FROM shop.log").fetchone() == (30_000,)


def test_a_real_postgresql_is_guessed_by_an_address_from_the_environment(postgres, tmp_path, monkeypatch):
    import psycopg

    with psycopg.connect(postgres) as db:
        db.execute("CREATE TABLE plays (listener text, track_id bigint, played_at timestamptz)")
        db.execute(
            "INSERT INTO plays SELECT 'u' || n % 20, n % 17, '2024-01-01 12:00:00+02'::timestamptz"
            " + n * interval '1 minute' FROM generate_series(0, 999) n"
        )
    monkeypatch.setenv("SHOP", postgres)
    monkeypatch.chdir(tmp_path)
    assert run(["import-data", "--guess", "${SHOP}", "--yes", "--to", "data"]) == 0
    log = Dataset.open(tmp_path / "data").table("impressions")
    assert log.height == 1000 and log["user_id"][21] == "u1" and log["item_id"][18] == 1
    assert log["timestamp"][1] == dt.datetime(2024, 1, 1, 10, 1, tzinfo=dt.UTC)
    assert "from: \"${SHOP}\"" in (tmp_path / "mapping.yaml").read_text()
