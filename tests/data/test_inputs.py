"""Files as people really have them: read right, or refused with the place; never changed in silence."""

from __future__ import annotations

import datetime as dt
import decimal
import gzip
import io
import uuid
import zipfile
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.lists import parse_list
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.preview import preview
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.errors import ConfigError, DataError

LOG = {
    "files": "log.csv",
    "columns": {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}},
    "actions": {"click": {"value": True}},
}
T = 1_600_000_000


def bring(tmp_path: Path, mapping: dict, **files) -> tuple[dict, Dataset]:
    """Write files (`_` for the dot of a name), import them, and check that every row is accounted for."""
    folder = tmp_path / "from"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace("_", ".")
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    summary = import_dataset(Mapping.model_validate({"name": "t", **mapping}), folder, tmp_path / "to")
    for counts in summary["tables"].values():
        assert counts["rows"] == counts["read"] - counts["rejected"] - counts["merged"] + counts["added"]
    return summary, Dataset.open(tmp_path / "to")


def users(data: Dataset) -> list:
    return data.table("impressions")["user_id"].to_list()


def rejected(tmp_path: Path) -> list[tuple]:
    return pl.read_parquet(tmp_path / "to" / "rejects.parquet").select("line", "reason", "value").rows()


# --- quotes -----------------------------------------------------------------------------------------------


def test_a_stray_quote_refuses_every_line_that_it_swallowed(tmp_path):
    lines = [f"u{n},i{n},{T + n},title {n}" for n in range(100)]
    lines[10] = f'u10,i10,{T},"title 10'
    lines[20] = f'u20,i20,{T},title 20"'
    text = "u,i,t,title\n" + "\n".join(lines) + "\n"
    with pytest.raises(DataError, match="11 of 100 rows of impressions refused") as caught:
        bring(tmp_path, {"impressions": LOG}, log_csv=text)
    assert "log.csv line 12" in caught.value.hint and "quote: none" in caught.value.hint
    summary, _ = bring(tmp_path, {"impressions": LOG, "max_reject_share": 1}, log_csv=text)
    assert summary["tables"]["impressions"]["read"] == 100
    assert [r[0] for r in rejected(tmp_path)] == list(range(12, 23))
    _, data = bring(tmp_path, {"impressions": LOG | {"quote": "none"}}, log_csv=text)
    assert data.table("impressions").height == 100


def test_a_quote_that_is_never_closed_refuses_the_rest_line_by_line(tmp_path):
    text = "u,i,t,c\n" + f"a,b,{T},1\n" * 50 + f'a,"b,{T},1\n' + f"a,b,{T},1\n" * 49
    summary, _ = bring(tmp_path, {"impressions": LOG, "max_reject_share": 1}, log_csv=text)
    assert summary["tables"]["impressions"] | {"added": 0} == {
        "read": 100, "rejected": 50, "merged": 0, "added": 0, "rows": 50
    }


def test_prose_over_many_lines_is_one_field(tmp_path):
    review = "Nice, but, slow.\n\nReally: good, cheap, fast.\n" * 3
    text = f'u,i,t,text\na,b,{T},"{review}"\n'
    summary, _ = bring(tmp_path, {"impressions": LOG}, log_csv=text)
    assert summary["tables"]["impressions"]["rows"] == 1


@pytest.mark.parametrize("says", [{}, {"escape": "\\"}])
def test_backslashes_before_quotes_are_escapes(tmp_path, says):
    items = {"files": "items.csv", "columns": {"item_id": "i", "text": "title"}, **says}
    summary, data = bring(
        tmp_path,
        {"impressions": LOG, "items": items},
        items_csv='"i","title"\n"x","He said \\"hi\\""\n"y","Say \\"no"\n"z","plain"\n',
        log_csv=f"u,i,t\na,x,{T}\na,y,{T}\na,z,{T}\n",
    )
    assert data.items["text"].to_list() == ['He said "hi"', 'Say "no', "plain"]
    assert any("backslash" in n for n in summary["notes"]) == (not says)


# --- ids --------------------------------------------------------------------------------------------------


