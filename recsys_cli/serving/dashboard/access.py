"""Who sees the pages and who may act: a cookie after signing in with a key, and actions that are asked twice."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from recsys_cli.serving.keys import Gate

COOKIE = "recsys_dashboard"
SIGNED_IN = 12 * 3600
"""Seconds for which a sign-in counts."""
ASKED = 300
"""Seconds within which an action must be confirmed."""
MOST = 1_000
"""Sign-ins and questions that are kept; the oldest are forgotten first."""


@dataclass(frozen=True)
class Caller:
    """Who asks for a page."""

    name: str
    roles: frozenset[str]
    token: str | None = None
    """of the cookie; None where there is none"""


EVERYBODY = Caller("this machine", frozenset(("read", "write", "admin")))
"""Whoever asks where there are no keys: the gate lets only this machine in."""


class _Kept:
    """Values by a random word, for a while."""

    def __init__(self, seconds: float, clock: Callable[[], float]):
        self._seconds, self._clock = seconds, clock
        self._held: OrderedDict[str, tuple[float, object]] = OrderedDict()

    def put(self, value: object) -> str:
        word = secrets.token_urlsafe(32)
        self._held[word] = self._clock() + self._seconds, value
        while len(self._held) > MOST:
            self._held.popitem(last=False)
        return word

    def get(self, word: str) -> object | None:
        until, value = self._held.get(word, (0.0, None))
        return value if self._clock() < until else None

    def take(self, word: str) -> object | None:
        value = self.get(word)
        self._held.pop(word, None)
        return value


class Access:
    """Sign-ins of one server, and the questions that it asked."""

    def __init__(self, gate: Gate, clock: Callable[[], float] = time.monotonic):
        self.gate = gate
        self._signed_in, self._asked = _Kept(SIGNED_IN, clock), _Kept(ASKED, clock)

    def caller(self, headers: Mapping[str, str]) -> Caller | None:
        """Who asks, by cookie or by the key of a program; None for nobody that is known."""
        if not len(self.gate.keys):
            return EVERYBODY
        token = _cookie(headers.get("cookie", ""))
        known = self._signed_in.get(token) if token else None
        if known is not None:
            return Caller(*known, token)
        given = headers.get("x-api-key")
        found = self.gate.keys.find(given) if given else None
        return Caller(*found) if found else None

    def sign_in(self, key: str, headers: Mapping[str, str]) -> str | None:
        """The cookie of whoever has a key, as a header has it; None where it is no key."""
        found = self.gate.keys.find(key)
        if found is None:
            return None
        safe = "; Secure" if headers.get("x-forwarded-proto") == "https" else ""
        token = self._signed_in.put(found)
        return f"{COOKIE}={token}; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age={SIGNED_IN}{safe}"

    def sign_out(self, caller: Caller) -> str:
        """Forget a sign-in; the cookie that takes the other one away."""
        if caller.token is not None:
            self._signed_in.take(caller.token)
        return f"{COOKIE}=; Path=/dashboard; HttpOnly; SameSite=Strict; Max-Age=0"

    def ask(self, caller: Caller, action: str, what: str) -> str:
        """A word that confirms one action of one caller, once."""
        return self._asked.put((caller.name, action, what))

    def confirmed(self, caller: Caller, word: str, action: str, what: str) -> bool:
        """Whether that very action was asked for by this caller a moment ago. A word counts once."""
        return self._asked.take(word) == (caller.name, action, what)


def _cookie(header: str) -> str | None:
    try:
        held = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return None
    return None if held is None else held.value
