"""Events: what people do and what changes in the catalogue, as the log keeps them and as the server takes them.

An event is checked once, before it is written (`check`), and never changed afterwards. The rules:

- *Time.* `timestamp` is ISO 8601, or a number of seconds, milliseconds or microseconds since 1970, told apart by its
  size. Without one, or up to `skew_seconds` ahead of this machine's clock, the moment of arrival stands for it; further
  ahead is refused, and so is what is older than `late_days`.
- *Order.* Events may come in any order. What a user did may arrive before the impression that it belongs to.
- *Ids.* Texts or integers, which name the same thing: 7 is "7". At most 200 characters and none of control. A user or
  an item that nobody knows yet is accepted: the user is recommended to from then on, the item counts from then on and
  is recommended once its attributes come (`type` "item").
- *Retries.* An event with an `event_id` counts once, however often it comes. One without counts every time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec

from recsys_cli.data.schema import DAY, NEGATIVE_ACTIONS, POSITIVE_ACTIONS, SECOND
from recsys_cli.errors import RecsysError, did_you_mean

LONGEST_ID = 200
"""Characters of an id."""
LONGEST_BODY = 65_536
"""Bytes of one event as it is written."""
EDGES = {"follow": "unfollow", "block": "unblock", "mute": "unmute"}
"""Types between a user and an author (`author_id`, or the author of `item_id`), and what takes each back."""
CATALOGUE = ("user", "item", "delete_item")
"""Types that say what a user or an item is: `attributes` as columns of the tables `users` and `items`."""
SIGNALS = ("impression", "dwell", "rating", "see_less", "served", "erase")
"""Types beside the actions of the data; "served" and "erase" are written by the server alone."""
INTERNAL = ("served", "erase")
INTERLEAVED = "interleaved"
"""Variant of an experiment that mixes the lists of all of them for everybody who takes part."""
SECONDS_MOST = 86_400.0
"""Longest `dwell_seconds` taken."""


class Served(msgspec.Struct, omit_defaults=True, array_like=True):
    """What was answered to one request, so that what people do with it is attributed exactly."""

    items: list[str]
    """ids from the top"""
    run: str = ""
    arm: str = ""
    """experiments and variants (`told_of`), empty where there are none"""
    propensities: list[float] = []
    """probability with which each item was shown at its place; empty where it is unknown"""
    sources: list[str] = []
    """what proposed each item, several joined by +"""
    surface: str | None = None
    device: str | None = None
    session_id: str | None = None
    features: list[bytes] = []
    """float32 features of each item as they were used; empty where they are not kept"""
    utilities: list[float] = []
    """what the ranking expected of each item, for exploration to learn from; empty where nothing is explored"""
    credits: list[list[float]] = []
    """of a list that mixes variants: for each item, what turning to it credits each of them in their order"""
    creatives: list[int] = []
    """number, from 1, of the title or picture that each item was shown with, 0 for one that has no several; empty where
    nothing chooses among them"""
    creative_propensities: list[float] = []
    """probability with which each of them was chosen"""


def told_of(arms: Mapping[str, str]) -> str:
    """Experiments and the variants that answered, as `Served.arm` holds them."""
    return urlencode(dict(sorted(arms.items())))


def arms_of(told: str) -> dict[str, str]:
    """Experiment → variant of a `Served.arm`; a text that names no experiment is the arm of one without a name."""
    return dict(parse_qsl(told)) if "=" in told else {"": told} if told else {}


class Event(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """One event. `type` is an action of the data (click, like, hide, …), one of SIGNALS, EDGES or CATALOGUE."""

    type: str
    user_id: str | int | None = None
    """None for events of CATALOGUE about items"""
    item_id: str | int | None = None
    timestamp: int | float | str | None = None
    """once checked: int, µs since 1970 UTC"""
    event_id: str | None = None
    """makes a retry harmless"""
    request_id: str | None = None
    """of the answer that showed the item"""
    session_id: str | None = None
    position: int | None = None
    """0 is the top"""
    value: float | None = None
    """of a rating"""
    dwell_seconds: float | None = None
    surface: str | None = None
    device: str | None = None
    source: str | None = None
    propensity: float | None = None
    author_id: str | int | None = None
    """whom EDGES lead to, where no item names them"""
    attributes: dict[str, Any] | None = None
    """of a user or an item, for CATALOGUE"""
    served: Served | None = None
    """of "served" alone"""


class Rejected(msgspec.Struct, omit_defaults=True):
    """An event that was refused."""

    index: int
    """place in what was sent"""
    reason: str


class Receipt(msgspec.Struct, omit_defaults=True):
    """What became of the events of one call; they are on the disk."""

    accepted: int = 0
    duplicates: int = 0
    """known by their `event_id`"""
    rejected: list[Rejected] = []
    offset: int = 0
    """of the last event in the log: whoever has read so far has seen these events"""


class Entry(msgspec.Struct):
    """An event as the log gives it back."""

    offset: int
    event: Event


@dataclass(frozen=True)
class EventRules:
    """What is accepted. actions: those of the data, which are also its columns."""

    actions: Collection[str] = (*POSITIVE_ACTIONS, *NEGATIVE_ACTIONS)
    skew_seconds: float = 300.0
    """how far a clock may be ahead of this machine's"""
    late_days: float = 30.0
    """how old an event may be"""
    integer_users: bool = False
    """ids of users are integers, as in the data that the run was trained on"""
    integer_items: bool = False
    types: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        back = EDGES.values()
        object.__setattr__(self, "types", frozenset((*self.actions, *SIGNALS, *EDGES, *back, *CATALOGUE)))


