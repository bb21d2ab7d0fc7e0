"""What a server reads events from and writes its log to beside HTTP: Kafka, and streams of Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Protocol

from recsys_cli.errors import RecsysError
from recsys_cli.serving.config import ServingConfig, filled

if TYPE_CHECKING:
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.serving.feeds import Fed
    from recsys_cli.serving.memory import Memories
    from recsys_cli.serving.metrics import Metrics
    from recsys_cli.tracelog import TraceLog

PAUSE, PATIENCE = 0.2, 2.0
"""Seconds between two looks at what goes out, and after something did not answer."""


class _Source(Protocol):
    def poll(self, seconds: float = 1.0) -> Fed: ...


class _Sink(Protocol):
    def push(self) -> int: ...


class Feeds:
    """Sources and sinks of the settings. What does not answer is tried again, and told until it does."""

    def __init__(self, config: ServingConfig, log: EventLog, metrics: Metrics, trace: TraceLog):
        self._config, self._log, self._metrics, self._trace = config, log, metrics, trace
        self._told: dict[str, str] = {}
        self._open: list = []
        self._ended, self._busy = False, {}

    @property
    def troubles(self) -> list[str]:
        """What does not answer, in words."""
        return list(self._told.values())

    def memories(self) -> Memories | None:
        """The memories that several servers share; None where each has its own."""
        redis = self._config.redis
        if redis is None:
            return None
        from recsys_cli.serving.redis_state import RedisMemory

        def change(degraded: bool, why: str) -> None:
            self._tell("redis", "Redis does not answer: this server goes on with what it remembers itself", degraded)

        memories = RedisMemory(filled(redis.url), redis.server, on_change=change)
        self._open.append(memories)
        return memories

    def work(self, came: Callable[[], None]) -> list[Coroutine]:
        """Coroutines that read and write until they are cancelled. came: is told that events were written."""
        out: list[Coroutine] = []
        kafka, redis = self._config.kafka, self._config.redis
        if kafka is not None:
            from recsys_cli.serving.kafka import KafkaSink, KafkaSource

            settings = {name: filled(value) for name, value in kafka.settings.items()}
            if kafka.events is not None:
                out.append(self._read("kafka", lambda: KafkaSource(self._log, kafka.events, settings), came))
            if kafka.log is not None:
                out.append(self._write("kafka", lambda: KafkaSink(self._log, kafka.log, settings)))
        if redis is not None and redis.events is not None:
            from recsys_cli.serving.redis_streams import StreamSource

            out.append(self._read("stream", lambda: StreamSource(self._log, filled(redis.url), redis.events), came))
        if redis is not None and redis.log is not None:
            from recsys_cli.serving.redis_streams import StreamSink

            out.append(self._write("stream", lambda: StreamSink(self._log, filled(redis.url), redis.log)))
        return out

    async def _read(self, name: str, make: Callable[[], _Source], came: Callable[[], None]) -> None:
        source: _Source | None = None
        while not self._ended:
            try:
                if source is None:
                    source = await asyncio.to_thread(make)
                    self._open.append(source)
                before = self._log.last_offset
                await asyncio.to_thread(self._alone, source, source.poll, 0.5)
                self._tell(f"{name} in", "", False)
            except RecsysError as error:
                self._tell(f"{name} in", f"events are not read: {error.message}", True)
                await asyncio.sleep(PATIENCE)
                continue
            if self._log.last_offset > before:
                came()

    async def _write(self, name: str, make: Callable[[], _Sink]) -> None:
        sink: _Sink | None = None
        while not self._ended:
            try:
                if sink is None:
                    sink = await asyncio.to_thread(make)
                    self._open.append(sink)
                sent = await asyncio.to_thread(self._alone, sink, sink.push)
                self._tell(f"{name} out", "", False)
            except RecsysError as error:
                self._tell(f"{name} out", f"the log does not go out and waits here: {error.message}", True)
                await asyncio.sleep(PATIENCE)
                continue
            if not sent:
                await asyncio.sleep(PAUSE)

    def _alone(self, part: object, call: Callable, *given) -> object:
        """A call that `close` waits for."""
        with self._busy.setdefault(id(part), threading.Lock()):
            return None if self._ended else call(*given)

    def _tell(self, name: str, told: str, wrong: bool) -> None:
        if not wrong:
            self._told.pop(name, None)
        elif name not in self._told:
            self._told[name] = told
            self._metrics.alerts.labels(name.partition(" ")[0]).inc()
            self._trace.event("feed", feed=name, told=told)

    def close(self) -> None:
        """Let go of all connections."""
        self._ended = True
        for part in self._open:
            with self._busy.setdefault(id(part), threading.Lock()):
                part.close()
