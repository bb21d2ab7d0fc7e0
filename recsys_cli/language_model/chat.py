"""Questions to an OpenAI-compatible endpoint: one connection a question, a deadline for each, a bound for all."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import urlsplit

import orjson

from recsys_cli.errors import ConfigError
from recsys_cli.language_model.config import LanguageModelConfig
from recsys_cli.progress import Progress
from recsys_cli.serving.config import secret_of

LONGEST_ANSWER = 1 << 20
"""Bytes of an answer; whatever is longer is none."""
FAILURES_IN_A_ROW = 5
"""Questions that get no answer one after the other, after which no further one is asked."""
USELESS = "an answer of another form than asked for"

T = TypeVar("T")


class NoAnswer(Exception):
    """Why a question has no answer, in few words that name no secret."""


@dataclass
class Answers(Generic[T]):
    """What came of many questions."""

    found: dict[int, T] = field(default_factory=dict)
    """place of a question → what was made of its answer"""
    failed: Counter[str] = field(default_factory=Counter)
    """reason → questions without an answer, or without one of use"""
    unasked: int = 0
    """questions that were not asked any more"""

    @property
    def without(self) -> int:
        """Questions for which nothing was found."""
        return self.failed.total() + self.unasked

    @property
    def told(self) -> str:
        """What went wrong, in one line; empty where nothing did."""
        parts = [f"{n:,} × {reason}" for reason, n in self.failed.most_common()]
        return ", ".join(parts + ([f"{self.unasked:,} not asked"] if self.unasked else []))


class Chat:
    """One endpoint and model. Redirects are not followed, so that the key goes to the configured address alone."""

    def __init__(self, config: LanguageModelConfig):
        """Raises ConfigError where no address is configured or the environment lacks the key."""
        if config.url is None:
            raise ConfigError("no language model is configured", "set language_model.url and language_model.model")
        parts = urlsplit(config.url)
        self.host, self.port, self.tls = parts.hostname or "", parts.port, parts.scheme == "https"
        path = parts.path.rstrip("/")
        self.path = path if path.endswith("/chat/completions") else f"{path}/chat/completions"
        self.model, self.seconds = config.model, config.timeout_seconds
        self.headers = {"Content-Type": "application/json", "Accept": "application/json", "Connection": "close"}
        if config.api_key is not None:
            key = secret_of(config.api_key)
            if not key.isascii() or not key.isprintable():
                raise ConfigError(f"language_model.api_key: {config.api_key} holds more than a key", "check its value")
            self.headers["Authorization"] = f"Bearer {key}"

    def ask(self, task: str, content: str, seconds: float | None = None) -> str:
        """The answer to one question, as text. task: the instruction. content: what it is about.

        Raises NoAnswer for whatever is not an answer within `seconds` (at most those of the settings).
        """
        seconds = self.seconds if seconds is None else max(min(seconds, self.seconds), 0.001)
        body = {"model": self.model, "temperature": 0, "messages": [
            {"role": "system", "content": task}, {"role": "user", "content": content},
        ]}  # fmt: skip
        kind = http.client.HTTPSConnection if self.tls else http.client.HTTPConnection
        connection = kind(self.host, self.port, timeout=seconds)
        with _Deadline(connection, seconds) as deadline:
            try:
                deadline.connect()
                connection.request("POST", self.path, orjson.dumps(body), self.headers)
                response = connection.getresponse()
                status, found = response.status, response.read(LONGEST_ANSWER + 1)
            except (OSError, http.client.HTTPException) as error:
                raise NoAnswer(f"no answer within {seconds:g} s" if deadline.passed(error) else _short(error)) from None
            finally:
                connection.close()
            if deadline.passed():
                raise NoAnswer(f"no answer within {seconds:g} s")
        if status != 200:
            raise NoAnswer(f"HTTP {status}")
        return _content(found)

    def ask_all(
        self, task: str, contents: Sequence[str], accept: Callable[[int, str], T | None], config: LanguageModelConfig,
        progress: Progress, title: str,
    ) -> Answers[T]:
        """Ask the same of many things, each in a question of its own, within the bounds of the settings.

        accept: (place of a question, answer) → what it tells, None where it is of no use. It is called in this thread.
        """
        out: Answers[T] = Answers()
        until, in_a_row = time.monotonic() + config.max_seconds, 0
        todo = iter(range(min(len(contents), config.max_questions)))
        waiting: dict[Future[str], int] = {}
        with ThreadPoolExecutor(config.parallel) as pool, progress.step(title, len(contents)) as step:
            while True:
                left = until - time.monotonic()
                while left > 0 and in_a_row < FAILURES_IN_A_ROW and len(waiting) < config.parallel:
                    place = next(todo, None)
                    if place is None:
                        break
                    waiting[pool.submit(self.ask, task, contents[place], left)] = place
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    place = waiting.pop(future)
                    try:
                        made = accept(place, future.result())
                    except NoAnswer as error:
                        out.failed[str(error)] += 1
                        in_a_row += 1
                        continue
                    finally:
                        step.advance()
                    in_a_row = 0
                    if made is None:
                        out.failed[USELESS] += 1
                    else:
                        out.found[place] = made
        out.unasked = len(contents) - len(out.found) - out.failed.total()
        return out


class _Deadline:
    """Ends a connection after so long, however slowly it goes on."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float):
        self._connection, self._passed = connection, threading.Event()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def connect(self) -> None:
        """Open the connection. Its socket is kept, for the connection lets go of it before the answer is read."""
        self._connection.connect()
        self._socket = self._connection.sock
        if self._passed.is_set():
            raise TimeoutError

    def _end(self) -> None:
        self._passed.set()
        if self._socket is not None:
            with suppress(OSError):  # of the plain socket: to end TLS in good order would wait for the other side
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def passed(self, error: Exception | None = None) -> bool:
        """Whether it was too late, or an error says so."""
        return self._passed.is_set() or isinstance(error, TimeoutError)


def _short(error: Exception) -> str:
    """What went wrong, on one line without what the other side wrote."""
    if isinstance(error, OSError):
        return (error.strerror or type(error).__name__).splitlines()[0].lower()[:80]
    return "a broken HTTP answer"


def _content(found: bytes) -> str:
    """The text of an answer in OpenAI's form; raises NoAnswer for any other."""
    try:
        if len(found) > LONGEST_ANSWER:
            raise ValueError
        text = orjson.loads(found)["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError
        return text
    except (ValueError, TypeError, KeyError, IndexError):
        raise NoAnswer("an answer that is not in OpenAI's form") from None
