"""`import-data --append`: new days of a log are added once, whatever is read again changes nothing."""

from __future__ import annotations

import polars as pl
import pytest

from recsys_cli.cli.common import run
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.append import append_dataset
from recsys_cli.data.importer.mapping import Mapping, read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.validate import validate_dataset
from recsys_cli.errors import ConfigError, DataError

MAPPING = {
    "name": "days",
    "items": {"files": "items.csv", "optional": True, "columns": {"item_id": "i"}, "attributes": {"price": "float"}},
    "impressions": {
        "files": "log*.csv",
        "columns": {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}},
        "actions": {"click": "c"},
    },
    "follows": {"files": "follows.csv", "optional": True, "columns": {"follower_id": "u", "followee_id": "v"}},
    "authors_are_users": True,
    "max_reject_share": 0.5,
}
DAY = 1_600_000_000


def day(folder, name: str, rows: list[tuple], **tables: str):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("u,i,t,c\n" + "".join(",".join(map(str, r)) + "\n" for r in rows))
    for table, text in tables.items():
        (folder / f"{table}.csv").write_text(text)
    return folder


@pytest.fixture
def first(tmp_path):
    """A dataset of one day, with its mapping and its folder."""
    folder = day(
        tmp_path / "one",
        "log1.csv",
        [("a", 1, DAY, 1), ("b", 2, DAY + 1, 0), ("a", 1, DAY, 1)],
        items="i,price\n1,5\n2,\n",
        follows="u,v\na,b\n",
    )
    mapping = Mapping.model_validate(MAPPING)
    import_dataset(mapping, folder, tmp_path / "data")
    return mapping, folder, tmp_path / "data"


def accounted(summary: dict) -> bool:
    return all(
        c["rows"] - c.get("before", 0) == c["read"] - c["rejected"] - c["merged"] + c["added"]
        for c in summary["tables"].values()
    )


def test_a_new_day_is_added_and_known_rows_are_not(first, tmp_path):
    mapping, _, data = first
    before = Dataset.open(data).users["user_id"].to_list()
    two = day(
        tmp_path / "two",
        "log2.csv",
        [("b", 2, DAY + 1, 0), ("c", 1, DAY + 86_400, 1), ("c", 9, DAY + 86_401, 1)],
        items="i,price\n2,7\n3,8\n",
        follows="u,v\na,b\nc,a\n",
    )
    summary = append_dataset(mapping, two, data)
    after = Dataset.open(data)
    log = after.table("impressions")
    assert log["user_id"].to_list() == ["a", "b", "a", "c"] and log["item_id"].to_list() == [1, 2, 1, 1]
    assert summary["tables"]["impressions"] == {
        "read": 3,
        "rejected": 1,
        "merged": 1,
        "added": 0,
        "rows": 4,
        "before": 3,
    }
    # places stay; what is known now stands where nothing was known
    assert after.items.rows() == [(1, 5.0), (2, 7.0), (3, 8.0)]
    assert after.users["user_id"].to_list() == [*before, "c"]
    assert after.table("follows").rows() == [("a", "b"), ("c", "a")]
    assert accounted(summary) and all(c.ok for c in validate_dataset(data))
    assert after.manifest.time_span[1] == (DAY + 86_400) * 1_000_000
    assert pl.read_parquet(data / "rejects.parquet")["value"].to_list() == ["9"]


def test_a_second_run_changes_nothing(first, tmp_path):
    mapping, folder, data = first
    before = (data / "dataset.json").read_bytes()
    summary = append_dataset(mapping, folder, data)
    assert (data / "dataset.json").read_bytes() == before and accounted(summary)
    assert summary["tables"]["impressions"]["merged"] == 3 and "nothing is new" in summary["notes"][-1]
    two = day(tmp_path / "two", "log2.csv", [("c", 1, DAY + 86_400, 1)])
    append_dataset(mapping, two, data)
    digest = Dataset.open(data).manifest.digest
    append_dataset(mapping, two, data)
    assert Dataset.open(data).manifest.digest == digest
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "one", "two"]


def test_a_row_that_comes_more_often_is_new_as_often(first, tmp_path):
    mapping, _, data = first
    two = day(tmp_path / "two", "log2.csv", [("a", 1, DAY, 1)] * 5)
    append_dataset(mapping, two, data)
    log = Dataset.open(data).table("impressions")
    assert log.filter(pl.col("user_id") == "a").height == 5