def test_an_id_with_leading_zeros_makes_ids_text_wherever_it_stands(tmp_path):
    summary, data = bring(
        tmp_path,
        {"impressions": LOG, "users": {"files": "users.csv", "columns": {"user_id": "u"}}, "unknown_users": "add"},
        users_csv="u,age\n1,30\n2,40\n",
        log_csv=f"u,i,t\n001,10,{T}\n1,10,{T}\n01,11,{T}\n",
    )
    assert users(data) == ["001", "1", "01"] and data.table("impressions")["item_id"].to_list() == [10, 10, 11]
    assert any("user ids are kept as text" in n and "line 2 holds '001'" in n for n in summary["notes"])


@pytest.mark.parametrize("odd", ["1_0", "+7", "٣", "1e3", "7.0", "-0", "99999999999999999999"])
def test_what_is_no_plain_integer_is_a_text_of_its_own(tmp_path, odd):
    _, data = bring(tmp_path, {"impressions": LOG}, log_csv=f"u,i,t\n10,a,{T}\n7,a,{T}\n{odd},a,{T}\n")
    assert users(data) == ["10", "7", odd]


def test_integers_of_64_bits_in_json_lose_no_digit(tmp_path):
    part = LOG | {"files": "log.jsonl"}
    big, huge = 9007199254740993, 123456789012345678901234567890
    lines = [f'{{"u": {u}, "i": "x", "t": {T}}}' for u in (big, big - 1, "1.5", huge, huge + 1, "1.0", 1)]
    _, data = bring(tmp_path, {"impressions": part}, log_jsonl="\n".join(lines))
    assert users(data) == [str(big), str(big - 1), "1.5", str(huge), str(huge + 1), "1", "1"]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([10.0, 11.0], pa.float64(), [10, 11]),
        ([decimal.Decimal("12.00"), decimal.Decimal("7.00")], pa.decimal128(9, 2), [12, 7]),
        ([2**63 + 5, 7], pa.uint64(), [str(2**63 + 5), "7"]),
        ([b"ab", b"c"], pa.binary(), ["ab", "c"]),
    ],
)
def test_typed_ids_keep_their_value(tmp_path, values, kind, expected):
    table = pa.table({"u": pa.array(values, kind), "i": ["x", "y"], "t": [T, T]})
    _, data = bring(tmp_path, {"impressions": LOG | {"files": "log.parquet"}}, log_parquet=table)
    assert users(data) == expected


def test_binary_uuids_are_written_out_and_other_bytes_refused(tmp_path):
    ids = [uuid.UUID(int=n) for n in (1, 2)]
    table = pa.table({"u": pa.array([u.bytes for u in ids], pa.binary(16)), "i": ["x", "y"], "t": [T, T]})
    _, data = bring(tmp_path, {"impressions": LOG | {"files": "log.parquet"}}, log_parquet=table)
    assert users(data) == [str(u) for u in ids]
    table = pa.table({"u": pa.array([b"\xff\xfe", b"\x80"]), "i": ["x", "y"], "t": [T, T]})
    with pytest.raises(ConfigError, match="Binary holds no ids"):
        bring(tmp_path, {"impressions": LOG | {"files": "log.parquet"}}, log_parquet=table)


def test_floats_that_cannot_be_exact_are_refused_as_ids(tmp_path):
    table = pa.table({"u": [1e17, 3.0], "i": ["x", "y"], "t": [T, T]})
    bring(tmp_path, {"impressions": LOG | {"files": "log.parquet"}, "max_reject_share": 1}, log_parquet=table)
    line, reason, _ = rejected(tmp_path)[0]
    assert line == 1 and reason.startswith("user_id (u) is a float too large to be exact")


def test_float_ids_meet_the_text_ids_of_another_file(tmp_path):
    table = pa.table({"u": [1, 1], "i": [10.0, 11.0], "t": [T, T]})
    mapping = {
        "item_ids": "text",
        "items": {"files": "items.csv", "columns": {"item_id": "i"}},
        "impressions": LOG | {"files": "log.parquet"},
    }
    _, data = bring(tmp_path, mapping, items_csv="i\n10\n11\n", log_parquet=table)
    assert data.items["item_id"].to_list() == ["10", "11"]


def test_words_for_unknown_and_blanks_among_ids_are_told(tmp_path):
    summary, data = bring(
        tmp_path,
        {"impressions": LOG, "max_reject_share": 1},
        log_csv="u,i,t\n" + "".join(f"{u},x,{T}\n" for u in ("nan", "None", "NULL", " ", "a", "a ", "")),
    )
    assert users(data) == ["nan", "None", "NULL", " ", "a", "a "]
    told = " ".join(summary["notes"])
    assert "word for unknown" in told and "(4 rows, first log.csv line 2: 'nan')" in told
    assert "blanks around it" in told and "(1 rows, first log.csv line 7: 'a ')" in told


