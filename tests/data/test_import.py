"""Foreign files come in as the mapping says, row for row."""

from __future__ import annotations

import datetime as dt
import gzip
import io
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pytest
import yaml
from pydantic import ValidationError

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.describe.profile import describe_dataset
from recsys_cli.data.importer.mapping import Mapping, read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.schema import PARTS, DatasetManifest
from recsys_cli.data.validate import validate_dataset
from recsys_cli.errors import ConfigError, DataError, UsageError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "import"
LOG = {
    "files": "log.csv",
    "columns": {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}},
    "actions": {"click": "c"},
}


def put(folder: Path, **files: str | bytes) -> Path:
    """Write files, their names with `_` for the dot before the suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def bring(tmp_path: Path, mapping: dict, **files) -> tuple[dict, Dataset]:
    source = put(tmp_path / "from", **files)
    summary = import_dataset(Mapping.model_validate({"name": "t", **mapping}), source, tmp_path / "to")
    assert all(c.ok for c in validate_dataset(tmp_path / "to"))
    return summary, Dataset.open(tmp_path / "to")


def rejects(tmp_path: Path) -> list[tuple]:
    return (
        pl.read_parquet(tmp_path / "to" / "rejects.parquet").select("table", "line", "reason", "value").rows()
    )


def test_columns_actions_and_times_come_out_as_mapped(tmp_path):
    summary, data = bring(
        tmp_path,
        {
            "impressions": {
                "files": "log.tsv",
                "columns": {
                    "user_id": "u",
                    "item_id": "i",
                    "timestamp": {"column": "t", "unit": "ms"},
                    "dwell_seconds": {"column": "d", "scale": 0.001},
                    "surface": {"column": "s", "replace": {"h": "home"}},
                },
                "actions": {
                    "like": {"column": "r", "at_least": 4},
                    "mid": {"column": "r", "above": 2, "below": 4},
                    "hide": {"column": "e", "is_in": ["x", "y"]},
                },
            }
        },
        log_tsv="u\ti\tt\td\ts\tr\te\n7\tb\t1600000000123\t1500\th\t4\tx\n8\ta\t1600000001000\t\tq\t3\tz\n",
    )
    frame = data.table("impressions")
    assert frame["user_id"].to_list() == [7, 8]
    assert frame["item_id"].to_list() == ["b", "a"]
    assert frame["timestamp"].to_physical().to_list() == [1_600_000_000_123_000, 1_600_000_001_000_000]
    assert frame["dwell_seconds"].to_list() == [1.5, None]
    assert frame["surface"].to_list() == ["home", "q"]
    assert frame.select("like", "mid", "hide").rows() == [(True, False, True), (False, True, False)]
    assert data.manifest.actions["hide"].polarity == "negative"
    assert data.manifest.actions["like"].count == 1
    assert not data.manifest.negatives_observed
    assert summary["tables"]["impressions"] == {
        "read": 2, "rejected": 0, "merged": 0, "added": 0, "rows": 2
    }


def test_users_and_items_without_files_of_their_own_are_those_of_the_log(tmp_path):
    _, data = bring(
        tmp_path,
        {"impressions": LOG},
        log_csv="u,i,t,c\n3,x,1600000000,1\n1,y,1600000001,0\n3,y,1600000002,1\n",
    )
    assert data.users["user_id"].to_list() == [1, 3]
    assert data.items["item_id"].to_list() == ["x", "y"]


@pytest.mark.parametrize(("first", "second"), [("007", "12"), ("a", "12"), ("9999999999999999999", "1")])
def test_ids_that_are_not_plainly_integers_stay_text(tmp_path, first, second):
    _, data = bring(
        tmp_path, {"impressions": LOG}, log_csv=f"u,i,t,c\n{first},x,1600000000,1\n{second},y,1600000001,0\n"
    )
    assert sorted(data.users["user_id"].to_list()) == sorted([first, second])


def test_each_bad_row_is_refused_with_its_line_reason_and_value(tmp_path):
    rows = [
        "u,i,t,c",
        '1,"x,\n1",1600000000,1',  # two lines of the file
        "1,y",  # ragged
        "",  # a blank line is no row
        "1,y,1600000000,1,9",  # ragged
        "1,y,noon,1",
        "1,y,1600000000000,1",  # milliseconds
        "1,y,16000000,1",
        ",y,1600000000,1",
        "1,y,1600000000,perhaps",
        "1,y,1600000000,0",
    ]
    bring(
        tmp_path, {"impressions": LOG, "user_ids": "integer", "max_reject_share": 1}, log_csv="\n".join(rows)
    )
    wrong_unit = "wrong unit? the mapping says s"
    assert sorted(rejects(tmp_path), key=lambda r: r[1]) == [
        ("impressions", 4, "2 fields where 4 are due", "1,y"),
        ("impressions", 6, "5 fields where 4 are due", "1,y,1600000000,1,9"),
        ("impressions", 7, "timestamp (t) is not a number", "noon"),
        ("impressions", 8, f"timestamp (t) lies in the future: {wrong_unit}", "1600000000000"),
        ("impressions", 9, f"timestamp (t) lies before 1990-01-01: {wrong_unit}", "16000000"),
        ("impressions", 10, "user_id (u) is missing", None),
        ("impressions", 11, "click (c) is neither true nor false", "perhaps"),
    ]


def test_bounds_of_numbers_refuse_the_row(tmp_path):
    mapping = {
        "impressions": {
            "files": "log.csv",
            "columns": {
                "user_id": "u",
                "item_id": "i",
                "dwell_seconds": "d",
                "propensity": "p",
                "position": "n",
            },
            "actions": {"click": {"value": True}},
        },
        "max_reject_share": 1,
    }
    bring(
        tmp_path,
        mapping,
        log_csv="u,i,d,p,n\n1,x,-1,1,0\n1,x,nan,1,0\n1,x,1,0,0\n1,x,1,1.5,0\n1,x,1,0.5,-2\n1,x,1,0.5,1.5\n1,x,1,1,0\n",
    )
    assert [r[1:] for r in rejects(tmp_path)] == [
        (2, "dwell_seconds (d) is negative", "-1"),
        (3, "dwell_seconds (d) is not a number", "nan"),
        (4, "propensity (p) lies outside 0 (excluded) to 1", "0"),
        (5, "propensity (p) lies outside 0 (excluded) to 1", "1.5"),
        (6, "position (n) is negative", "-2"),
        (7, "position (n) is not an integer", "1.5"),
    ]


def test_rows_of_unknown_people_and_repeated_ids_are_refused_or_added_as_the_mapping_says(tmp_path):
    files = {
        "log_csv": "u,i,t,c\n1,x,1600000000,1\n2,x,1600000000,1\n1,z,1600000000,0\n",
        "users_csv": "u,age\n1,30\n1,31\n",
        "items_csv": "i,tag\nx,a|b\n",
    }
    mapping = {
        "users": {"files": "users.csv", "columns": {"user_id": "u"}, "attributes": ["age"]},
        "items": {
            "files": "items.csv",
            "columns": {"item_id": "i", "topics": {"column": "tag", "separator": "|"}},
        },
        "impressions": LOG,
        "max_reject_share": 1,
    }
    _, data = bring(tmp_path, mapping, **files)
    assert rejects(tmp_path) == [
        ("users", 3, "user_id stands more than once", "1"),
        ("impressions", 3, "unknown user_id", "2"),
        ("impressions", 4, "unknown item_id", "z"),
    ]
    assert data.users.rows() == [(1, 30)]
    _, data = bring(tmp_path, mapping | {"unknown_users": "add", "unknown_items": "add"}, **files)
    assert data.users.rows() == [(1, 30), (2, None)]
    assert data.items.rows() == [("x", ["a", "b"]), ("z", None)]
    assert data.table("impressions").height == 3


def test_too_many_refused_rows_leave_the_earlier_dataset_as_it_was(tmp_path):
    good = "u,i,t,c\n" + "1,x,1600000000,1\n" * 98 + "1,y,1600000000,1\n"
    bring(tmp_path, {"impressions": LOG}, log_csv=good + "1,x,never,1\n")
    before = {p.name: p.read_bytes() for p in (tmp_path / "to").iterdir()}
    put(tmp_path / "from", log_csv=good + "1,x,never,1\n" * 2)
    with pytest.raises(
        DataError, match=r"2 of 101 rows of impressions refused.*nothing was written"
    ) as caught:
        import_dataset(
            Mapping.model_validate({"name": "t", "impressions": LOG}), tmp_path / "from", tmp_path / "to"
        )
    assert "log.csv line 101: 'never'" in caught.value.hint
    assert {p.name: p.read_bytes() for p in (tmp_path / "to").iterdir()} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["from", "to"]


def test_an_import_never_replaces_a_folder_that_is_no_dataset(tmp_path):
    put(tmp_path / "from", log_csv="u,i,t,c\n1,x,1600000000,1\n")
    put(tmp_path / "to", thesis_txt="precious")
    with pytest.raises(UsageError, match=r"holds thesis\.txt"):
        import_dataset(
            Mapping.model_validate({"name": "t", "impressions": LOG}), tmp_path / "from", tmp_path / "to"
        )
    assert (tmp_path / "to" / "thesis.txt").read_text() == "precious"


def test_exact_repeats_are_kept_unless_the_mapping_says_otherwise(tmp_path):
    log = "u,i,t,c\n" + "1,x,1600000000,1\n" * 3 + "1,x,1600000000,0\n"
    summary, data = bring(tmp_path, {"impressions": LOG}, log_csv=log)
    assert data.table("impressions").height == 4 and summary["repeats_left_out"] == 0
    summary, data = bring(tmp_path, {"impressions": LOG, "drop_exact_repeats": True}, log_csv=log)
    assert data.table("impressions").height == 2 and summary["repeats_left_out"] == 2


ROWS = [(1, "x", 1600000000, True), (2, "y", 1600000060, False), (1, "y", 1600000120, True)]


def _as(form: str) -> tuple[dict, dict[str, bytes]]:
    """The same three rows in one of the forms: (what the mapping says of it, files)."""
    csv = "u,i,t,c\n" + "".join(f"{u},{i},{t},{int(c)}\n" for u, i, t, c in ROWS)
    lines = csv.splitlines(keepends=True)
    if form == "gz":
        return {"files": "log.csv.gz"}, {"log.csv.gz": gzip.compress(csv.encode())}
    if form == "zst":
        import pyarrow as pa

        return {"files": "log.csv.zst"}, {
            "log.csv.zst": bytes(pa.compress(csv.encode(), "zstd", asbytes=True))
        }
    if form == "glob":
        parts = {f"log-{n}.csv": (lines[0] + line).encode() for n, line in enumerate(lines[1:])}
        return {"files": "log-*.csv"}, parts
    if form == "jsonl":
        text = b"".join(orjson.dumps(dict(zip("uitc", row, strict=True))) + b"\n" for row in ROWS)
        return {"files": "log.jsonl"}, {"log.jsonl": text}
    if form == "parquet":
        import io

        buffer = io.BytesIO()
        pl.DataFrame(ROWS, schema=["u", "i", "t", "c"], orient="row").write_parquet(buffer)
        return {"files": "log.parquet"}, {"log.parquet": buffer.getvalue()}
    if form == "double colon":
        text = "".join(lines[1:]).replace(",", "::")
        return {"files": "log.dat", "separator": "::", "header": False, "names": list("uitc")}, {
            "log.dat": text.encode()
        }
    if form == "quoted windows":
        text = csv.replace("x", '"x"').replace("\n", "\r\n")
        return {"files": "log.csv"}, {"log.csv": b"\xef\xbb\xbf" + text.encode()}
    return {"files": "log.csv", "encoding": "utf-16"}, {"log.csv": csv.encode("utf-16")}


@pytest.mark.parametrize(
    "form", ["gz", "zst", "glob", "jsonl", "parquet", "double colon", "quoted windows", "utf-16"]
)
def test_every_form_of_the_same_rows_gives_the_same_dataset(tmp_path, form):
    bring(
        tmp_path / "plain",
        {"impressions": LOG},
        log_csv="u,i,t,c\n" + "".join(f"{u},{i},{t},{int(c)}\n" for u, i, t, c in ROWS),
    )
    says, files = _as(form)
    folder = tmp_path / "from"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    import_dataset(Mapping.model_validate({"name": "t", "impressions": LOG | says}), folder, tmp_path / "to")
    plain, other = Dataset.open(tmp_path / "plain" / "to"), Dataset.open(tmp_path / "to")
    assert other.manifest.digest == plain.manifest.digest


def test_small_blocks_change_nothing(tmp_path, monkeypatch):
    rows = [
        "u,i,t,c",
        *(f'{n % 5},"a""{n}\n\n,b",{1600000000 + n},1' if n % 3 else f"{n % 5},z{n}" for n in range(200)),
    ]
    mapping = {"impressions": LOG, "max_reject_share": 1}
    bring(tmp_path / "a", mapping, log_csv="\n".join(rows) + "\n")
    monkeypatch.setattr("recsys_cli.data.importer.text.BLOCK_BYTES", 64)
    bring(tmp_path / "b", mapping, log_csv="\n".join(rows) + "\n")
    assert (
        Dataset.open(tmp_path / "a" / "to").manifest.digest
        == Dataset.open(tmp_path / "b" / "to").manifest.digest
    )
    assert rejects(tmp_path / "a") == rejects(tmp_path / "b")
    assert rejects(tmp_path / "a")[0][1:] == (2, "2 fields where 4 are due", "0,z0")


def test_joins_bring_the_author_and_edges_must_know_their_ends(tmp_path):
    _, data = bring(
        tmp_path,
        {
            "items": {
                "files": "items.csv",
                "join": {"files": "authors.csv", "match": {"i": "item"}},
                "columns": {"item_id": "i", "author_id": "who"},
            },
            "impressions": LOG,
            "follows": {"files": "follows.csv", "columns": {"follower_id": "a", "followee_id": "b"}},
            "max_reject_share": 1,
        },
        log_csv="u,i,t,c\n1,x,1600000000,1\n2,y,1600000000,0\n",
        items_csv="i\nx\ny\n",
        authors_csv="item,who\ny,50\nx,40\nx,41\n",
        follows_csv="a,b\n1,40\n1,40\n2,99\n9,50\n",
    )
    assert data.items.rows() == [("x", 40), ("y", 50)]
    # user 9 is added: without a `users` table everybody who turns up is a user
    assert data.table("follows").rows() == [(1, 40), (9, 50)]
    assert rejects(tmp_path) == [
        ("follows", 4, "unknown followee_id", "99"),
        ("follows", 3, "repeats an edge of follows", "40"),
    ]


def test_friendships_go_both_ways(tmp_path):
    _, data = bring(
        tmp_path,
        {
            "impressions": LOG,
            "authors_are_users": True,
            "follows": {
                "files": "f.csv",
                "both_ways": True,
                "columns": {"follower_id": "a", "followee_id": "b"},
            },
        },
        log_csv="u,i,t,c\n1,x,1600000000,1\n2,x,1600000000,0\n3,x,1600000000,0\n",
        f_csv="a,b\n1,2\n2,1\n2,3\n",
    )
    assert sorted(data.table("follows").rows()) == [(1, 2), (2, 1), (2, 3), (3, 2)]


def test_given_splits_become_windows_of_order(tmp_path):
    source = put(tmp_path / "from", train_txt="0 10 11 12\n1 11\n", test_txt="0 13\n1 10 12\n")
    import_dataset(read_mapping(CONFIGS / "lightgcn.yaml"), source, tmp_path / "to")
    data = Dataset.open(tmp_path / "to")
    train, test = data.manifest.splits["train"], data.manifest.splits["test"]
    assert (
        not data.manifest.has_time
        and data.manifest.time_span is None
        and not data.manifest.negatives_observed
    )
    assert train[1] == test[0]

    def pairs(window):
        log = data.log.window(*window)
        return sorted(zip(data.user_ids.external(log.user), data.item_ids.external(log.item), strict=True))

    assert pairs(train) == [(0, 10), (0, 11), (0, 12), (1, 11)]
    assert pairs(test) == [(0, 13), (1, 10), (1, 12)]


def test_published_parts_are_kept_by_row_though_they_lie_mixed_in_time(tmp_path):
    part = {k: v for k, v in LOG.items() if k != "files"}
    parts = [part | {"files": "test.csv", "split": "test"}, part | {"files": "train.csv", "split": "train"}]
    _, data = bring(
        tmp_path,
        {"impressions": parts},
        train_csv="u,i,t,c\n1,x,1600000000,1\n1,y,1600000009,1\n",
        test_csv="u,i,t,c\n1,z,1600000004,1\n2,y,1600000005,1\n",
    )
    assert [PARTS[p] for p in data.log.part] == ["train", "test", "test", "train"]
    assert data.manifest.has_time and data.manifest.has_order
    assert data.manifest.splits["train"][1] > data.manifest.splits["test"][0]
    assert describe_dataset(tmp_path / "to")["splits"]["test"]["rows"] == 2


def test_parts_that_nobody_knows_and_files_of_no_part_are_refused():
    with pytest.raises(ValidationError, match="train"):
        Mapping.model_validate({"name": "t", "impressions": LOG | {"split": "holdout"}})
    with pytest.raises(ValidationError, match="names the part of every file"):
        Mapping.model_validate({"name": "t", "impressions": [LOG | {"split": "train"}, LOG]})


@pytest.mark.parametrize(("timestamp", "ordered"), [({}, False), ({"timestamp": {"order": True}}, True)])
def test_rows_without_time_are_in_order_only_where_the_mapping_says_so(tmp_path, timestamp, ordered):
    log = LOG | {"columns": {"user_id": "u", "item_id": "i", **timestamp}}
    _, data = bring(tmp_path, {"impressions": log}, log_csv="u,i,c\n1,x,1\n2,x,1\n1,z,1\n1,y,1\n")
    assert (data.manifest.has_time, data.manifest.has_order) == (False, ordered)
    mine = data.log.take(data.log.user == data.user_ids.position("1"))
    assert data.item_ids.external(mine.item) == ["x", "z", "y"] and (np.diff(mine.time) > 0).all()


def test_datasets_of_before_order_was_kept_claim_none():
    before = {"name": "t", "tables": {}, "actions": {}}
    for has_time in (True, False):
        assert DatasetManifest.model_validate(before | {"has_time": has_time}).has_order == has_time


def test_sequences_keep_their_order(tmp_path):
    source = put(tmp_path / "from", sequences_txt="5 3 9\n3\n\n9 5\n")
    import_dataset(read_mapping(CONFIGS / "sequences.yaml"), source, tmp_path / "to")
    data = Dataset.open(tmp_path / "to")
    log = data.log.take(data.log.user == data.user_ids.position(1))
    assert data.item_ids.external(log.item) == [5, 3, 9]
    # the third line is empty, so the last one is user 4
    assert data.users["user_id"].to_list() == [1, 2, 4]


def test_movielens_of_either_form_is_the_same_log(tmp_path):
    mapping = read_mapping(CONFIGS / "movielens.yaml")
    old = put(
        tmp_path / "old",
        users_dat="1::F::25::10::48067\n2::M::35::7::02139\n",
        movies_dat='10::Am\xe9lie (2001)::Comedy|Romance\n20::"Quoted": A Film (1999)::Drama\n'.encode(
            "latin-1"
        ),
        ratings_dat="1::10::5::978300760\n2::20::3::978300761\n1::20::4::978300762\n",
    )
    new = put(
        tmp_path / "new",
        movies_csv='movieId,title,genres\n10,Amélie (2001),Comedy|Romance\n20,"""Quoted"": A Film (1999)",Drama\n',
        ratings_csv="userId,movieId,rating,timestamp\n1,10,5.0,978300760\n2,20,3.0,978300761\n1,20,4.0,978300762\n",
    )
    import_dataset(mapping, old, tmp_path / "a")
    import_dataset(mapping, new, tmp_path / "b")
    a, b = Dataset.open(tmp_path / "a"), Dataset.open(tmp_path / "b")
    assert a.manifest.tables["impressions"].digest == b.manifest.tables["impressions"].digest
    assert a.manifest.tables["items"].digest == b.manifest.tables["items"].digest
    assert a.items.rows() == [
        (10, "Amélie (2001)", ["Comedy", "Romance"]),
        (20, '"Quoted": A Film (1999)', ["Drama"]),
    ]
    assert a.table("impressions")["like"].to_list() == [True, False, True]
    # a code with a leading zero is no number
    assert a.users["zip_code"].to_list() == ["48067", "02139"]