def test_days_one_by_one_are_the_same_as_all_at_once(tmp_path):
    mapping = Mapping.model_validate({**MAPPING, "items": [], "follows": []})
    rows = [(f"u{k % 7}", k % 5, DAY + 3600 * k, k % 2) for k in range(60)]
    for n in range(3):
        append_dataset(mapping, day(tmp_path / f"d{n}", f"log{n}.csv", rows[20 * n : 20 * n + 20]), tmp_path / "step")
    import_dataset(mapping, day(tmp_path / "all", "log.csv", rows), tmp_path / "whole")
    step, whole = Dataset.open(tmp_path / "step"), Dataset.open(tmp_path / "whole")
    assert step.manifest.tables["impressions"].digest == whole.manifest.tables["impressions"].digest
    assert step.manifest.actions == whole.manifest.actions


def test_rows_without_time_stand_behind_those_that_are_there(tmp_path):
    tree = {
        "name": "order",
        "impressions": {
            "files": "log*.csv",
            "columns": {"user_id": "u", "item_id": "i", "timestamp": {"order": True}},
            "actions": {"click": "c"},
        },
    }
    mapping = Mapping.model_validate(tree)
    append_dataset(mapping, day(tmp_path / "a", "log1.csv", [("a", 1, 0, 1), ("a", 2, 0, 1)]), tmp_path / "data")
    two = day(tmp_path / "b", "log2.csv", [("a", 3, 0, 1), ("z", 4, 0, 1)])
    append_dataset(mapping, two, tmp_path / "data")
    append_dataset(mapping, two, tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    items = data.item_ids.ids[data.log.item[data.log.user == data.user_ids.positions(["a"])[0]]]
    assert items.tolist() == [1, 2, 3] and len(data.log) == 4


def test_what_does_not_fit_is_refused_and_the_dataset_stays(first, tmp_path, capsys):
    mapping, folder, data = first
    before = (data / "dataset.json").read_bytes()
    with pytest.raises(DataError, match="no file"):
        append_dataset(mapping, day(tmp_path / "none", "other.csv", []), data)
    tree = {**MAPPING, "impressions": {**MAPPING["impressions"], "actions": {"like": "c"}}}
    with pytest.raises(ConfigError, match="actions like"):
        append_dataset(Mapping.model_validate(tree), folder, data)
    texts = day(tmp_path / "two", "log2.csv", [("d", "x1", DAY + 9, 1)])
    with pytest.raises(DataError, match="not an integer"):
        append_dataset(mapping, texts, data)
    assert (data / "dataset.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "none", "one", "two"]


def test_the_command_appends(first, tmp_path, capsys):
    import yaml

    _, _, data = first
    (tmp_path / "map.yaml").write_text(yaml.safe_dump(MAPPING))
    assert read_mapping(tmp_path / "map.yaml").name == "days"
    two = day(tmp_path / "two", "log2.csv", [("c", 1, DAY + 86_400, 1)])
    assert run(["import-data", str(tmp_path / "map.yaml"), "--from", str(two), "--to", str(data), "--append"]) == 0
    assert "before" in capsys.readouterr().out and Dataset.open(data).manifest.tables["impressions"].rows == 4


def test_an_item_keeps_its_author_and_edges_to_nobody_are_refused(tmp_path):
    tree = {**MAPPING, "authors_are_users": False}
    tree["items"] = {**MAPPING["items"], "columns": {"item_id": "i", "author_id": "a"}, "attributes": {}}
    mapping = Mapping.model_validate(tree)
    one = day(tmp_path / "one", "log1.csv", [("a", 1, DAY, 1)], items="i,a\n1,x\n2,\n", follows="u,v\na,x\n")
    append_dataset(mapping, one, tmp_path / "data")
    two = day(
        tmp_path / "two", "log2.csv", [("a", 2, DAY + 9, 1)], items="i,a\n1,y\n2,z\n", follows="u,v\na,y\na,z\n"
    )
    summary = append_dataset(mapping, two, tmp_path / "data")
    data = Dataset.open(tmp_path / "data")
    assert data.items.rows() == [(1, "x"), (2, "z")] and data.table("follows").rows() == [("a", "x"), ("a", "z")]
    assert summary["tables"]["follows"]["rejected"] == 1 and accounted(summary)
    assert any("another author" in n for n in summary["notes"])
    assert pl.read_parquet(tmp_path / "data" / "rejects.parquet")["value"].to_list() == ["y"]
    assert all(c.ok for c in validate_dataset(tmp_path / "data"))


def test_nothing_is_appended_to_a_generated_world(first, tmp_path):
    mapping, folder, _ = first
    assert run(["generate-data", "--quiet", "--data-dir", str(tmp_path / "world"), "--set", "world.users=30",
                "--set", "world.items=60"]) == 0
    with pytest.raises(DataError, match="is a generated world"):
        append_dataset(mapping, folder, tmp_path / "world")
    assert (tmp_path / "world" / "truth").is_dir()
