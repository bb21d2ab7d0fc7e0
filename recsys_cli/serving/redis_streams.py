"""Events from a Redis stream into the log, and from the log into a stream; see `kafka` for what is promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from recsys_cli.errors import RecsysError
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.feeds import Fed, feed, require

if TYPE_CHECKING:
    import redis

AT_ONCE = 2_000
FIELD = b"event"
"""Field of a stream's entry that holds the event as JSON."""


class RedisGone(RecsysError):
    """Redis does not answer; nothing is lost."""


def _connect(url: str) -> redis.Redis:
    require("redis", "redis")
    import redis

    return redis.Redis.from_url(url, socket_connect_timeout=2)


class StreamSource:
    """Reads events from a stream into the log."""

    def __init__(self, log: EventLog, url: str, stream: str):
        self._log, self._stream, self._redis = log, stream, _connect(url)
        import redis

        self._name = f"redis/{stream}"
        self._errors = (redis.ConnectionError, redis.TimeoutError)

    def poll(self, seconds: float = 1.0) -> Fed:
        """Take in what there is, waiting so long for a first entry. Raises RedisGone, and StorageFull as the log."""
        after = self._log.position(self._name) or "0-0"
        try:
            found = self._redis.xread({self._stream: after}, AT_ONCE, max(round(seconds * 1000), 1))
        except self._errors as error:
            raise RedisGone(f"Redis does not answer: {error}", "the stream is read on when it is back") from None
        entries = found[0][1] if found else []
        messages = [(f"{self._name}/{at.decode()}", fields.get(FIELD, b"")) for at, fields in entries]
        return feed(self._log, messages, {self._name: entries[-1][0].decode()} if entries else {})

    def close(self) -> None:
        """Let go of the connection."""
        self._redis.close()


class StreamSink:
    """Writes every event of the log to a stream of its own, of bounded length; an event has the id OFFSET-0, so that
    none is there twice."""

    def __init__(self, log: EventLog, url: str, stream: str, *, longest: int = 1_000_000):
        """longest: entries that the stream holds, about; the oldest go."""
        self._log, self._stream, self._longest, self._redis = log, stream, longest, _connect(url)
        import redis

        self._errors, self._refused = (redis.ConnectionError, redis.TimeoutError), redis.ResponseError
        self._name = f"redis-out/{stream}"

    @property
    def behind(self) -> int:
        """Events of the log that have not gone out yet."""
        return self._log.last_offset - int(self._log.position(self._name) or 0)

    def push(self) -> int:
        """Write what has not gone out; how many events. Raises RedisGone: the next call goes on."""
        after, last, sent = int(self._log.position(self._name) or 0), self._log.last_offset, 0
        try:
            while after < last:
                entries = self._log.read(after, AT_ONCE)
                sent += self._send(entries)
                after = max([last, *(e.offset for e in entries[-1:])]) if len(entries) < AT_ONCE else entries[-1].offset
                self._log.set_position(self._name, str(after))
        except self._errors as error:
            raise RedisGone(f"Redis does not answer: {error}", "events stay in the log and go out later") from None
        return sent

    def _send(self, entries: list) -> int:
        with self._redis.pipeline(transaction=False) as pipe:
            for entry in entries:
                body = msgspec.json.encode(entry.event)
                pipe.xadd(self._stream, {FIELD: body}, id=f"{entry.offset}-0", maxlen=self._longest, approximate=True)
            told = pipe.execute(raise_on_error=False)
        for answer in told:
            if isinstance(answer, self._refused) and "equal or smaller" in str(answer):
                continue  # it went out before a stop
            if isinstance(answer, Exception):
                raise answer
        return sum(not isinstance(answer, Exception) for answer in told)

    def close(self) -> None:
        """Let go of the connection."""
        self._redis.close()
