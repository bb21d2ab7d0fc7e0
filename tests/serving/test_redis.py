"""Memories that several servers share, and streams, with a real redis-server."""

from __future__ import annotations

import time

import msgspec
import numpy as np
import pytest
from law_world import END, HOUR, RULES, make_world, some_events
from redis_server import RedisServer, redis

from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event
from recsys_cli.serving.memory import SEEN_KEPT, MemoryStore
from recsys_cli.serving.online_state import OnlineState
from recsys_cli.serving.redis_state import RedisMemory
from recsys_cli.serving.redis_streams import FIELD, RedisGone, StreamSink, StreamSource


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def log(tmp_path):
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END + 7 * HOUR) as log:
        yield log


def test_redis_holds_the_very_memories_of_one_process(server, log):
    rng = np.random.default_rng(0)
    log.append(some_events(rng, 500, undo=True))
    entries = log.read(0, 1000)
    own, shared = MemoryStore(), RedisMemory(server.url, "a")
    own.take(entries)
    start = 0
    while start < len(entries):  # cut anyhow, some of it twice
        size = int(rng.integers(1, 60))
        shared.take(entries[max(start - 5, 0) : start + size])
        start += size
    assert shared.offset() == own.offset() == log.last_offset
    people = {e.event.user_id for e in entries if e.event.user_id}
    assert all(shared.of(name) == own.of(name) for name in people)
    assert len(own.of("105").seen) > 3
    shared.forget("105")
    assert shared.of("105").seen == {} and RedisMemory(server.url, "b").of("106") == own.of("106")


def test_two_servers_write_the_same_person_and_lose_nothing(server, tmp_path):
    stores = []
    for name in ("a", "b"):
        with EventLog.open(tmp_path / name, RULES, now=lambda: END) as log:
            log.append([Event("like", "100", str(n), timestamp=END - n) for n in range(1000, 1040)])
            log.append([Event("hide", "100", f"{7 if name == 'a' else 8}{n}") for n in range(20)])
            stores.append((RedisMemory(server.url, name), log.read(0, 1000)))
    for start in range(0, 60, 5):
        for store, entries in stores:
            store.take(entries[start : start + 5])
    memory = stores[0][0].of("100")
    assert len(memory.hidden) == 40 and len(memory.recent) == 40
    assert stores[0][0].offset() == stores[1][0].offset() == 60


def test_keys_are_bounded_and_end(server, log):
    client = redis.Redis.from_url(server.url)
    shared = RedisMemory(server.url, "a", expire_days=1)
    log.append([Event("impression", "100", str(n)) for n in range(SEEN_KEPT + 500)])
    shared.take(log.read(0, 10_000))
    assert len(shared.of("100").seen) == SEEN_KEPT and "0" not in shared.of("100").seen
    keys = list(client.scan_iter())
    assert len(keys) == 2
    assert all(0 < client.ttl(key) <= 86_400 for key in keys)
    assert not any(b"100" in key for key in keys if b"user" in key and key.count(b"100") > 1)


def test_redis_gone_is_said_and_survived_and_caught_up(server, log):
    told = []
    shared = RedisMemory(server.url, "a", retry_seconds=0.05, on_change=lambda gone, why: told.append(gone))
    log.append([Event("like", "100", "1000")])
    shared.take(log.read(0))
    server.stop()
    log.append([Event("hide", "100", "1001")])
    shared.take(log.read(1))
    assert shared.degraded and told == [True]
    assert set(shared.of("100").hidden) == {"1001"}  # what this process knows
    assert shared.offset() == 2
    began = time.perf_counter()
    for _ in range(50):
        shared.of("100")
    assert time.perf_counter() - began < 2
    server.start()  # and it has lost everything
    time.sleep(0.1)
    after = shared.offset()
    assert after == 0 and not shared.degraded and told == [True, False]
    shared.take(log.read(after))
    assert set(RedisMemory(server.url, "b").of("100").seen) == {"1000", "1001"}


def test_a_stream_is_read_once_whatever_stops(server, tmp_path):
    client = redis.Redis.from_url(server.url)
    for n in range(5):
        client.xadd("in", {FIELD: msgspec.json.encode(Event("like", "100", str(1000 + n)))})
    client.xadd("in", {FIELD: b"{not json"})
    client.xadd("in", {FIELD: b'{"type":"erase","user_id":"x"}'})
    client.xadd("in", {b"other": b"1"})
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        fed = StreamSource(log, server.url, "in").poll(0.05)
        assert (fed.messages, fed.accepted, fed.rejected) == (8, 5, 3)
        assert "no event" in log.rejects()[0][1]
    client.xadd("in", {FIELD: msgspec.json.encode(Event("like", "100", "1009"))})
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        source = StreamSource(log, server.url, "in")
        assert source.poll(0.05).accepted == 1
        assert source.poll(0.01).messages == 0
        log.set_position("redis/in", "0-0")  # even where the place were lost
        assert source.poll(0.05).duplicates == 6
        assert log.last_offset == 6


def test_a_stream_gets_every_event_once_and_waits_out_a_fall(server, log):
    sink = StreamSink(log, server.url, "out", longest=100)
    log.append([Event("like", "100", str(1000 + n)) for n in range(30)])
    assert sink.push() == 30 and sink.behind == 0
    server.stop()
    log.append([Event("like", "100", "2000")])
    with pytest.raises(RedisGone, match="does not answer"):
        sink.push()
    assert sink.behind > 0
    server.start()
    assert sink.push() == 1
    log.set_position("redis-out/out", "0")  # what went out before a stop is not there twice
    sink.push()
    held = redis.Redis.from_url(server.url).xrange("out")
    ids = [at for at, _ in held]
    assert ids == [b"31-0"] and len(set(ids)) == len(ids)


def test_a_stream_is_bounded(server, log):
    sink = StreamSink(log, server.url, "out", longest=100)
    log.append([Event("like", "100", str(n)) for n in range(5000)])
    sink.push()
    assert redis.Redis.from_url(server.url).xlen("out") < 400


def test_a_state_on_shared_memories_is_told_by_another_server(server, tmp_path):
    world = make_world(tmp_path / "data")
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        online = OnlineState.open(
            tmp_path / "state", world.engine, log, dataset=world.dataset, memories=RedisMemory(server.url, "a")
        )
        log.append([Event("hide", "100", "1003")])
        online.catch_up()
        assert set(online.memory("100").hidden) == {"1003"}
        assert set(RedisMemory(server.url, "b").of("100").hidden) == {"1003"}
        server.stop()
        log.append([Event("hide", "100", "1004")])
        online.catch_up()
        assert online.offset == 2 and online.memory("100").hidden.keys() >= {"1004"}
        online.save()
        server.start()
        time.sleep(1.1)  # Redis is left alone for a second
        online.catch_up()
        assert set(RedisMemory(server.url, "b").of("100").hidden) == {"1003", "1004"}