def check(event: Event, now: int, rules: EventRules) -> str | None:
    """Why an event is refused, in one line; None where it is accepted, and then its ids are texts and its time µs.

    now: µs, the moment of arrival.
    """
    kind = event.type
    if kind not in rules.types:
        offered = sorted(rules.types - set(INTERNAL))
        hint = did_you_mean(str(kind)[:80], offered, f"one of {', '.join(offered)}")
        return f"type {str(kind)[:80]!r} is unknown: {hint}"
    for name in ("user_id", "item_id", "author_id"):
        value = getattr(event, name)
        if value is None:
            continue
        value = str(value)
        integer = rules.integer_items if name == "item_id" else rules.integer_users and name == "user_id"
        reason = _bad_id(name, value, integer)
        if reason:
            return reason
        setattr(event, name, value)
    reason = _missing(event) or _bad_texts(event) or _bad_numbers(event)
    if reason:
        return reason
    return _set_time(event, now, rules)


def _bad_id(name: str, value: str, integer: bool) -> str | None:
    if not value or len(value) > LONGEST_ID:
        return f"{name} has {len(value)} characters, 1 to {LONGEST_ID} are taken"
    if not value.isprintable():
        return f"{name} holds a control character"
    if integer:
        digits = value[1:] if value[0] == "-" else value
        if not (digits.isascii() and digits.isdigit() and str(int(digits)) == digits and len(digits) < 19):
            return f"{name} {value[:40]!r} is no integer, as the ids of the data are"
    return None


def _missing(event: Event) -> str | None:
    kind = event.type
    if kind in ("item", "delete_item"):
        return None if event.item_id is not None else f"{kind} needs item_id"
    if event.user_id is None:
        return f"{kind} needs user_id"
    if kind in ("user", "erase"):
        return None
    if kind == "served":
        return None if event.served is not None and event.request_id else "served needs request_id and served"
    if kind in EDGES or kind in EDGES.values():
        known = event.item_id is not None or event.author_id is not None
        return None if known else f"{kind} needs item_id or author_id"
    if event.item_id is None:
        return f"{kind} needs item_id"
    if kind == "dwell" and event.dwell_seconds is None:
        return "dwell needs dwell_seconds"
    return "rating needs value" if kind == "rating" and event.value is None else None


def _bad_texts(event: Event) -> str | None:
    for name in ("event_id", "request_id", "session_id", "surface", "device", "source"):
        value = getattr(event, name)
        if value is not None:
            reason = _bad_id(name, value, False)
            if reason:
                return reason
    return None


def _bad_numbers(event: Event) -> str | None:
    dwell, value, position, propensity = event.dwell_seconds, event.value, event.position, event.propensity
    if dwell is not None and not 0 <= dwell <= SECONDS_MOST:
        return f"dwell_seconds {dwell} is not within 0 and {SECONDS_MOST:g}"
    if value is not None and not abs(value) <= 1e9:
        return f"value {value} is not a number within ±1e9"
    if position is not None and not 0 <= position < 32_768:
        return f"position {position} is not within 0 and 32767"
    if propensity is not None and not 0 < propensity <= 1:
        return f"propensity {propensity} is no probability above 0"
    return None


def _set_time(event: Event, now: int, rules: EventRules) -> str | None:
    if event.timestamp is None:
        event.timestamp = now
        return None
    moment = microseconds(event.timestamp)
    if moment is None:
        told = str(event.timestamp)[:40]
        return f"timestamp {told!r} is no moment: write 2026-01-31T18:00:00Z, or seconds since 1970"
    ahead = moment - now
    if ahead > 0:
        if ahead > rules.skew_seconds * SECOND:
            told = f"timestamp is {ahead / SECOND:,.0f} s ahead of the server's clock"
            return f"{told}, {rules.skew_seconds:g} s are taken"
        moment = now
    elif -ahead > rules.late_days * DAY:
        return f"timestamp is {-ahead / DAY:,.1f} days old, {rules.late_days:g} days are taken"
    event.timestamp = moment
    return None


def microseconds(value: int | float | str) -> int | None:
    """µs since 1970 UTC of ISO 8601, or of seconds, milliseconds or microseconds as the size tells; else None."""
    if isinstance(value, str):
        try:
            moment = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        since = moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        return (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    if not 0 < value < 1e17:  # NaN too
        return None
    scale = SECOND if value < 1e11 else 1000 if value < 1e14 else 1
    return value * scale if isinstance(value, int) else round(value * scale)



class StorageFull(RecsysError):
    """The disk takes no more events; those before are safe, and reading goes on."""


class LogInUse(RecsysError):
    """Another process has the log open."""
