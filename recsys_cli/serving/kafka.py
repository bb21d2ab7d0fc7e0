"""Events from a Kafka topic into the log, and from the log into a topic.

The log is what counts. How far a topic was read is kept in the log, in the transaction that writes what was read, so
that no message is lost and none counts twice, however the server or the broker fails. What goes out is read from the
log: while no broker answers, the log holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from recsys_cli.errors import RecsysError
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event
from recsys_cli.serving.feeds import Fed, feed, require

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, Producer

AT_ONCE = 2_000
"""Messages read, or written, together."""


class KafkaGone(RecsysError):
    """No broker answers; nothing is lost."""


class KafkaSource:
    """Reads events (JSON, as `POST /v1/events` takes one) from the partitions of a topic into the log."""

    def __init__(self, log: EventLog, topic: str, settings: dict[str, object], *, patience: float = 10.0):
        """settings: of librdkafka, `bootstrap.servers` among them. Every partition is read by this one server.

        patience: seconds that brokers are waited for. Raises KafkaGone where none answers, RecsysError where
        confluent-kafka is not installed.
        """
        require("confluent_kafka", "kafka")
        from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

        self._log, self._topic = log, topic
        # the group is only a name: where to go on is kept in the log
        fixed = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": False}
        self._consumer: Consumer = Consumer({"group.id": "recsys", **settings, **fixed})
        try:
            partitions = self._consumer.list_topics(topic, timeout=patience).topics[topic].partitions
        except KafkaException as error:
            self._consumer.close()
            raise KafkaGone(f"no Kafka broker answers: {error}", "check `bootstrap.servers`") from None
        self._consumer.assign([
            TopicPartition(topic, p, OFFSET_BEGINNING if (at := log.position(self._name(p))) is None else int(at) + 1)
            for p in partitions
        ])

    def _name(self, partition: int) -> str:
        return f"kafka/{self._topic}/{partition}"

    def poll(self, seconds: float = 1.0) -> Fed:
        """Take in what there is, waiting so long for a first message. Raises StorageFull as the log does."""
        messages = [m for m in self._consumer.consume(AT_ONCE, seconds) if m.error() is None]
        positions: dict[str, str] = {}
        for message in messages:
            positions[self._name(message.partition())] = str(message.offset())
        return feed(self._log, [(self._id(m), m.value() or b"") for m in messages], positions)

    def _id(self, message: Message) -> str:
        return f"{self._name(message.partition())}/{message.offset()}"

    def close(self) -> None:
        """Let go of the topic."""
        self._consumer.close()


class KafkaSink:
    """Writes every event of the log to a topic, keyed by user, in order, each once as far as Kafka can tell."""

    def __init__(self, log: EventLog, topic: str, settings: dict[str, object], *, what: Callable[[Event], bool] = bool):
        """settings: of librdkafka. what: which events go out; by default all."""
        require("confluent_kafka", "kafka")
        from confluent_kafka import Producer

        self._log, self._topic, self._wanted = log, topic, what
        self._name = f"kafka-out/{topic}"
        self._producer: Producer = Producer({"linger.ms": 5, **settings, "enable.idempotence": True})

    @property
    def behind(self) -> int:
        """Events of the log that have not gone out yet."""
        return self._log.last_offset - int(self._log.position(self._name) or 0)

    def push(self, seconds: float = 10.0) -> int:
        """Write what has not gone out, and keep how far it went once the brokers have it; how many events.

        Raises KafkaGone where they do not have all of it within so many seconds: the next call goes on.
        """
        after, last = int(self._log.position(self._name) or 0), self._log.last_offset
        sent, end = 0, time.monotonic() + seconds
        while after < last:
            entries = self._log.read(after, AT_ONCE)
            wanted = [e for e in entries if self._wanted(e.event)]
            self._send(wanted, end)
            after = max([last, *(e.offset for e in entries[-1:])]) if len(entries) < AT_ONCE else entries[-1].offset
            self._log.set_position(self._name, str(after))
            sent += len(wanted)
        return sent

    def _send(self, entries: list, end: float) -> None:
        failed: list[str] = []

        def told(error, message) -> None:
            if error is not None:
                failed.append(str(error))

        for entry in entries:
            key = None if entry.event.user_id is None else str(entry.event.user_id)
            self._producer.produce(
                self._topic, msgspec.json.encode(entry.event), key, on_delivery=told,
                headers={"offset": str(entry.offset)},
            )
            self._producer.poll(0)
        left = self._producer.flush(max(end - time.monotonic(), 0.1))
        if left or failed:
            self._producer.purge()
            self._producer.flush(1)
            why = failed[0] if failed else f"{left:,} events are not acknowledged"
            raise KafkaGone(f"Kafka does not take the events: {why}", "they stay in the log and go out later")

    def close(self) -> None:
        """Let go of the brokers."""
        self._producer.flush(1)
