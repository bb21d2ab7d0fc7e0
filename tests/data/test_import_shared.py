"""The shipped mappings against the public datasets that they are for."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import orjson
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import read_mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.validate import validate_dataset

pytestmark = pytest.mark.shared_data


@pytest.fixture
def bring(shared_data, tmp_path, request):
    """Import one of the public datasets by a shipped mapping; nothing may be refused."""

    def run(mapping: str, folder: str) -> Dataset:
        configs = request.config.rootpath / "configs" / "import"
        summary = import_dataset(
            read_mapping(configs / f"{mapping}.yaml"), shared_data / folder, tmp_path / "to"
        )
        assert summary["rejects"] == []
        assert all(c.ok for c in validate_dataset(tmp_path / "to"))
        return Dataset.open(tmp_path / "to")

    return run


def test_kuairand_comes_in_whole(bring, shared_data):
    data = bring("kuairand", "kuairand")
    source = pl.read_parquet(shared_data / "kuairand" / "log_standard_4_25_to_5_08.parquet")
    frame = data.table("impressions")
    assert frame.height == 228_329 and data.users.height == 27_285 and data.items.height == 7_583
    ours = ["click", "long_view", "like", "profile_click", "follow", "reply", "repost", "hide"]
    theirs = [
        "is_click",
        "long_view",
        "is_like",
        "is_profile_enter",
        "is_follow",
        "is_comment",
        "is_forward",
        "is_hate",
    ]
    assert list(data.manifest.actions) == ours and data.manifest.actions["hide"].polarity == "negative"
    np.testing.assert_array_equal(frame.select(ours).to_numpy(), source.select(theirs).to_numpy() == 1)
    np.testing.assert_array_equal(
        frame["timestamp"].to_physical().to_numpy(), source["time_ms"].to_numpy() * 1000
    )
    np.testing.assert_array_equal(
        frame.select("user_id", "item_id").to_numpy(), source.select("user_id", "video_id").to_numpy()
    )
    np.testing.assert_allclose(
        frame["dwell_seconds"].to_numpy(), source["play_time_ms"].to_numpy() / 1000, rtol=1e-6
    )
    # -124 means unknown
    assert data.users["is_live_streamer"].null_count() == 21_127
    assert "-124" not in data.users["is_live_streamer"].unique().to_list()
    assert data.items["topics"].null_count() == 96 and data.items["author_id"].null_count() == 0
    # nothing was shown before the day on which it was uploaded
    created = data.items["created_at"].to_physical().to_numpy()
    assert (data.log.time >= created[data.log.item]).all()
    history = data.table("history").filter(pl.col("user_id") == 2, pl.col("action") == "watch").sort("rank")
    before = pl.read_parquet(shared_data / "kuairand" / "history_before_4_25.parquet").filter(
        pl.col("user_id") == 2
    )
    assert history["item_id"].to_list() == before["watch_seq"][0].to_list()


def test_gowalla_keeps_its_given_split(bring, shared_data):
    data = bring("lightgcn", "gowalla")
    assert (data.users.height, data.items.height) == (29_858, 40_981)
    sizes = {name: len(data.log.window(*span)) for name, span in data.manifest.splits.items()}
    assert sizes == {"train": 810_128, "test": 217_242}
    first = (shared_data / "gowalla" / "test.txt").open().readline().split()
    test = data.log.window(*data.manifest.splits["test"])
    mine = test.item[test.user == data.user_ids.position(first[0])]
    assert data.item_ids.external(mine) == [int(i) for i in first[1:]]


def test_movielens_sequences_keep_their_order(bring, shared_data):
    data = bring("sequences", "ml-1m")
    assert (data.users.height, data.items.height, len(data.log)) == (6_040, 3_416, 999_611)
    lines = (shared_data / "ml-1m" / "sequences.txt").read_text().splitlines()
    for user in (1, 77, 6040):
        mine = data.log.item[data.log.user == data.user_ids.position(user)]
        assert data.item_ids.external(mine) == [int(i) for i in lines[user - 1].split()]
    assert not data.manifest.has_time and data.items["topics"][0].to_list() == ["Action", "Adventure"]


def test_recbole_files_bring_ratings_and_attributes(bring):
    data = bring("recbole", "ml-100k")
    assert (data.users.height, data.items.height, len(data.log)) == (943, 1_682, 100_000)
    assert data.manifest.actions["like"].count == 55_375 and data.manifest.negatives_observed
    assert data.users.row(0, named=True) == {
        "user_id": 1,
        "age": 24,
        "gender": "M",
        "occupation": "technician",
        "zip_code": "85711",
    }
    assert data.items["text"][0] == "Toy Story" and data.items["topics"][0].to_list() == [
        "Animation",
        "Children's",
        "Comedy",
    ]


def test_lastfm_friends_follow_each_other(bring):
    data = bring("lastfm", "lastfm-2k")
    assert (data.users.height, data.items.height, len(data.log)) == (1_892, 17_632, 92_834)
    edges = data.edges("follows")
    pairs = set(zip(edges["from"].tolist(), edges["to"].tolist(), strict=True))
    assert len(pairs) == 25_434 and all((b, a) in pairs for a, b in pairs)


def test_the_commands_take_a_slice_of_kuairand_as_real_processes(kuairand_slice, tmp_path, request):
    def recsys(*arguments) -> str:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
        environment = plain | {"RECSYS_ARTIFACTS_DIR": str(tmp_path / "artifacts")}
        command = [sys.executable, "-m", "recsys_cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    mapping = request.config.rootpath / "configs" / "import" / "kuairand.yaml"
    imported = recsys("import-data", mapping, "--from", kuairand_slice, "--to", tmp_path / "d", "--format", "json")
    rows = pl.scan_parquet(kuairand_slice / "log_standard_4_25_to_5_08.parquet").select(pl.len()).collect().item()
    counts = orjson.loads(imported)["tables"]["impressions"]
    assert counts == {"read": rows, "rejected": 0, "merged": 0, "added": 0, "rows": rows}
    assert orjson.loads(recsys("data", "validate", "--data-dir", tmp_path / "d", "--format", "json"))["ok"]
    described = orjson.loads(recsys("data", "describe", "--data-dir", tmp_path / "d", "--format", "json"))
    assert described["counts"]["impressions"] == rows and described["actions"][0]["action"] == "click"