def test_a_word_for_unknown_does_not_make_integers_texts(tmp_path):
    mapping = {"impressions": LOG, "max_reject_share": 1}
    _, data = bring(tmp_path, mapping, log_csv=f"u,i,t\n1,x,{T}\nnan,x,{T}\n2,x,{T}\n")
    assert users(data) == [1, 2] and rejected(tmp_path) == [(3, "user_id (u) is not an integer", "nan")]


def test_ids_of_several_columns_or_of_the_row(tmp_path):
    columns = {"user_id": {"compose": ["a", "b"]}, "item_id": "i", "timestamp": {"column": "t", "unit": "s"}}
    log = f"a,b,i,t\nx|,y,1,{T}\nx,|y,1,{T}\nx,y,1,{T}\n"
    _, data = bring(tmp_path, {"impressions": LOG | {"columns": columns}}, log_csv=log)
    assert users(data) == [r"x\||y", r"x|\|y", "x|y"]
    columns = {"user_id": {"row_number": True}, "item_id": "i"}
    _, data = bring(tmp_path, {"impressions": LOG | {"columns": columns}}, log_csv=log)
    assert users(data) == [2, 3, 4]


def test_followees_who_are_users_are_told_apart_from_strangers(tmp_path):
    mapping = {
        "impressions": LOG,
        "follows": {"files": "f.csv", "columns": {"follower_id": "a", "followee_id": "b"}},
    }
    with pytest.raises(DataError) as caught:
        bring(tmp_path, mapping, log_csv=f"u,i,t\n1,x,{T}\n2,x,{T}\n", f_csv="a,b\n1,2\n")
    assert "authors_are_users: true" in caught.value.hint


# --- times ------------------------------------------------------------------------------------------------


def moment(tmp_path: Path, written: str, **says) -> dt.datetime:
    column = {"column": "t", **says}
    part = LOG | {"columns": {"user_id": "u", "item_id": "i", "timestamp": column}, "separator": ";"}
    _, data = bring(tmp_path, {"impressions": part}, log_csv=f"u;i;t\na;x;{written}\n")
    return data.table("impressions")["timestamp"][0]


@pytest.mark.parametrize(
    ("written", "form", "expected"),
    [
        ("2024-05-01 10:00:00 EST", "%Y-%m-%d %H:%M:%S %Z", "2024-05-01T15:00:00"),
        ("Wed May 01 10:00:00 CEST 2024", "%a %b %d %H:%M:%S %Z %Y", "2024-05-01T08:00:00"),
        ("2024-05-01 10:00:00.123456", "%Y-%m-%d %H:%M:%S.%f", "2024-05-01T10:00:00.123456"),
        ("2024-05-01 10:00:00,5", "%Y-%m-%d %H:%M:%S,%f", "2024-05-01T10:00:00.500000"),
        ("01.05.2024 10", "%d.%m.%Y %H", "2024-05-01T10:00:00"),
        ("2024-05-01T10:00:00+02", "iso", "2024-05-01T08:00:00"),
        ("2024-05-01 10:00:00 +02:00", "iso", "2024-05-01T08:00:00"),
        ("2024-05-01 10:00:00.25 UTC", "iso", "2024-05-01T10:00:00.250000"),
        ("20240501T100000Z", "iso", "2024-05-01T10:00:00"),
        ("2024-05-01", "iso", "2024-05-01T00:00:00"),
    ],
)
def test_written_times_are_what_they_say(tmp_path, written, form, expected):
    assert moment(tmp_path, written, format=form).replace(tzinfo=None).isoformat() == expected


