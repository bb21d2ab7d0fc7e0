"""Kafka in and out, with the mock brokers of librdkafka: real connections, real protocol."""

from __future__ import annotations

import msgspec
import pytest
from law_world import END, RULES

confluent_kafka = pytest.importorskip("confluent_kafka")

from recsys_cli.serving.event_log import EventLog  # noqa: E402
from recsys_cli.serving.events import Event  # noqa: E402
from recsys_cli.serving.kafka import KafkaGone, KafkaSink, KafkaSource  # noqa: E402


@pytest.fixture
def cluster():
    """A producer that holds a cluster of mock brokers, and their address."""
    producer = confluent_kafka.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 2})
    brokers = producer.list_topics(timeout=10).brokers
    yield producer, {"bootstrap.servers": ",".join(f"{b.host}:{b.port}" for b in brokers.values()), "log_level": 2}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "log"


def opened(folder) -> EventLog:
    return EventLog.open(folder, RULES, now=lambda: END)


def drained(source: KafkaSource, messages: int) -> list:
    fed = []
    for _ in range(40):
        fed.append(source.poll(0.5))
        if sum(f.messages for f in fed) >= messages:
            break
    return fed


def test_a_topic_is_read_once_across_starts(cluster, folder):
    producer, settings = cluster
    producer.list_topics("in", timeout=10)
    for n in range(20):
        producer.produce("in", msgspec.json.encode(Event("like", str(100 + n), "1000")), str(n))
    producer.produce("in", b"{")
    producer.flush(10)
    with opened(folder) as log:
        source = KafkaSource(log, "in", settings)
        fed = drained(source, 21)
        source.close()
        assert (sum(f.accepted for f in fed), sum(f.rejected for f in fed)) == (20, 1)
        assert log.read(0)[0].event.event_id.startswith("kafka/in/")
    producer.produce("in", msgspec.json.encode(Event("hide", "100", "1000", event_id="own")))
    producer.flush(10)
    with opened(folder) as log:
        source = KafkaSource(log, "in", settings)
        fed = drained(source, 1)
        source.close()
        assert [f.messages for f in fed if f.messages] == [1]
        assert log.last_offset == 21 and log.read(20)[0].event.event_id == "own"


def test_every_event_goes_out_in_order_and_only_once(cluster, folder):
    producer, settings = cluster
    producer.list_topics("out", timeout=10)
    with opened(folder) as log:
        sink = KafkaSink(log, "out", settings)
        log.append([Event("like", "100", str(1000 + n)) for n in range(50)])
        assert sink.push() == 50 and sink.behind == 0
        assert sink.push() == 0
        log.append([Event("hide", "100", "1003")])
        assert sink.push() == 1
        sink.close()
    consumer = confluent_kafka.Consumer({**settings, "group.id": "t", "auto.offset.reset": "earliest"})
    consumer.assign([confluent_kafka.TopicPartition("out", p, 0) for p in range(4)])
    held = []
    while len(held) < 51:
        batch = consumer.consume(100, 5)
        assert batch
        held += [msgspec.json.decode(m.value(), type=Event) for m in batch if m.error() is None]
    assert consumer.consume(1, 0.3) == []
    consumer.close()
    assert [e.item_id for e in held] == [*(str(1000 + n) for n in range(50)), "1003"]  # one user, one partition


def test_without_a_broker_events_wait_in_the_log(folder):
    settings = {"bootstrap.servers": "127.0.0.1:1", "message.timeout.ms": 300, "log_level": 0}
    with opened(folder) as log:
        log.append([Event("like", "100", "1000")])
        sink = KafkaSink(log, "out", settings)
        with pytest.raises(KafkaGone, match="stay in the log"):
            sink.push(0.5)
        assert sink.behind == 1
        sink.close()


def test_a_source_without_a_broker_is_told(folder):
    with opened(folder) as log, pytest.raises(KafkaGone, match="no Kafka broker answers"):
        KafkaSource(log, "in", {"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, patience=0.3)
