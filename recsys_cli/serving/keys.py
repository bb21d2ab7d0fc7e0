"""Who may ask what: keys with roles, where calls may come from, how many and how large they may be."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from recsys_cli.errors import ConfigError
from recsys_cli.serving.config import KeyConfig, Role, ServingConfig, secret_of

SHORTEST_KEY = 16
"""Characters of a key at least."""
CALLERS = 100_000
"""Callers whose rate is counted; the longest silent are forgotten first."""


class Refused(Exception):
    """A request that is not answered: status, a word for programs, what to tell."""

    def __init__(self, status: int, error: str, message: str, hint: str | None = None, headers: dict | None = None):
        super().__init__(message)
        self.status, self.error, self.message, self.hint = status, error, message, hint
        self.headers = headers or {}


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


class Keys:
    """The keys of the settings. Only digests are kept, and every one is compared, each in constant time."""

    def __init__(self, configs: list[KeyConfig]):
        self._held: list[tuple[bytes, str, frozenset[str]]] = []
        for config in configs:
            value = secret_of(config.key)
            if len(value) < SHORTEST_KEY:
                raise ConfigError(
                    f"serving.keys: that of {config.name!r} has {len(value)} characters",
                    f"take at least {SHORTEST_KEY}, e.g. from `openssl rand -hex 32`",
                )
            self._held.append((_digest(value.encode()), config.name, frozenset(config.roles)))

    def __len__(self) -> int:
        return len(self._held)

    def find(self, given: str) -> tuple[str, frozenset[str]] | None:
        """(name, roles) of a key; None where it is none of them."""
        digest, found = _digest(given.encode("utf-8", "surrogateescape")), None
        for held, name, roles in self._held:  # all of them, so that the time tells nothing
            if hmac.compare_digest(held, digest):
                found = name, roles
        return found


class Rates:
    """Token buckets: each caller has a second's worth of requests at once, and gets them back as time goes by."""

    def __init__(self, per_second: float | None, clock=time.monotonic):
        self._rate, self._clock = per_second, clock
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """0 where the request may go on, else seconds to wait."""
        if self._rate is None:
            return 0.0
        now, most = self._clock(), max(self._rate, 1.0)
        left, at = self._held.pop(caller, (most, now))
        left = min(most, left + (now - at) * self._rate)
        wait = 0.0 if left >= 1 else (1 - left) / self._rate
        self._held[caller] = (left - 1 if not wait else left, now)
        while len(self._held) > CALLERS:
            self._held.popitem(last=False)
        return wait


@lru_cache(10_000)
def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own; a name counts only as localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(10_000)
def host_name(header: str) -> str:
    """The name in a Host header or an origin, without scheme and port, in small letters."""
    text = header.partition("://")[2] or header
    if text.startswith("["):
        return text[: text.find("]") + 1].lower()
    return text.partition(":")[0].lower()


@dataclass
class Gate:
    """What every request passes before it is looked at."""

    config: ServingConfig
    keys: Keys
    rates: Rates

    def __post_init__(self) -> None:
        names = map(str.lower, (self.config.host, *self.config.allowed_hosts))
        self._own_names = frozenset(("localhost", "127.0.0.1", "[::1]", *names))

    @classmethod
    def of(cls, config: ServingConfig) -> Gate:
        """Raises ConfigError where a key is missing or where an open address has no keys."""
        keys = Keys(config.keys)
        if not len(keys) and not is_loopback(config.host):
            raise ConfigError(
                f"serving.host {config.host!r} is open to other machines, and there are no keys",
                "set serving.keys, or listen on 127.0.0.1",
            )
        return cls(config, keys, Rates(config.requests_per_second))

    def admit(self, headers: Mapping[str, str], client: str, role: Role | None, *, limited: bool = True) -> str:
        """The caller's name; raises Refused.

        role: what the path asks for, None for what anybody may ask. limited: whether it counts for the rate.
        """
        self._place(headers)
        if not len(self.keys):
            if not is_loopback(client) and client != "":
                raise Refused(403, "loopback_only", "without keys only this machine is served", "set serving.keys")
            caller = client
        elif role is None:
            caller = client
        else:
            caller = self._key(headers, role)
        if limited and (wait := self.rates.take(caller)):
            retry = {"retry-after": str(max(1, round(wait)))}
            raise Refused(429, "too_many_requests", "more requests a second than are allowed", None, retry)
        return caller

    def require(self, headers: Mapping[str, str], role: Role) -> None:
        """Raises Refused where a caller who was admitted may not do what a role may."""
        if len(self.keys):
            self._key(headers, role)

    def _key(self, headers: Mapping[str, str], role: Role) -> str:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ").strip()
        found = self.keys.find(given) if given else None
        if found is None:
            told = {"www-authenticate": "Bearer"}
            raise Refused(401, "no_key", "a key is needed: X-API-Key, or Authorization: Bearer", None, told)
        if role not in found[1]:
            raise Refused(403, "role", f"this key may not do what the role {role!r} may")
        return found[0]

    def _place(self, headers: Mapping[str, str]) -> None:
        """A page of somebody else's, open in a browser of this machine, reaches loopback too: the names tell."""
        host, origin = host_name(headers.get("host", "")), headers.get("origin")
        open_to_all = len(self.keys) > 0 and not self.config.allowed_hosts
        if host and not open_to_all and host not in self._own_names and not is_loopback(host):
            raise Refused(421, "host", "this server is not called by that name", "see serving.allowed_hosts")
        if origin is not None and origin not in self.config.allowed_origins:
            if origin.partition("://")[2].lower() == headers.get("host", "").lower():
                return  # a page of the server's own
            raise Refused(403, "origin", "pages of that origin may not call", "see serving.allowed_origins")
