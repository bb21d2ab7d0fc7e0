"""RedisMemory: memories of people that several servers share, in Redis.

A memory is one key, bounded as memories are, that expires when nothing is heard of its person; no key is without an
end. How far a server's log was taken in changes in the same transaction as the memories, so that no event counts twice.
Where Redis does not answer, the server goes on with what it remembers itself (`degraded`), and brings Redis up to date
from its log as soon as it is back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import Entry
from recsys_cli.serving.feeds import require
from recsys_cli.serving.memory import Memory, MemoryStore, users_of

if TYPE_CHECKING:
    import redis

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Memory).decode
PEOPLE_AT_ONCE = 500
"""Memories of one transaction."""


class RedisMemory:
    """See `memory.Memories`. One server's log feeds it; any number of servers read and write the same people."""

    def __init__(
        self, url: str, server: str, *, prefix: str = "recsys", expire_days: float = 30.0, timeout_ms: float = 100.0,
        retry_seconds: float = 1.0, on_change: Callable[[bool, str], None] = lambda degraded, why: None,
    ):
        """url: redis://…. server: name of this server's log, its own among those that share the memories.

        timeout_ms: how long an answer is waited for. retry_seconds: how long Redis is left alone after it did not
        answer. on_change: is told when Redis is gone and why, and when it is back.
        """
        require("redis", "redis")
        import redis

        self._errors = (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError, redis.ReadOnlyError)
        self._raced = redis.WatchError
        self._redis: redis.Redis = redis.Redis.from_url(
            url, socket_timeout=timeout_ms / 1e3, socket_connect_timeout=timeout_ms / 1e3, decode_responses=False
        )
        self._prefix, self._expire = prefix, round(expire_days * 86_400)
        self._progress = f"{prefix}:offset:{server}"
        self._here = MemoryStore()
        self._retry, self._next_try, self._tell = retry_seconds, 0.0, on_change
        self.degraded = False

    def offset(self) -> int:
        """How far the log has been taken in; of this process alone while Redis does not answer."""
        held = self._ask(lambda: self._redis.get(self._progress))
        if held is None and self.degraded:
            return self._here.offset()
        return int(held or 0)

    def take(self, entries: Sequence[Entry]) -> None:
        """See `Memories`."""
        self._here.take(entries)
        part: list[Entry] = []
        people: set[str] = set()
        for entry in entries:
            people |= users_of([entry])
            part.append(entry)
            if len(people) >= PEOPLE_AT_ONCE:
                self._ask(lambda part=part: self._commit(part))
                part, people = [], set()
        if part:
            self._ask(lambda: self._commit(part))

    def of(self, user_id: str) -> Memory:
        """See `Memories`."""
        body = self._ask(lambda: self._redis.get(self._key(user_id)))
        if body is not None:
            return _decode(body)
        return self._here.of(user_id) if self.degraded else Memory()

    def forget(self, user_id: str) -> None:
        """See `Memories`; raises redis.ConnectionError where Redis does not answer: the person is not forgotten."""
        self._here.forget(user_id)
        self._redis.delete(self._key(user_id))

    def close(self) -> None:
        """Let go of the connections."""
        self._redis.close()

    def _key(self, user_id: str) -> str:
        return f"{self._prefix}:user:{mark(user_id)}"

    def _commit(self, entries: Sequence[Entry]) -> None:
        """Take entries in: memories and progress together, again where another server changed a memory meanwhile."""
        while True:
            with self._redis.pipeline(transaction=True) as pipe:
                names = sorted(users_of(entries))
                keys = [self._key(name) for name in names]
                pipe.watch(self._progress, *keys)
                done = int(pipe.get(self._progress) or 0)
                fresh = [e for e in entries if e.offset > done]
                if not fresh:
                    return
                bodies = pipe.mget(keys) if keys else []
                held = {
                    name: Memory() if body is None else _decode(body) for name, body in zip(names, bodies, strict=True)
                }
                gone = [e.event.user_id for e in fresh if e.event.type == "erase"]
                touched = users_of(fresh)
                for entry in fresh:
                    if entry.event.type != "erase" and entry.event.user_id in held:
                        held[entry.event.user_id].note(entry.event)
                pipe.multi()
                for name in touched:
                    pipe.set(self._key(name), _encode(held[name]), ex=self._expire)
                for marked in gone:
                    pipe.delete(f"{self._prefix}:user:{marked}")
                pipe.set(self._progress, fresh[-1].offset, ex=self._expire)
                try:
                    pipe.execute()
                except self._raced:
                    continue
                return

    def _ask(self, call: Callable):
        """What Redis gives; None where it does not answer, and for `retry_seconds` afterwards."""
        if self.degraded and time.monotonic() < self._next_try:
            return None
        try:
            found = call()
        except self._errors as error:
            self._next_try = time.monotonic() + self._retry
            if not self.degraded:
                self.degraded = True
                self._tell(True, str(error))
            return None
        if self.degraded:
            self.degraded = False
            self._tell(False, "")
        return found