def test_the_template_reads_what_its_comments_say(tmp_path):
    source = put(
        tmp_path / "from",
        users_csv="uid;joined;age;flag_a;land;height;password_hash\n1;03.02.2020;30;1;D;1.80;zz\n2;;NULL;0;??;1.65;zz\n",
        items_jsonl=b'{"id":"x","created":1590000000,"body":"hi","tags":"a, b","lang":"ger"}\n'
        b'{"id":"y","created":1590000000.5,"body":"ho","tags":"","lang":"fr","length_ms":1500}\n{"id":"x","body":"again"}\n',
        authorship_tsv="item\tauthor\nx\t2\n",
        follows_tsv="who\twhom\tsince\n1\t2\t2020-05-01T10:00:00+02:00\n",
        blocks_tsv="who\twhom\tkind\n2\t1\tmute\n",
        history_jsonl='{"user":1,"watched":["y","x"]}\n{"user":2,"watched":[]}\n',
    )
    log = (
        "user,item,ts,request,session,pos,tab,device,dwell_ms,clicked,stars,event,skipped,app_version,temperature\n"
        "1,x,1600000000000,r1,s1,0,home,phone,2500,yes,5,rt,0,7.1,-2.5\n"
        "2,z,1600000001000,r2,s2,1,home,phone,,no,,dismiss,1,,\n"
    )
    (source / "log-1.csv.gz").write_bytes(gzip.compress(log.encode()))
    import_dataset(read_mapping(CONFIGS / "template.yaml"), source, tmp_path / "to")
    data = Dataset.open(tmp_path / "to")
    assert all(c.ok for c in validate_dataset(tmp_path / "to"))
    user = data.users.row(0, named=True)
    assert user["created_at"].isoformat() == "2020-02-02T23:00:00+00:00"
    assert {k: v for k, v in user.items() if k not in ("user_id", "created_at")} == {
        "age": 30,
        "flag_a": "1",
        "country": "de",
        "height": 1.8,
    }
    assert data.users["country"].to_list() == ["de", "unknown"]
    assert data.items.select("item_id", "author_id", "topics", "language", "duration_seconds").rows() == [
        ("x", 2, ["a", "b"], "de", None),
        ("y", None, None, "fr", 1.5),
        ("z", None, None, None, None),
    ]
    assert data.categories["impression.app_version"] == ["7.1"]
    np.testing.assert_array_equal(data.log.context["app_version"], [0, -1])
    np.testing.assert_array_equal(data.log.context["temperature"], np.float32([-2.5, np.nan]))
    actions = data.table("impressions").select(*data.manifest.actions)
    assert actions.rows() == [(True, True, True, False, False), (False, False, False, True, True)]
    assert {a: i.polarity for a, i in data.manifest.actions.items()} == {
        "click": "positive",
        "like": "positive",
        "repost": "positive",
        "hide": "negative",
        "skip": "negative",
    }
    assert data.table("follows")["created_at"][0].isoformat() == "2020-05-01T08:00:00+00:00"
    assert data.table("history").rows() == [(1, "y", "click", 0), (1, "x", "click", 1)]


