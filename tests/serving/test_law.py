"""The law: what the server holds is what a replay of its log gives, however the events came and how often it fell."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from kills import same_folds
from law_world import END, HOUR, PIPELINE, RULES, USERS, make_world, some_events, world_of

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import State
from recsys_cli.engine import RecommendationEngine
from recsys_cli.features.context import Context
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.serving import fold as folding
from recsys_cli.serving import online_state
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event
from recsys_cli.serving.export import export_events
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.memory import MemoryStore
from recsys_cli.serving.online_state import OnlineState
from recsys_cli.serving.segments import Segments
from recsys_cli.serving.state_file import StateFile

NOW = END + 7 * HOUR


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("law") / "data")


def opened(folder, world) -> tuple[EventLog, OnlineState]:
    log = EventLog.open(folder, RULES, now=lambda: NOW - 1)
    return log, OnlineState.open(folder / "state", world.engine, log, dataset=world.dataset)


def lived(folder, world, rng, events) -> tuple[EventLog, OnlineState]:
    """Events appended in batches of any size, the state stopped, cut off, asked and refreshed at any moment."""
    log, online = opened(folder, world)
    while events:
        size = int(rng.integers(1, 40))
        log.append(events[:size])
        events = events[size:]
        draw = rng.random()
        if draw < 0.5:
            online.catch_up(int(rng.integers(1, 60)))
        if draw < 0.3:
            online.live(NOW)
        if 0.5 < draw < 0.6:
            online.save()
        if 0.6 < draw < 0.75:  # a crash: what was not saved is lost with the process
            log.close()
            log, online = opened(folder, world)
        if 0.75 < draw < 0.8:
            online.refresh(NOW)
    online.catch_up()
    return log, online


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    """So that the anchor moves with every few rows."""
    monkeypatch.setattr(online_state, "SETTLED_AT_ONCE", 10)


def same_arrays(name, ours, theirs):
    if isinstance(ours, Ragged):
        assert np.array_equal(ours.offsets, theirs.offsets), name
        ours, theirs = ours.values, theirs.values
    assert ours.dtype == theirs.dtype, name
    if ours.dtype.kind == "f":
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9, err_msg=name)
    else:
        assert np.array_equal(ours, theirs), name


def same_states(ours: State, theirs: State):
    for f in fields(State):
        mine, other = getattr(ours, f.name), getattr(theirs, f.name)
        if isinstance(mine, dict):
            assert mine.keys() == other.keys(), f.name
            for name, values in mine.items():
                same_arrays(f"{f.name} {name}", values, other[name])
        elif f.name not in ("now", "catalogue"):
            same_arrays(f.name, mine, other)


def replayed(folder, world, tmp_path) -> tuple[Dataset, State, Snapshot]:
    """The other way: the log exported as a dataset, opened as training opens it, and counted at NOW."""
    export_events(folder, world.dataset, tmp_path / "merged")
    dataset = Dataset.open(tmp_path / "merged")
    edges = dataset.edges("follows"), dataset.edges("blocks")
    state = State.build(dataset.catalogue, dataset.log, NOW, *edges)
    return dataset, state, Snapshot.build(world.engine.bundle.spec, dataset.catalogue, dataset.log, NOW, *edges)


@pytest.mark.parametrize("seed", [*range(4), *(pytest.param(n, marks=pytest.mark.slow) for n in range(4, 24))])
def test_state_features_and_slates_are_those_of_a_replay(seed, world, tmp_path):
    rng = np.random.default_rng(seed)
    log, online = lived(tmp_path / "log", world, rng, some_events(rng, 400))
    engine = online.refresh(NOW)
    assert online._anchor.rows > 100  # what was settled was taken in on the way
    log.close()
    dataset, state, snapshot = replayed(tmp_path / "log", world, tmp_path)
    assert engine.bundle.user_ids.external(np.arange(len(dataset.user_ids))) == dataset.users["user_id"].to_list()
    assert engine.bundle.item_ids.external(np.arange(len(dataset.item_ids))) == dataset.items["item_id"].to_list()
    same_states(engine.state, state)
    users = np.arange(len(dataset.user_ids), dtype=np.int32)
    items = np.broadcast_to(np.arange(len(dataset.item_ids), dtype=np.int32), (len(users), len(dataset.item_ids)))
    context = Context(now=NOW)
    np.testing.assert_allclose(
        engine.snapshot.features(users, items, context), snapshot.features(users, items, context), rtol=1e-6, atol=1e-6
    )
    offline = RecommendationEngine(engine.bundle, PIPELINE, state=state, snapshot=snapshot)
    ours, theirs = engine.slates(users, 10), offline.slates(users, 10)
    assert np.array_equal(ours.items, theirs.items)
    assert ours.fallback == theirs.fallback


def test_events_of_requests_make_the_same_rows_in_any_order(world, tmp_path):
    rng = np.random.default_rng(5)
    events = [e for e in some_events(rng, 300) if e.request_id and e.type != "served" and abs(e.timestamp - END) < HOUR]
    assert len(events) > 20
    held = []
    for turn in range(3):
        log = EventLog.open(tmp_path / str(turn), RULES, now=lambda: NOW)
        log.append(events)
        fold = folding.Fold(tuple(RULES.actions))
        fold.take(log.read(0, 1000))
        log.close()
        names, c = fold.names, fold.columns
        rows = {}
        for r in range(len(fold)):
            key = (names["requests"].listed[c["request"][r]], names["users"].listed[c["user"][r]],
                   names["items"].listed[c["item"][r]])
            assert key not in rows
            rows[key] = (c["time"][r], c["bits"][r], c["shown"][r], str(c["dwell"][r]))
        held.append(rows)
        rng.shuffle(events)
    assert held[0] == held[1] == held[2]


def test_an_edge_that_is_taken_back_is_gone_at_once(world, tmp_path):
    rng = np.random.default_rng(8)
    log, online = lived(tmp_path / "log", world, rng, some_events(rng, 200, undo=True))
    log.append([Event("follow", "100", author_id="120"), Event("block", "100", author_id="121")])
    online.catch_up()
    engine = online.live(NOW)
    author = engine.bundle.author_ids.position
    assert author("120") in engine.state.follows[0] and author("121") in engine.state.blocked[0]
    log.append([Event("unfollow", "100", author_id="120"), Event("unblock", "100", author_id="121")])
    online.catch_up()
    engine = online.live(NOW)
    assert author("120") not in engine.state.follows[0] and author("121") not in engine.state.blocked[0]
    log.close()
    merged = replayed(tmp_path / "log", world, tmp_path)[0]
    assert not {(100, 120)} & set(merged.table("follows").select("follower_id", "followee_id").iter_rows())


def test_whoever_is_erased_is_in_neither_log_state_nor_dataset(world, tmp_path):
    rng = np.random.default_rng(9)
    log, online = lived(tmp_path / "log", world, rng, some_events(rng, 300))
    assert len(online.live(NOW).state.seen[3]) > 0
    online.segments = Segments(log.folder, size=50)
    assert online.seal().new > 2
    assert pl.concat(pl.read_parquet(p) for p in online.segments.paths()).filter(user_id="103").height
    assert online.erase("103") > 0 and online.erase("132") > 0
    assert not pl.concat(pl.read_parquet(p) for p in online.segments.paths()).filter(user_id="103").height
    for engine in (online.live(NOW), online.refresh(NOW)):
        assert not len(engine.state.seen[3]) and not len(engine.state.history[3]) and not len(engine.state.follows[3])
        assert engine.position("132") == -1
    log.close()
    log, again = opened(tmp_path / "log", world)  # and after a start of its own
    same_states(online.live(NOW).state, again.live(NOW).state)
    log.close()
    fresh = folding.Fold(tuple(RULES.actions))
    log = EventLog.open(tmp_path / "log", RULES)
    fresh.take(log.read(0, 10_000))
    log.close()
    assert "103" not in fresh.names["users"].listed
    dataset, state, _ = replayed(tmp_path / "log", world, tmp_path)
    assert dataset.table("impressions").filter(dataset.table("impressions")["user_id"].is_in([103, 132])).height == 0
    assert np.array_equal(state.impressions, engine.state.impressions)
    content = b"".join(p.read_bytes() for p in (tmp_path / "log").glob("events.db*"))
    assert b"\xa3132" not in content and b"\xa3103" not in content  # as msgpack writes the texts


def test_a_damaged_state_is_made_again_from_the_log(world, tmp_path):
    rng = np.random.default_rng(2)
    log, online = lived(tmp_path / "log", world, rng, some_events(rng, 150))
    online.save()
    before = online.live(NOW).state
    log.close()
    path = tmp_path / "log" / "state" / "state.db"
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :: 97] = b"\xff" * len(content[len(content) // 2 :: 97])
    path.write_bytes(content)
    log, again = opened(tmp_path / "log", world)
    assert again.rebuilt and (path.parent / "state.db.damaged").exists()
    same_states(again.live(NOW).state, before)
    log.close()


def test_a_state_that_is_kept_while_events_come_is_one_of_a_single_moment(world, tmp_path, monkeypatch):
    events = some_events(np.random.default_rng(7), 400)
    log, online = opened(tmp_path / "log", world)
    log.append(events[:300])
    online.catch_up()
    left = events[300:]

    def more(_: float) -> None:  # between two portions of memories
        log.append(left[:10])
        del left[:10]
        online.catch_up()

    monkeypatch.setattr(online_state, "CHANGES_AT_ONCE", 3)
    monkeypatch.setattr(online_state.time, "sleep", more)
    online.save()
    fold, memories = StateFile(tmp_path / "log" / "state" / "state.db").read()
    assert not left and fold.offset == memories.offset() == log.last_offset
    replay, remembered = Fold(fold.actions, fold.start), MemoryStore()
    replay.take(log.read())
    remembered.take(log.read())
    same_folds(fold, replay)
    for user in {e.user_id for e in events if e.user_id}:
        assert memories.of(str(user)) == remembered.of(str(user))
    log.close()


def test_new_users_and_items_are_recommendable_at_once(world, tmp_path):
    log, online = opened(tmp_path / "log", world)
    log.append([Event("item", item_id="5000", attributes={"author_id": 104, "topics": ["art"], "text": "cat #sun"})])
    online.catch_up()
    engine = online.live(NOW)
    item = engine.bundle.item_ids.position("5000")
    assert item >= 0 and engine.state.available[item] and engine.bundle.labels[item] == "cat #sun"
    assert item in engine.state.author_items[engine.bundle.author_ids.position(104)]
    log.append([Event("like", "999", "1003")])
    online.catch_up()
    stranger = online.live(NOW).recommend("999", 5)
    assert len(stranger.items) == 5 and stranger.fallback is None
    assert 1003 not in [r.item_id for r in stranger.items]
    log.append([Event("delete_item", item_id="5000")])
    online.catch_up()
    assert not online.live(NOW).state.available[item]
    assert USERS == 30
    log.close()


def trained_on_some(tmp_path, seed):
    """A world, a log and its state of 200 events, the world of a run that was trained on them too, and 100 further
    events."""
    world = make_world(tmp_path / "data")
    rng = np.random.default_rng(seed)
    events = some_events(rng, 300)
    log, online = lived(tmp_path / "log", world, rng, events[:200])
    export_events(tmp_path / "log", world.dataset, tmp_path / "merged")
    return world, log, online, world_of(Dataset.open(tmp_path / "merged")), events[200:]


def test_a_run_trained_with_the_events_begins_behind_them(tmp_path):
    """What is in the data is not counted again, and what came since is counted upon it."""
    _, log, _, merged, further = trained_on_some(tmp_path, 4)
    assert merged.dataset.manifest.origin["offset"] == log.last_offset
    log.append(further)
    online = OnlineState.open(tmp_path / "log" / "state", merged.engine, log, dataset=merged.dataset)
    state = online.live(NOW).state
    fold = folding.Fold(tuple(RULES.actions), start=online.base.offset)
    fold.take(log.read(0, 10_000))
    assert len(fold) == len(online.fold) > 30
    seen = np.bincount(merged.dataset.log.item, minlength=len(state.impressions)).sum()
    positions = online.live(NOW).bundle.item_ids.positions(fold.names["items"].listed)
    described = int((positions[np.array(fold.columns["item"])] >= 0).sum())
    assert state.impressions.sum() == seen + described
    log.trim(online.base.offset)  # and the log needs to hold no more than what came since
    again = OnlineState.open(tmp_path / "fresh", merged.engine, log, dataset=merged.dataset)
    assert again.offset == log.last_offset and again.fold.start == merged.dataset.manifest.events
    same_states(again.live(NOW).state, state)
    log.close()


def test_after_a_switch_of_runs_the_state_is_that_of_the_other_run(tmp_path):
    """Forth to a run that was trained on some of the events, and back."""
    world, log, online, merged, further = trained_on_some(tmp_path, 5)
    log.append(further)
    online.catch_up()
    before = online.live(NOW).state
    online.follow(merged.engine, dataset=merged.dataset)
    fresh = OnlineState.open(tmp_path / "fresh", merged.engine, log, dataset=merged.dataset)
    assert online.fold.start == fresh.fold.start > 0 and online.trained is merged.engine
    same_states(online.live(NOW).state, fresh.live(NOW).state)
    online.follow(world.engine, dataset=world.dataset)
    same_states(online.live(NOW).state, before)
    log.append([Event("hide", "103", "1005")])
    assert online.catch_up() == 1 and "1005" in online.memory("103").hidden
    log.close()


KILLED = """if True:
    import sys
    from pathlib import Path
    import numpy as np
    from law_world import END, HOUR, RULES, make_world, some_events
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.serving.online_state import OnlineState
    folder, turn = Path(sys.argv[1]), int(sys.argv[2])
    world = make_world(folder / f"data-{turn}")
    log = EventLog.open(folder / "log", RULES, now=lambda: END + 7 * HOUR - 1)
    online = OnlineState.open(folder / "log" / "state", world.engine, log, dataset=world.dataset)
    rng, n = np.random.default_rng(turn), 0
    while True:
        events = some_events(rng, 20)
        for k, event in enumerate(events):
            event.event_id = f"{turn}-{n}-{k}"
        log.append(events)
        online.catch_up()
        if n % 3 == 0:
            online.save()
        print(f"{turn}-{n}", flush=True)
        n += 1
