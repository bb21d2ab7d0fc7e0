"""Counts, trends, people and items move without a training: a real server, and the process beside it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from server_process import Server, copy_of

from recsys_cli.engine import RecommendationEngine
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, EventRules
from recsys_cli.serving.online_state import OnlineState, dataset_of
from recsys_cli.serving.refresher import LogReader, Refreshed, stale


@pytest.fixture(scope="module")
def moving(served_folder, tmp_path_factory):
    """A server that brings its state forward all the time."""
    folder = copy_of(served_folder, tmp_path_factory.mktemp("moving") / "place")
    running = Server.start(folder, "--set", "serving.refresh_seconds=0.3", "--set", "serving.pool.seconds=0.1")
    yield running
    assert running.stop() == 0, running.errors


def within(seconds, holds):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_what_people_turn_to_now_trends_and_its_features_are_counted(moving):
    def feature():
        return moving.get("/v1/features/1003/i77").json

    before, first = feature(), moving.get("/v1/items/i77").json
    events = [{"type": kind, "user_id": 1000 + k % 40, "item_id": "i77", "request_id": f"r{k}"}
              for k in range(120) for kind in ("impression", "like")]
    assert moving.post("/v1/events", events).json["accepted"] == 240
    within(30, lambda: moving.items("/v1/trending?n=1") == ["i77"])
    assert moving.items("/v1/popular?n=1") == ["i77"]
    now, second = feature(), moving.get("/v1/items/i77").json
    assert now["now"] > before["now"]
    assert second["impressions"] == first["impressions"] + 120
    assert second["interactions"] == first["interactions"] + 120
    changed = [name for name, value in now["features"].items() if value != before["features"][name]]
    assert any("item" in name for name in changed)


def test_new_people_and_items_become_part_of_what_pools_are_built_from(moving):
    described = {"author_id": 1001, "text": "jazz notes", "topics": ["jazz"]}
    assert moving.ask("PUT", "/v1/items/new1", described).status == 200
    kinds = ("impression", "like")
    likes = [{"type": kind, "user_id": 1000 + k % 30, "item_id": "new1"} for k in range(60) for kind in kinds]
    likes += [{"type": "like", "user_id": 990_001, "item_id": f"i{k}"} for k in range(3)]
    assert moving.post("/v1/events", likes).status == 200
    within(30, lambda: moving.items("/v1/popular?n=1") == ["new1"] or "new1" in moving.items("/v1/popular?n=5"))
    within(30, lambda: moving.get("/v1/users/990001").json["known"])
    others = iter(range(1030, 1060))  # what was served to one of them is not served again

    def sourced():
        slate = moving.get(f"/v1/recommend/{next(others)}?n=30").json
        return any(item["item_id"] == "new1" and item.get("sources") for item in slate["items"])

    assert any(sourced() for _ in range(20))
    assert moving.get("/metrics").body.count(b"recsys_alerts_total{") == 0


def test_a_worker_that_dies_comes_back_with_the_state_of_now(moving):
    text = moving.get("/metrics").body.decode()
    refreshes = float(next(line.split()[1] for line in text.splitlines() if line.startswith("recsys_refreshes_total")))
    assert refreshes > 1
    pid = moving.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    within(30, lambda: moving.get("/v1/recommend/1007?n=5&device=phone").json.get("fallback") is None)


def test_the_state_that_travels_is_that_of_the_engine(served_folder, tmp_path):
    engine = RecommendationEngine.load(served_folder / "artifacts")
    spec = engine.bundle.spec
    rules = EventRules(actions=(*spec.positive, *spec.negative), integer_users=True)
    with EventLog.open(tmp_path / "log", rules) as log:
        log.append([Event("item", item_id="x", attributes={"author_id": 1001, "topics": ["jazz"]})])
        log.append([Event("like", str(1000 + k % 30), item) for k, item in enumerate(["i3", "x", "i9"] * 20)])
        reader = LogReader(log.folder)
        online = OnlineState.open(tmp_path / "own", engine, reader, dataset=dataset_of(engine))
        assert online.can_refresh and online.offset == log.last_offset == reader.last_offset == 61
    made = online.refresh()
    told = Refreshed.of(made, tmp_path / "a.state", online.offset)
    back = told.opened(engine)
    assert back.state.now == told.now == made.state.now > engine.state.now
    for name in ("interactions", "impressions", "trending"):
        np.testing.assert_array_equal(getattr(back.state, name), getattr(made.state, name))
    users = np.arange(20, dtype=np.int32)
    np.testing.assert_array_equal(back.slates(users, 10).items, made.slates(users, 10).items)
    assert back.bundle.item_ids.position("x") == engine.bundle.catalogue.n_items


def test_old_data_are_not_brought_forward_to_the_clock():
    day = 86_400_000_000
    assert stale(0, 31 * day) and not stale(0, 29 * day)
