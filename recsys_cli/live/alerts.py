"""Alerts on the figures of days: raised after some days beyond a bound, ended after some days back within another."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.live.config import AlertRule, MonitorConfig
from recsys_cli.live.figures import FIGURES, Figures

FAMILIES = ("rate.", "source.", "psi.", "js.", "calibration.")
"""Beginnings of figures whose names come with the data."""


@dataclass(frozen=True)
class Alert:
    """What became of one rule on one day."""

    name: str
    state: str
    """"raised", "ended" or "on", which is raised on an earlier day and not ended"""
    day: dt.date
    since: dt.date
    figure: str
    value: float
    bound: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"day": self.day.isoformat(), "since": self.since.isoformat()}

    @property
    def words(self) -> str:
        told = {"raised": "raised", "ended": f"ended, was on since {self.since}", "on": f"on since {self.since}"}
        return f"{self.name} {told[self.state]}: {self.figure} {self.value:.4g} on {self.day} (bound {self.bound:g})"


def check_rules(rules: Iterable[AlertRule], daily: Mapping[dt.date, Figures]) -> None:
    """Raises ConfigError for a rule without a bound, and for one that names no figure, with the nearest that is."""
    known = {*FIGURES, *(name for figures in daily.values() for name in figures)}
    for rule in rules:
        if (rule.above is None) == (rule.below is None):
            raise ConfigError(f"live.monitor.alerts: {rule.name} needs one of `above` and `below`", "give one bound")
        if rule.figure in known or (not daily and rule.figure.startswith(FAMILIES)):
            continue
        raise ConfigError(
            f"live.monitor.alerts: {rule.name} names no figure: {rule.figure!r}",
            did_you_mean(rule.figure, sorted(known), f"known: {', '.join(sorted(known))}"),
        )


def follow(rule: AlertRule, daily: Mapping[dt.date, Figures]) -> list[Alert]:
    """What became of a rule on each day on which it was raised, on or ended."""
    bound = rule.above if rule.above is not None else rule.below
    upward = rule.above is not None
    clear = rule.clear_below if upward else rule.clear_above
    clear = bound if clear is None else clear
    out: list[Alert] = []
    since, run, back = None, 0, 0
    for day, figures in sorted(daily.items()):
        value = figures.get(rule.figure)
        if value is None or value != value or figures.get("shown", 0.0) < rule.fewest:
            continue
        beyond = value > bound if upward else value < bound
        within = value <= clear if upward else value >= clear
        run = run + 1 if beyond else 0
        back = back + 1 if within else 0
        state = None
        if since is None and run >= rule.days:
            since, state, back = day, "raised", 0
        elif since is not None and back >= rule.clear_days:
            state = "ended"
        elif since is not None:
            state = "on"
        if state is not None:
            out.append(Alert(rule.name, state, day, since, rule.figure, value, bound))
        if state == "ended":
            since, run = None, 0
    return out


def standing(config: MonitorConfig, daily: Mapping[dt.date, Figures]) -> dict[str, list[Alert]]:
    """Rule → its history over the days."""
    check_rules(config.alerts, daily)
    return {rule.name: follow(rule, daily) for rule in config.alerts}


class Sent:
    """What was sent already, so that a report made twice sends once: artifacts/monitor/sent.json."""

    def __init__(self, artifacts: str | Path):
        self.path = Path(artifacts) / "monitor" / "sent.json"

    def new(self, alerts: Iterable[Alert]) -> list[Alert]:
        known = set(self._read())
        return [a for a in alerts if self._key(a) not in known]

    def add(self, alerts: Iterable[Alert]) -> None:
        from recsys_cli.files import write_bytes

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(self.path, orjson.dumps([*self._read(), *map(self._key, alerts)][-10_000:]))

    @staticmethod
    def _key(alert: Alert) -> str:
        return f"{alert.day} {alert.name} {alert.state}"

    def _read(self) -> list[str]:
        try:
            content = orjson.loads(self.path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return []
        return [str(x) for x in content] if isinstance(content, list) else []


def post(url: str, alerts: list[Alert], seconds: float) -> str | None:
    """Send alerts to a webhook as JSON; returns what went wrong, None where it took them.

    A webhook that hangs is given up after `seconds`.
    """
    import http.client
    import urllib.error
    import urllib.request

    if not url.startswith(("http://", "https://")):
        return f"{url!r} is no http address"
    body = orjson.dumps({"alerts": [a.to_dict() | {"text": a.words} for a in alerts]})
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=seconds):  # noqa: S310
            return None
    except (OSError, urllib.error.URLError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
