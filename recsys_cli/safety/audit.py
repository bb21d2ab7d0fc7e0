"""What the safety policy did, read back from the trace logs."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from recsys_cli.errors import ArtifactError, UsageError

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MARK = b'"event":"safety"'


def parse_since(text: str, now: dt.datetime | None = None) -> dt.datetime:
    """A moment (UTC) from an ISO 8601 time, or from how long ago it is: 30m, 12h, 7d."""
    now = now or dt.datetime.now(dt.UTC)
    if found := _AGO.fullmatch(text.strip()):
        try:
            return now - dt.timedelta(**{_UNITS[found[2]]: float(found[1])})
        except OverflowError:  # before the calendar begins
            return dt.datetime.min.replace(tzinfo=now.tzinfo)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--since {text!r} is not a time", "write 2026-01-31T18:00:00, or 30m, 12h, 7d") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


@dataclass(frozen=True)
class Wanted:
    """Which actions to list; None takes all."""

    since: dt.datetime | None = None
    run: str | None = None
    action: str | None = None
    task: str | None = None
    user: str | None = None
    item: str | None = None


@dataclass
class Audit:
    """Counts over all actions wanted, and the latest of them one by one."""

    actions: list[dict]
    """ts, request, run, user, item, rule, task, action, threshold, factor, score, shown; oldest first"""
    counts: list[dict]
    """run, rule, action, times, items, users, shown: how often, on how many items, before how many users, and how
    often the item was in the slate all the same"""
    requests: int
    unknown: int
    """candidates of these requests that lacked a score which a rule asks for"""
    damaged: int
    """lines of the logs that could not be read"""


def audit(logs: str | os.PathLike, wanted: Wanted, limit: int | None = None) -> Audit:
    """Read every trace log of a folder, day by day; `limit` keeps that many of the latest actions.

    Raises ArtifactError where there is no log.
    """
    files = sorted(Path(logs).glob("trace-*.jsonl"))
    if not files:
        raise ArtifactError(f"no trace log in {logs}", "logs are written by `recsys recommend`; name --artifacts-dir")
    if wanted.since is not None:
        day = wanted.since.astimezone(dt.UTC).strftime("%Y%m%d")
        files = [f for f in files if f.stem.removeprefix("trace-") >= day]
    out = Audit([], [], 0, 0, 0)
    times: Counter = Counter()
    shown: Counter = Counter()
    items: dict[tuple, set] = {}
    users: dict[tuple, set] = {}
    for event in _events(files, wanted, out):
        out.requests += 1
        out.unknown += event["unknown"]
        for row in _rows(event, wanted):
            key = (row["run"], row["rule"], row["action"])
            times[key] += 1
            shown[key] += row["shown"]
            items.setdefault(key, set()).add(row["item"])
            users.setdefault(key, set()).add(row["user"])
            out.actions.append(row)
        if limit is not None and len(out.actions) > 4 * max(limit, 250):
            del out.actions[:-limit or None]
    if limit is not None:
        out.actions = out.actions[-limit:] if limit else []
    out.counts = [
        {
            "run": key[0], "rule": key[1], "action": key[2], "times": n, "items": len(items[key]),
            "users": len(users[key]), "shown": shown[key],
        }
        for key, n in times.most_common()
    ]
    return out


def _events(files: list[Path], wanted: Wanted, out: Audit) -> Iterator[dict]:
    since = None if wanted.since is None else wanted.since.astimezone(dt.UTC)
    for file in files:
        with open(file, "rb") as handle:
            for line in handle:
                if _MARK not in line:
                    continue
                try:
                    event = orjson.loads(line)
                    moment = dt.datetime.fromisoformat(event["ts"])
                    complete = {"run", "rules", "user", "item", "rule", "score", "shown", "unknown"} <= event.keys()
                except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                    complete = False
                if not complete:  # a process that was killed, or a full disk, leaves half a line
                    out.damaged += 1
                    continue
                if (since is None or moment >= since) and wanted.run in (None, event["run"]):
                    yield event


def _rows(event: dict, wanted: Wanted) -> Iterator[dict]:
    columns = (event["user"], event["item"], event["rule"], event["score"], event["shown"])
    for user, item, number, score, shown in zip(*columns, strict=True):
        rule = event["rules"][number]
        asked = ((wanted.action, rule["action"]), (wanted.task, rule["task"]), (wanted.user, user), (wanted.item, item))
        if all(want is None or want == str(value) for want, value in asked):
            yield {
                "ts": event["ts"], "request": event["request"], "run": event["run"], "user": user, "item": item,
                **rule, "score": score, "shown": shown,
            }