def test_a_zone_with_no_known_name_refuses_the_row(tmp_path):
    with pytest.raises(DataError, match="1 of 1 rows"):
        moment(tmp_path, "2024-05-01 10:00:00 XYZ", format="%Y-%m-%d %H:%M:%S %Z")


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_times_that_the_clock_leapt_over_are_refused_and_those_that_stand_twice_counted(tmp_path, form):
    walls = [dt.datetime(2021, 3, 28, 2, 30), dt.datetime(2021, 10, 31, 2, 30), dt.datetime(2021, 7, 1, 12)]
    column = {"column": "t", "zone": "Europe/Berlin"} | ({"format": "iso"} if form == "csv" else {})
    part = LOG | {"files": f"log.{form}", "columns": {"user_id": "u", "item_id": "i", "timestamp": column}}
    table = pa.table({"u": [1, 2, 3], "i": [1, 1, 1], "t": walls})
    text = "u,i,t\n" + "".join(f"{n},1,{w.isoformat()}\n" for n, w in enumerate(walls, 1))
    files = {"log_csv": text} if form == "csv" else {"log_parquet": table}
    summary, data = bring(tmp_path, {"impressions": part, "max_reject_share": 1}, **files)
    hours = [t.isoformat() for t in data.table("impressions")["timestamp"]]
    assert hours == ["2021-10-31T00:30:00+00:00", "2021-07-01T10:00:00+00:00"]
    assert rejected(tmp_path)[0][1] == "timestamp (t) does not exist in Europe/Berlin"
    assert any("stands twice on the clock" in n and "(1 rows" in n for n in summary["notes"])


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (["yes", 1], [True, False, False, False, True, True]),
        ([True], [False] * 6),
        (["1"], [False, False, False, False, False, True]),
        (["no", "NO"], [False, True, True, False, False, False]),
    ],
)
def test_is_in_takes_texts_as_written_and_numbers_by_value(tmp_path, listed, expected):
    part = LOG | {"actions": {"click": {"column": "r", "is_in": listed}}}
    values = ("yes", "no", "NO", "Yes", "1.0", "1")
    text = "u,i,t,r\n" + "".join(f"a,x,{T + n},{v}\n" for n, v in enumerate(values))
    summary, data = bring(tmp_path, {"impressions": part}, log_csv=text)
    assert data.table("impressions")["click"].to_list() == expected
    assert any("click never occurs" in n for n in summary["notes"]) == (not any(expected))


def test_an_attribute_that_does_not_parse_is_left_unknown_and_counted(tmp_path):
    items = {"files": "items.csv", "columns": {"item_id": "i"}, "attributes": {"price": "float"}}
    summary, data = bring(
        tmp_path,
        {"impressions": LOG, "items": items},
        items_csv='i,price\nx,"$1,299.00"\ny,9.99\n',
        log_csv=f"u,i,t\na,x,{T}\na,y,{T}\n",
    )
    assert data.items["price"].to_list() == [None, 9.99] and data.table("impressions").height == 2
    assert any("price is not a number: left unknown (1 rows, first items.csv line 2" in n for n in summary["notes"])


def test_the_unnamed_index_of_a_data_frame_is_no_attribute(tmp_path):
    items = {"files": "items.csv", "columns": {"item_id": "i"}, "attributes": "all"}
    _, data = bring(
        tmp_path, {"impressions": LOG, "items": items}, items_csv=",i,age\n0,x,3\n1,y,4\n",
        log_csv=f",u,i,t\n0,a,x,{T}\n1,b,y,{T}\n",
    )
    assert data.items.columns == ["item_id", "age"] and users(data) == ["a", "b"]


# --- lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("['RPG', 'Indie, co-op']", ["RPG", "Indie, co-op"]),
        ('["Action", "RPG"]', ["Action", "RPG"]),
        ("[0.1 0.2\n 0.3]", ["0.1", "0.2", "0.3"]),
        ("['a' 'b']", ["a", "b"]),
        ("[u'x', None, 3]", ["x", None, "3"]),
        ("(1, 2)", ["1", "2"]),
        (r"['it\'s', 'b']", ["it's", "b"]),
        ("[]", []),
        ("RPG|Action", None),
    ],
)
def test_lists_written_as_text(text, expected):
    assert parse_list(text) == expected


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=6), max_size=5))
def test_what_python_writes_as_a_list_is_read_back(values):
    assert parse_list(repr(values)) == values


def test_topics_and_vectors_as_pandas_writes_lists(tmp_path):
    columns = {"item_id": "i", "topics": {"column": "tags", "separator": ","}}
    items = {"files": "items.csv", "columns": columns, "attributes": {"feat": "vector"}}
    _, data = bring(
        tmp_path, {"impressions": LOG, "items": items},
        items_csv='i,tags,feat\nx,"[\'RPG\', \'Indie, co-op\']","[0.5, 2]"\ny,"a, b","[1. 2.]"\n',
        log_csv=f"u,i,t\na,x,{T}\na,y,{T}\n",
    )
    assert data.items["topics"].to_list() == [["RPG", "Indie, co-op"], ["a", "b"]]
    assert data.items["feat"].to_list() == [[0.5, 2.0], [1.0, 2.0]]


