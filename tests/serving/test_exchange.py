"""What runs beside a server: events in and out in the background, whoever falls."""

from __future__ import annotations

import time

import msgspec
import pytest
from law_world import END, RULES, make_world
from redis_server import RedisServer, redis

from recsys_cli.errors import ConfigError
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event
from recsys_cli.serving.exchange import Exchange, shared_memories
from recsys_cli.serving.exchange_config import ExchangeConfig, filled
from recsys_cli.serving.online_state import OnlineState
from recsys_cli.serving.redis_state import RedisMemory
from recsys_cli.serving.redis_streams import FIELD


def until(told, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not told():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path):
    server = RedisServer(tmp_path)
    yield server
    server.stop()


def test_events_flow_in_and_out_and_go_on_after_a_fall(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PLACE", server.url.removeprefix("redis://"))
    config = ExchangeConfig(redis="redis://${PLACE}", stream_in="in", stream_out="out", pause_seconds=0.05)
    client, alerts, taken = redis.Redis.from_url(server.url), [], []
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        exchange = Exchange(
            log, config, taken=lambda: taken.append(log.last_offset), alert=lambda part, why: alerts.append((part, why))
        )
        exchange.start()
        client.xadd("in", {FIELD: msgspec.json.encode(Event("like", "100", "1000"))})
        until(lambda: log.last_offset == 1 and client.xlen("out") == 1 and taken)
        server.stop()
        log.append([Event("like", "100", "1001")])
        until(lambda: {part for part, why in alerts if why} == {"stream_in", "stream_out"})
        assert log.last_offset == 2  # the log takes events all the while
        server.start()
        client.xadd("in", {FIELD: msgspec.json.encode(Event("like", "101", "1000"))})
        until(lambda: {part for part, why in alerts if why is None} == {"stream_in", "stream_out"})
        until(lambda: log.last_offset == 3 and client.xlen("out") == 2)  # the first went down with Redis
        exchange.close()
    assert len(alerts) == 4  # each fall and each return is told once


def test_a_state_on_shared_memories_is_told_by_another_server(server, tmp_path):
    world = make_world(tmp_path / "data")
    config = ExchangeConfig(redis=server.url, shared_memories=True, server="a")
    with EventLog.open(tmp_path / "log", RULES, now=lambda: END) as log:
        online = OnlineState.open(
            tmp_path / "state", world.engine, log, dataset=world.dataset, memories=shared_memories(config)
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
    assert shared_memories(ExchangeConfig()) is None


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kafka_in": "x"}, "bootstrap.servers"),
        ({"stream_in": "x"}, "need redis"),
        ({"shared_memories": True}, "need redis"),
        ({"redis": "redis://h", "stream_in": "x", "stream_out": "x"}, "come in again"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        ExchangeConfig(**settings)


def test_secrets_come_from_the_environment_alone(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    kafka = {"bootstrap.servers": "b", "sasl.password": "${SECRET}"}
    config = ExchangeConfig(redis="redis://:${SECRET}@host", kafka=kafka)
    assert filled(config.redis) == "redis://:s3cret@host"
    assert "s3cret" not in config.model_dump_json()
    with pytest.raises(ConfigError, match="the environment has no MISSING"):
        filled("${MISSING}")