"""


@pytest.mark.slow
def test_after_kill_9_under_load_the_state_is_that_of_a_replay(world, tmp_path):
    """Real processes killed while they append, fold and save."""
    acknowledged = set()
    for turn in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), str(turn)], stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        )
        acknowledged.add(process.stdout.readline().strip())
        time.sleep(0.3 + turn / 20)
        process.kill()
        acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
    log, online = opened(tmp_path / "log", world)
    held = {e.event.event_id for e in log.read(0, 100_000)}
    assert len(acknowledged) > 12 and all(f"{name}-{k}" in held for name in acknowledged for k in range(20))
    engine = online.refresh(NOW)
    log.close()
    _, state, _ = replayed(tmp_path / "log", world, tmp_path)
    same_states(engine.state, state)


def test_sources_take_note_of_new_items_and_those_of_the_run_stay_as_they_are(world, tmp_path, monkeypatch):
    fitted = world.engine.bundle.retrievers["popularity"]
    monkeypatch.setattr(type(fitted), "adapt", lambda self, catalogue: setattr(self, "noted", catalogue.n_items))
    log, online = opened(tmp_path / "log", world)
    assert online.live(NOW).bundle.retrievers["popularity"] is fitted
    log.append([Event("item", item_id="5000", attributes={"author_id": 104})])
    online.catch_up()
    engine = online.live(NOW)
    assert engine.bundle.retrievers["popularity"].noted == engine.bundle.catalogue.n_items == 61
    assert not hasattr(fitted, "noted")
    log.close()