def test_impressions_in_one_text_with_their_labels(tmp_path):
    part = {
        "files": "b.tsv", "header": False, "names": ["id", "u", "imp"],
        "explode": {"column": "imp", "separator": " ", "label": "-"},
        "columns": {"user_id": "u", "item_id": "imp"}, "actions": {"click": "label"},
    }
    _, data = bring(tmp_path, {"impressions": part}, b_tsv="1\tU1\tN3-1 N4-0\n2\tU2\tN-5-0\n")
    frame = data.table("impressions").select("user_id", "item_id", "click")
    assert frame.rows() == [("U1", "N3", True), ("U1", "N4", False), ("U2", "N-5", False)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_fields_of_nested_events(tmp_path, form):
    rows = [{"s": 1, "e": [{"aid": 7, "ts": T, "type": "clicks"}, {"aid": 8, "ts": T + 1, "type": "orders"}]}]
    columns = {"user_id": "s", "item_id": "e.aid", "timestamp": {"column": "e.ts", "unit": "s"}}
    part = {
        "files": f"log.{form}", "explode": "e", "columns": columns,
        "actions": {"order": {"column": "e.type", "is_in": ["orders"]}},
    }
    import orjson

    files = {"log_jsonl": orjson.dumps(rows[0])} if form == "jsonl" else {"log_parquet": pa.Table.from_pylist(rows)}
    _, data = bring(tmp_path, {"impressions": part}, **files)
    assert data.table("impressions").select("user_id", "item_id", "order").rows() == [(1, 7, False), (1, 8, True)]
    part["columns"] = columns | {"item_id": "e"}
    with pytest.raises(ConfigError, match="objects with the fields aid, ts, type") as caught:
        bring(tmp_path, {"impressions": part}, **files)
    assert "e.aid" in caught.value.hint


def test_nulls_in_lists_are_missing_ids_and_rows_without_elements_are_told(tmp_path):
    columns = {"user_id": "s", "item_id": "e"}
    part = {"files": "log.jsonl", "explode": "e", "columns": columns, "actions": LOG["actions"]}
    lines = '{"s":1,"e":["a",null,"b"]}\n{"s":2,"e":[]}\n{"s":3,"e":null}\n{"s":4,"e":"c"}\n{"s":5}\n'
    summary, data = bring(tmp_path, {"impressions": part, "max_reject_share": 1}, log_jsonl=lines)
    assert data.table("impressions")["item_id"].to_list() == ["a", "b", "c"]
    assert rejected(tmp_path) == [(1, "item_id (e) is missing", None)]
    assert any("3 rows have no element in e" in n for n in summary["notes"])


def test_adjacency_lists_with_tabs_lose_nothing(tmp_path):
    part = {
        "files": "train.txt", "format": "adjacency", "columns": {"user_id": "user", "item_id": "item"},
        "actions": LOG["actions"],
    }
    summary, data = bring(tmp_path, {"impressions": part}, train_txt="1\t10\t11\n2  12\n3\n")
    assert data.table("impressions").select("user_id", "item_id").rows() == [(1, 10), (1, 11), (2, 12)]
    assert any("1 lines name a user and no item" in n for n in summary["notes"])


def test_rows_headed_by_their_item(tmp_path, monkeypatch):
    part = {
        "files": "c.txt", "format": "grouped", "separator": ",", "names": ["u", "r", "t"],
        "columns": {"user_id": "u", "item_id": "group", "timestamp": {"column": "t", "format": "iso"}},
        "actions": {"like": {"column": "r", "at_least": 4}},
    }
    monkeypatch.setattr("recsys_cli.data.importer.text.BLOCK_BYTES", 16)
    text = "9,1,2005-01-01\n1:\n7,3,2005-09-06\n8,5,2005-05-13\n2:\n7,4,2005-10-19\n"
    _, data = bring(tmp_path, {"impressions": part, "max_reject_share": 1}, c_txt=text)
    frame = data.table("impressions").select("user_id", "item_id", "like")
    assert frame.rows() == [(7, 1, False), (8, 1, True), (7, 2, True)]
    assert rejected(tmp_path) == [(1, "stands before the first line `ID:`", "")]


# --- containers and encodings -----------------------------------------------------------------------------

PLAIN = f"u,i,t\na,x,{T}\nb,y,{T}\n"


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, PLAIN)
    return out.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(PLAIN.encode()), zipped("inner.csv"), PLAIN.encode("utf-16"), PLAIN.encode("utf-16-le"),
        PLAIN.encode("utf-8-sig"), PLAIN.replace("\n", "\r").encode(), PLAIN.replace("\n", "\r\n").encode(),
    ],
    # what is packed holds the second it was packed in, which the two processes of a parallel run do not share
    ids=["gzip", "zip", "utf-16", "utf-16-le", "utf-8-sig", "cr", "crlf"],
)
def test_packed_and_encoded_files_are_known_by_their_first_bytes(tmp_path, content):
    _, data = bring(tmp_path, {"impressions": LOG}, log_csv=content)
    assert users(data) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped("a.csv", "b.csv"), "zip archive of 2 files"),
        (b"\0" * 257 + b"ustar" + b"\0" * 300, "archive \\(tar\\)"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"SQLite format 3\0", "SQLite database"),
        ("u,i,t\nJosé,x,1\n".encode("latin-1"), "not utf-8"),
    ],
    ids=["two in a zip", "tar", "web page", "SQLite", "latin-1"],
)
def test_what_is_not_read_is_refused_with_what_to_do(tmp_path, content, words):
    with pytest.raises(DataError, match=words) as caught:
        bring(tmp_path, {"impressions": LOG}, log_csv=content)
    assert caught.value.hint


