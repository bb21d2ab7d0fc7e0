"""`import-data --guess` tells from files what they are: forms of the field, each with the rows that must come out."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from recsys_cli.cli.common import run
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.guess.plan import guess
from recsys_cli.data.importer.guess.write import mapping_text
from recsys_cli.data.importer.mapping import read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.errors import DataError

RNG = np.random.default_rng(0)


def bring(tmp_path, files: dict[str, str | bytes]):
    """(the guess of some files, the dataset that its mapping makes of them)."""
    folder = tmp_path / "from"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = guess([folder])
    (tmp_path / "map.yaml").write_text(mapping_text(found, "map.yaml", "to"))
    import_dataset(read_mapping(tmp_path / "map.yaml"), found.folder, tmp_path / "to")
    return found, Dataset.open(tmp_path / "to")


def first(data: Dataset) -> tuple:
    """(user, item, moment, actions) of the first row of the log."""
    row = data.table("impressions").row(0, named=True)
    actions = ",".join(a for a in data.manifest.actions if row[a])
    return row["user_id"], row["item_id"], row["timestamp"].replace(tzinfo=None).isoformat(), actions


def ratings(separator: str, head: str = "", n: int = 400) -> str:
    rows = [(196, 242, 5, 881250949)]
    rows += [
        (int(RNG.integers(1, 60)), int(RNG.integers(1, 90)), int(RNG.integers(1, 6)), 881250950 + k) for k in range(n)
    ]
    return head + "".join(separator.join(map(str, row)) + "\n" for row in rows)


def test_movielens_without_a_header(tmp_path):
    flags = "|".join("0" * 5 + "1")
    found, data = bring(
        tmp_path,
        {
            "u.data": ratings("\t"),
            "u.item": "".join(f"{i}|Café {i} (1995)|01-Jan-1995||{flags}\n" for i in range(1, 250)).encode("latin-1"),
            "u.user": "".join(f"{u}|24|M|technician|{u:05d}\n" for u in [*range(1, 60), 196]),
        },
    )
    assert found.sure and first(data) == (196, 242, "1997-12-04T15:55:49", "like")
    assert data.items["text"][0] == "Café 1 (1995)" and data.items["created_at"][0].year == 1995
    assert data.users.height == 60 and "column_3" in data.users.columns
    assert any("latin-1" in d.text for d in found.doubts)


@pytest.mark.parametrize("separator", ["::", ";", "|"])
def test_separators_are_found(tmp_path, separator):
    _, data = bring(tmp_path, {"ratings.dat": ratings(separator)})
    assert first(data) == (196, 242, "1997-12-04T15:55:49", "like")
    assert data.table("impressions").height == 401


def test_movielens_with_headers_leaves_the_tags_out(tmp_path):
    found, data = bring(
        tmp_path,
        {
            "ratings.csv": ratings(",", "userId,movieId,rating,timestamp\n"),
            "movies.csv": 'movieId,title,genres\n242,"Kolya, a (1996)",Comedy|War\n2,B (1990),War\n3,C (1990),Drama\n',
            "tags.csv": "userId,movieId,tag,timestamp\n196,242,funny one,881250949\n",
        },
    )
    assert found.sure and first(data) == (196, 242, "1997-12-04T15:55:49", "like")
    assert data.items["topics"][0].to_list() == ["Comedy", "War"] and data.items["text"][0] == "Kolya, a (1996)"
    assert list(data.manifest.actions) == ["like"] and any("tags.csv is left out" in d.text for d in found.doubts)


def test_a_shop_log_with_events(tmp_path):
    events = ["view", "view", "cart", "purchase", "remove_from_cart"]
    rows = [
        f"2019-10-01 00:{k // 60 % 60:02d}:{k % 60:02d} UTC;{events[k % 5]};{1000 + k % 37};{500 + k % 23};12,5\n"
        for k in range(300)
    ]
    found, data = bring(
        tmp_path,
        {
            "events.csv": "event_time;event_type;product_id;user_id;price\n" + "".join(rows),
            "products.csv": "id;name;brand\n" + "".join(f"{i};Thing {i};b{i % 3}\n" for i in range(1000, 1037)),
            "customers.csv": "customer_id;email;age\n" + "".join(f"{u};a{u}@b.c;{u % 60}\n" for u in range(500, 523)),
        },
    )
    assert found.sure and first(data) == (500, 1000, "2019-10-01T00:00:00", "click")
    polarities = {a: info.polarity for a, info in data.manifest.actions.items()}
    assert polarities == {
        "click": "positive",
        "cart": "positive",
        "purchase": "positive",
        "remove_from_cart": "negative",
    }
    assert [data.manifest.actions[a].count for a in polarities] == [120, 60, 60, 60]
    assert "email" not in data.users.columns and data.users["age"][0] == 500 % 60
    assert data.items["author_id"][1] == "b" + str(1001 % 3) and data.items["text"][0] == "Thing 1000"


def test_triples_of_plays_name_their_items(tmp_path):
    rows = [f'{k % 40:040x}\tm{k % 50:04d}-aa\tArtist "{k % 50}\t{k % 97 + 1}\n' for k in range(600)]
    found, data = bring(tmp_path, {"plays.tsv": "".join(rows)})
    row = data.table("impressions").row(0, named=True)
    assert (row["user_id"], row["item_id"], row["play"]) == ("0" * 40, "m0000-aa", True)
    assert data.items["text"][0] == 'Artist "0' and data.items.height == 50 and not data.manifest.has_time
    assert found.sure


def test_slates_with_labels_as_mind_has_them(tmp_path):
    rows = [
        f"{k + 1}\tU{k % 30}\t11/{10 + k % 9}/2019 9:05:12 {'AM' if k % 2 else 'PM'}\tN1 N2\tN{k % 40}-1 N{k % 39}-0\n"
        for k in range(200)
    ]
    news = [f'N{i}\tsports\tgolf{i % 3}\tA "quoted title {i}\tText {i}\n' for i in range(40)]
    found, data = bring(tmp_path, {"behaviors.tsv": "".join(rows), "news.tsv": "".join(news)})
    assert found.sure and first(data) == ("U0", "N0", "2019-11-10T21:05:12", "click")
    log = data.table("impressions")
    assert log.height == 400 and log["click"].sum() == 200 and log["position"][:2].to_list() == [0, 1]
    assert data.items["text"][0] == 'A "quoted title 0'


def test_sessions_of_objects_as_otto_has_them(tmp_path):
    kinds = ["clicks", "carts", "orders"]
    lines = [
        json.dumps(
            {"session": s, "events": [{"aid": 9 + k, "ts": 1661724000000 + k, "type": kinds[k]} for k in range(3)]}
        )
        for s in range(50)
    ]
    found, data = bring(tmp_path, {"train.jsonl": "\n".join(lines)})
    assert first(data) == (0, 9, "2022-08-28T22:00:00", "click")
    assert list(data.manifest.actions) == ["click", "cart", "purchase"]
    assert any("session" in d.text for d in found.doubts)


def test_a_social_network_has_authors_and_follows(tmp_path):
    found, data = bring(
        tmp_path,
        {
            "posts.csv": "post_id,user_id,text,created_at\n"
            + "".join(f"p{i},u{i % 7},hello world {i},2024-01-01T00:00:00Z\n" for i in range(40)),
            "likes.csv": "user_id,post_id,timestamp\n"
            + "".join(f"u{k % 9},p{k % 40},2024-02-01T10:00:{k % 60:02d}Z\n" for k in range(300)),
            "follows.csv": "follower,followee\n" + "".join(f"u{k},u{(k + 1) % 7}\n" for k in range(7)),
        },
    )
    assert found.sure and first(data) == ("u0", "p0", "2024-02-01T10:00:00", "like")
    assert data.manifest.authors_are_users and data.table("follows").height == 7
    assert data.items["author_id"][8] == "u1"


def test_truth_values_and_parquet(tmp_path):
    frame = pl.DataFrame(
        {
            "uid": np.arange(60) % 7,
            "video_id": np.arange(60) % 11,
            "time_ms": 1_650_000_000_000 + np.arange(60),
            "date": [20220415] * 60,
            "is_click": np.arange(60) % 2,
            "is_like": np.arange(60) % 3 == 0,
            "play_time_ms": np.arange(60) * 1000,
            "tab": [1] * 60,
        }
    )
    (tmp_path / "x").mkdir()
    frame.write_parquet(tmp_path / "x" / "log.parquet")
    found, data = bring(tmp_path, {"log.parquet": (tmp_path / "x" / "log.parquet").read_bytes()})
    log = data.table("impressions")
    assert found.sure and log["timestamp"][1].microsecond == 1000 and log["dwell_seconds"][3] == 3.0
    assert log.select("click", "like").sum().row(0) == (30, 20)


def test_lines_of_ids_are_users_or_sequences(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    _, keyed = bring(tmp_path / "a", {"train.txt": "0 5 6\n1 7\n2 5 6 7 8\n"})
    assert keyed.table("impressions").height == 7
    _, lines = bring(tmp_path / "b", {"s.txt": "5 6 9\n5 7\n8 6 7 8\n"})
    assert lines.table("impressions").height == 9 and lines.manifest.has_order


def test_a_session_stands_for_users_who_are_mostly_unknown(tmp_path):
    rows = [f"{k // 4};{'NA' if k % 3 else k % 50};{81000 + k % 80};2016-05-{1 + k // 60:02d}\n" for k in range(600)]
    found, data = bring(tmp_path, {"views.csv": "sessionId;userId;itemId;eventdate\n" + "".join(rows)})
    assert found.sure and first(data) == (0, 81000, "2016-05-01T00:00:00", "click")
    assert any("missing in 67%" in d.text for d in found.doubts)


def test_rows_without_a_user_are_told_and_do_not_stop_the_import(tmp_path):
    rows = [f"{'NULL' if k % 10 == 3 else k % 50},{k % 80}\n" for k in range(600)]
    found, data = bring(tmp_path, {"clicks.csv": "user_id,item_id\n" + "".join(rows)})
    assert found.mapping()["missing"] == ["", "NULL"] and data.table("impressions").height == 540
    assert any("10.0% of the rows" in d.text for d in found.doubts)


def test_numbers_that_meet_by_chance_make_no_table(tmp_path):
    events = [f"{1433221332117 + k},{k % 60},view,{k % 70}\n" for k in range(600)]
    found, data = bring(
        tmp_path,
        {
            "events.csv": "timestamp,visitorid,event,itemid\n" + "".join(events),
            "category_tree.csv": "categoryid,parentid\n" + "".join(f"{k},{k // 3}\n" for k in range(60)),
        },
    )
    assert found.sure and "users" not in found.tables and first(data)[3] == "click"


def test_what_a_file_is_called_tells_what_was_done(tmp_path):
    rows = [f"2018-09-0{1 + k // 100},c{k % 70},{k % 50:05d}\n" for k in range(600)]
    _, data = bring(tmp_path, {"transactions_train.csv": "t_dat,customer_id,article_id\n" + "".join(rows)})
    assert first(data) == ("c0", "00000", "2018-09-01T00:00:00", "purchase")


def test_several_logs_share_their_actions(tmp_path):
    _, data = bring(
        tmp_path,
        {
            "shop-clicks.dat": "".join(f"{k // 4},2014-04-07T10:51:{k % 60:02d}.277Z,{k % 60}\n" for k in range(600)),
            "shop-buys.dat": "".join(
                f"{k // 2},2014-04-07T10:54:{k % 60:02d}.868Z,{k % 60},12462,1\n" for k in range(120)
            ),
        },
    )
    assert {a: info.count for a, info in data.manifest.actions.items()} == {"click": 600, "purchase": 120}


def test_events_without_meaning_beside_a_category_are_no_ratings(tmp_path):
    rows = [f"{k % 50},{k % 90},{k % 9 + 1},{['pv', 'buy', 'fav'][k % 3]},{1511544070 + k}\n" for k in range(600)]
    _, data = bring(tmp_path, {"UserBehavior.csv": "".join(rows)})
    assert {a: info.count for a, info in data.manifest.actions.items()} == {"click": 200, "like": 200, "purchase": 200}


def test_what_is_not_sure_is_asked(tmp_path):
    days = [f"u{k % 5},i{k % 7},0{1 + k * 7 % 9}/0{1 + k * 4 % 9}/2020\n" for k in range(60)]
    (tmp_path / "log.csv").write_text("user,item,date\n" + "".join(days))
    found = guess([tmp_path / "log.csv"])
    assert not found.sure and "day and month" in next(d.text for d in found.doubts if d.asks)
    (tmp_path / "log.csv").write_text("user,item,date\nu,i,13/02/2020\nu,j,01/02/2020\nv,j,01/03/2020\n")
    assert guess([tmp_path / "log.csv"]).mapping()["impressions"]["columns"]["timestamp"]["format"] == "%d/%m/%Y"
    (tmp_path / "log.csv").write_text("kunde,artikel\n" + "".join(f"{k % 5},{k % 7}\n" for k in range(60)))
    assert "kunde" in next(d.text for d in guess([tmp_path / "log.csv"]).doubts if d.asks)
    (tmp_path / "log.csv").write_text("user,item,type\n" + "".join(f"{k % 5},{k % 7},{k % 4}\n" for k in range(60)))
    assert "mean is not known" in next(d.text for d in guess([tmp_path / "log.csv"]).doubts if d.asks)


def test_files_without_a_log_are_refused_with_their_columns(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n1,A b\n2,C d\n")
    with pytest.raises(DataError, match=r"items\.csv: item_id, title"):
        guess([tmp_path / "items.csv"])


def test_the_command_imports_what_it_is_sure_of_and_keeps_a_mapping_that_is_there(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(ratings(",", "userId,movieId,rating,timestamp\n"))
    command = ["import-data", "--guess", "log.csv", "--to", "data"]
    assert run(command) == 0 and Dataset.open("data").table("impressions").height == 401
    text = (tmp_path / "mapping.yaml").read_text()
    assert "like: {column: rating, at_least: 4}   # ratings run from 1 to 5" in text
    assert run(command) == 0 and not (tmp_path / "mapping-2.yaml").exists()
    (tmp_path / "mapping.yaml").write_text("# mine\n")
    assert run(command) == 0 and (tmp_path / "mapping.yaml").read_text() == "# mine\n"
    assert (tmp_path / "mapping-2.yaml").exists()
    capsys.readouterr()
    (tmp_path / "odd.csv").write_text("user,item,date\n" + "u,i,02/01/2020\nv,j,01/03/2020\nv,i,02/02/2020\n" * 9)
    command = ["import-data", "--guess", "odd.csv", "--to", "other", "--write", "odd.yaml"]
    assert run(command) == 4 and not (tmp_path / "other").exists()
    assert "not imported" in capsys.readouterr().err
    assert run([*command, "--yes"]) == 0 and Dataset.open("other").table("impressions").height == 27
    assert run(["import-data", "log.csv", "odd.csv"]) == 2