def test_the_template_shows_every_key():
    text = (CONFIGS / "template.yaml").read_text()
    shown = {line.strip().lstrip("#- ").partition(":")[0].strip('"') for line in text.splitlines()}
    shown |= {
        word.partition(":")[0].strip()
        for line in text.splitlines()
        for word in line.replace("{", ",").split(",")
    }
    models, keys = [Mapping], set()
    while models:
        model = models.pop()
        for name, field in model.model_fields.items():
            keys.add(name)
            models += [m for m in _models(field.annotation) if m is not model]
    assert {k for k in keys if k not in shown and k not in text} == set()


def _models(annotation) -> list:
    import typing

    from pydantic import BaseModel

    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for part in typing.get_args(annotation) for m in _models(part)]


def test_a_default_stands_for_the_unknown_value(tmp_path):
    columns = {
        "user_id": "u",
        "item_id": "i",
        "position": {"column": "p", "default": 3},
        "surface": {"column": "s", "default": 7},
    }
    actions = {
        "like": {"column": "r", "at_least": 4, "default": 5},
        "love": {"column": "r", "above": 5, "default": 5},
        "click": {"column": "c", "default": True},
    }
    part = {"files": "log.csv", "columns": columns, "actions": actions}
    _, data = bring(tmp_path, {"impressions": part}, log_csv="u,i,p,s,r,c\n1,x,,,,\n1,x,0,a,1,0\n")
    frame = data.table("impressions").select("position", "surface", "like", "love", "click")
    assert frame.rows() == [(3, "7", True, False, True), (0, "a", False, False, False)]