@pytest.mark.parametrize("block", [20, 1 << 20])
def test_a_json_array_is_read_object_by_object(tmp_path, monkeypatch, block):
    monkeypatch.setattr("recsys_cli.data.importer.text.BLOCK_BYTES", block)
    import json

    rows = [{"u": f"a{n}", "i": "x]},[", "t": T + n} for n in range(9)]
    part = LOG | {"files": "log.json"}
    _, data = bring(tmp_path, {"impressions": part}, log_json=json.dumps(rows, indent=1))
    assert users(data) == [f"a{n}" for n in range(9)]
    with pytest.raises(DataError, match="breaks off"):
        bring(tmp_path, {"impressions": part}, log_json=json.dumps(rows, indent=1)[:-9])


def test_lines_of_python_dictionaries(tmp_path):
    _, data = bring(
        tmp_path, {"impressions": LOG | {"files": "log.json"}},
        log_json=f"{{u'u': u'a', 'i': 'it\\'s', 't': {T}}}\n{{'u': 'b', 'i': \"y\", 't': {T}, 'z': None}}\n",
    )
    assert data.table("impressions").select("user_id", "item_id").rows() == [("a", "it's"), ("b", "y")]


# --- looking first, and tables in memory ------------------------------------------------------------------


def test_a_preview_shows_the_first_rows_and_writes_nothing(tmp_path):
    (tmp_path / "log.csv").write_text("u,i,t\n" + f"007,x,{T}\n" * 9 + f"7,x,never\n7,y,{T}\n")
    before = sorted(p.name for p in tmp_path.iterdir())
    found = preview(Mapping.model_validate({"name": "t", "impressions": LOG}), tmp_path, rows=2)
    row = {"user_id": "007", "item_id": "x", "timestamp": "2020-09-13T12:26:40.000000+00:00", "click": True}
    assert found["tables"] == [{"table": "impressions", "file": "log.csv", "rows": [row] * 2}]
    assert found["rejects"][0]["line"] == 11 and sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_tables_in_memory_become_a_dataset(tmp_path, kind):
    log = pl.DataFrame({"user_id": [7.0, 8.0, 7.0], "item_id": ["b", "a", "a"], "click": [True, False, True]})
    rows = log if kind == "polars" else log.to_arrow()
    data = Dataset.from_frames(tmp_path / "d", {"impressions": rows}, {"click": "positive"})
    assert data.users["user_id"].to_list() == [7, 8] and data.items["item_id"].to_list() == ["a", "b"]
    assert not data.manifest.has_time and data.log.time.tolist()[0] < data.log.time.tolist()[-1]
    with pytest.raises(DataError, match="which items do not hold"):
        items = pl.DataFrame({"item_id": ["a"]})
        Dataset.from_frames(tmp_path / "e", {"impressions": log, "items": items}, {"click": "positive"})
    assert not (tmp_path / "e").exists()
