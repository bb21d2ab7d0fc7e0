"""How the pages write what they hold: moments, ages, items with their titles, counts of what was served."""

from __future__ import annotations

import datetime as dt
import math
import time
from typing import TYPE_CHECKING

from recsys_cli.data.schema import SECOND
from recsys_cli.serving.dashboard.markup import Markup, Part, link, percent, tag

if TYPE_CHECKING:
    from recsys_cli.serving.dashboard.tally import Counts, Tally
    from recsys_cli.serving.live import Live

COUNTED = {"served": "served", "shown": "shown", "engaged": "engaged with", "rate": "click-through",
           "interval": "95 % interval", "negative": "turned down"}
"""Columns of a table of `Counts`."""


def moment(seconds: float | None) -> Markup:
    """A moment (seconds since 1970) in UTC."""
    if not seconds:
        return Markup("–")
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return tag("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=at.isoformat())


def micros(value: int | None) -> Markup:
    """A moment (µs since 1970) in UTC."""
    return moment(value / SECOND if value else None)


def clock(seconds: float, *, exact: bool = False) -> str:
    """The time of day of a moment, UTC. exact: with its second."""
    at = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return f"{at:%H:%M:%S}" if exact else f"{at:%H:%M}"


def prose(text: str) -> Part:
    """A sentence in which what stands between backticks is code."""
    parts = text.split("`")
    return [tag("code", part) if at % 2 and at < len(parts) - 1 else part for at, part in enumerate(parts)]


def age(seconds: float) -> str:
    """How long ago a moment was."""
    ago = max(0.0, time.time() - seconds)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if ago >= 2 * size:
            return f"{ago / size:.0f} {unit} ago"
    return f"{ago:.0f} s ago"


def titled(live: Live, item_id: str) -> Part:
    """An item as a link with its title, where the run knows it."""
    position = live.engine.bundle.item_ids.position(item_id)
    title = live.words.item(position)[2] if position >= 0 else None
    return [link(str(item_id), "items", item_id), f" {title}" if title else None]


def person(user_id: str | None) -> Part:
    """A user as a link."""
    return "(session)" if user_id is None else link(str(user_id), "users", user_id)


def counted(counts: Counts) -> dict[str, Part]:
    """One row of a table with the columns of COUNTED."""
    low, high = wilson(counts.engaged, counts.shown)
    return {
        "served": counts.served, "shown": counts.shown, "engaged": counts.engaged,
        "rate": percent(counts.engaged, counts.shown), "negative": counts.negative,
        "interval": f"{100 * low:.3g} to {100 * high:.3g} %" if counts.shown else "–",
    }


def wilson(successes: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The score interval of a share (Wilson, JASA 1927); (0, 1) of nothing."""
    if not n:
        return 0.0, 1.0
    share, spread = successes / n, z * z / n
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def read_so_far(tally: Tally, behind: int) -> str:
    """What figures of the log stand for."""
    since = f"since {dt.datetime.fromtimestamp(tally.first / SECOND, dt.UTC):%Y-%m-%d %H:%M} UTC" if tally.first else (
        "no event was logged yet")
    return f"From the log, {since}." + (f" {behind:,} events are still to be read." if behind else "")