def test_an_attribute_with_the_name_of_a_known_column_becomes_that_column(tmp_path):
    mapping = {
        "users": {"files": "users.csv", "columns": {"user_id": "u"}, "attributes": "all"},
        "impressions": LOG,
    }
    log = "u,i,t,c\n1,x,1600000000,1\n"
    with pytest.raises(ConfigError, match="does not say how created_at is written"):
        bring(tmp_path, mapping, log_csv=log, users_csv="u,created_at\n1,1500000000\n")
    mapping["users"]["attributes"] = {"created_at": {"unit": "s"}, "*": {}}
    _, data = bring(tmp_path, mapping, log_csv=log, users_csv="u,created_at,x\n1,1500000000,9\n")
    assert data.users["created_at"].to_physical().to_list() == [1_500_000_000_000_000]
    assert data.users["x"].to_list() == [9]


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (
            {"impressions": {**LOG, "colums": {}}},
            "unknown key 'impressions.colums'",
            "did you mean 'columns'?",
        ),
        (
            {"impressions": {**LOG, "columns": {**LOG["columns"], "time_stamp": "t"}}},
            "unknown key",
            "did you mean 'timestamp'?",
        ),
        ({"impressions": {**LOG, "columns": {"user_id": "u"}}}, "item_id: Field required", "template.yaml"),
        ({"max_reject_share": "many"}, "max_reject_share", "template.yaml"),
        (
            {"impressions": {**LOG, "actions": {"position": "c"}}},
            "an action cannot be called 'position'",
            "template.yaml",
        ),
        ({"unknown_users": "ad"}, "unknown_users: 'ad' is none of 'reject' or 'add'", "did you mean 'add'?"),
    ],
)
def test_a_wrong_mapping_is_refused_with_its_line(tmp_path, change, says, hint):
    path = tmp_path / "m.yaml"
    path.write_text(yaml.safe_dump({"name": "t", "impressions": LOG, **change}, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        read_mapping(path)
    assert says in caught.value.message and hint in caught.value.hint
    assert caught.value.message.startswith(f"{path}")
    assert " line " in caught.value.message or "called" in says


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_mapping_is_right(path):
    assert read_mapping(path).actions


def test_rows_without_time_take_their_place_among_their_users_rows():
    """Also over batches; a file sorted by user must not put whole users into one window."""
    from recsys_cli.data.importer.places import Places

    places = Places()
    assert places.of(pl.Series([7, 7, 8, 7])).to_list() == [0, 1, 0, 2]
    assert places.of(pl.Series([8, 9, 7, 8])).to_list() == [1, 0, 3, 2]


def test_columns_of_every_type_are_brought_as_they_are(tmp_path):
    users = pl.DataFrame({
        "u": [1, 2], "flag": [True, None], "born": [dt.date(1999, 12, 31), None], "tags": [["b", "a"], None],
        "ids": [[3, 1], []], "look": [[0.5, -1.0], None], "price": pl.Series(["1.50", None]).cast(pl.Decimal(6, 2)),
    })
    buffer = io.BytesIO()
    users.write_parquet(buffer)
    mapping = {
        "impressions": LOG, "users": {"files": "users.parquet", "columns": {"user_id": "u"}, "attributes": "all"},
        "items": {"files": "items.csv", "columns": {"item_id": "i"}, "attributes": {
            "emb": {"type": "vector", "separator": " "}}},
    }
    _, data = bring(
        tmp_path, mapping, users_parquet=buffer.getvalue(), items_csv="i,emb\n7,0.5 2\n8,\n",
        log_csv="u,i,t,c\n1,7,1600000000,1\n2,8,1600000001,0\n",
    )
    assert data.users["born"].dtype == pl.Datetime("us", "UTC") and data.users["price"].to_list()[1] is None
    assert data.users.select("tags", "ids", "look").row(0) == (["b", "a"], ["3", "1"], [0.5, -1.0])
    assert data.items["emb"].to_list() == [[0.5, 2.0], None]


def test_vectors_that_are_none_and_structs_are_refused(tmp_path):
    items = {"files": "items.csv", "columns": {"item_id": "i"}, "attributes": {"emb": "vector"}}
    mapping = {"impressions": LOG, "items": items, "max_reject_share": 1, "unknown_items": "add"}
    log = "u,i,t,c\n1,7,1600000000,1\n"
    summary, data = bring(tmp_path, mapping, items_csv='i,emb\n7,"1,x"\n8,"1,2"\n', log_csv=log)
    assert data.items["emb"].to_list() == [None, [1.0, 2.0]]
    assert any("emb is not a list of numbers: left unknown (1 rows" in n for n in summary["notes"])
    mapping["items"] = {"files": "items.parquet", "columns": {"item_id": "i"}, "attributes": "all"}
    buffer = io.BytesIO()
    pl.DataFrame({"i": [7], "meta": [{"a": 1}]}).write_parquet(buffer)
    with pytest.raises(ConfigError, match=r"meta: a column of type Struct.* cannot become an attribute"):
        bring(tmp_path / "b", mapping, items_parquet=buffer.getvalue(), log_csv=log)
