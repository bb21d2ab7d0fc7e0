"""Exchange: what runs beside a server to take events in from Kafka or Redis and to give them out.

Each source and each sink has a thread of its own. One that finds nobody at the other end says so once, waits and tries
again; nothing is lost meanwhile, since sources go on where the log says and sinks go on from the log.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from recsys_cli.errors import RecsysError
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.exchange_config import ExchangeConfig, filled
from recsys_cli.serving.memory import Memories

Alert = Callable[[str, str | None], None]
"""is told (which part, why it is down; None where it is up again)"""


class _Part(Protocol):
    """A source or a sink that is open."""

    def close(self) -> None: ...


class Exchange:
    """Starts with `start`, ends with `close`. Nothing runs where the settings name neither topics nor streams."""

    def __init__(
        self, log: EventLog, config: ExchangeConfig, *, taken: Callable[[], None] = lambda: None,
        alert: Alert = lambda part, why: None,
    ):
        """taken: is called, in a thread of its own, after events came in."""
        self._log, self._config, self._taken, self._alert = log, config, taken, alert
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Open what the settings name; raises ConfigError for a secret that the environment lacks."""
        config = self._config
        kafka = {k: filled(v) if isinstance(v, str) else v for k, v in config.kafka.items()}
        redis = None if config.redis is None else filled(config.redis)
        if config.kafka_in is not None:
            self._run("kafka_in", lambda: self._kafka_source(kafka), self._poll)
        if config.kafka_out is not None:
            self._run("kafka_out", lambda: self._kafka_sink(kafka), self._push)
        if config.stream_in is not None:
            self._run("stream_in", lambda: self._stream_source(redis), self._poll)
        if config.stream_out is not None:
            self._run("stream_out", lambda: self._stream_sink(redis), self._push)

    def close(self) -> None:
        """Stop, once what is under way is done."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, name: str, open_part: Callable[[], _Part], step: Callable) -> None:
        thread = threading.Thread(target=self._loop, args=(name, open_part, step), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _loop(self, name: str, open_part: Callable[[], _Part], step: Callable) -> None:
        part, down = None, False
        while not self._stop.is_set():
            try:
                part = open_part() if part is None else part
                busy = step(part)
            except RecsysError as error:  # nobody there, or a disk that is full
                if not down:
                    down = True
                    self._alert(name, error.message)
                busy = False
            else:
                if down:
                    down = False
                    self._alert(name, None)
            if not busy:
                self._stop.wait(self._config.pause_seconds)
        if part is not None:
            part.close()

    def _poll(self, source) -> bool:
        fed = source.poll(min(self._config.pause_seconds, 1.0))
        if fed.accepted:
            self._taken()
        return fed.messages > 0

    def _push(self, sink) -> bool:
        if sink.behind:
            sink.push()
        return False

    def _kafka_source(self, settings: dict) -> _Part:
        from recsys_cli.serving.kafka import KafkaSource

        return KafkaSource(self._log, self._config.kafka_in, settings)

    def _kafka_sink(self, settings: dict) -> _Part:
        from recsys_cli.serving.kafka import KafkaSink

        return KafkaSink(self._log, self._config.kafka_out, settings)

    def _stream_source(self, url: str) -> _Part:
        from recsys_cli.serving.redis_streams import StreamSource

        return StreamSource(self._log, url, self._config.stream_in)

    def _stream_sink(self, url: str) -> _Part:
        from recsys_cli.serving.redis_streams import StreamSink

        return StreamSink(self._log, url, self._config.stream_out)


def shared_memories(config: ExchangeConfig, alert: Alert = lambda part, why: None) -> Memories | None:
    """Memories of people in Redis for `OnlineState.open`; None where the settings share none."""
    if not config.shared_memories:
        return None
    from recsys_cli.serving.redis_state import RedisMemory

    def told(gone: bool, why: str) -> None:
        alert("shared_memories", why if gone else None)

    return RedisMemory(filled(config.redis), config.server, on_change=told)
