"""The audit lists and counts what the trace logs say the policy did."""

import datetime as dt

import pytest

from recsys_cli.errors import ArtifactError, UsageError
from recsys_cli.safety.audit import Wanted, audit, parse_since
from recsys_cli.tracelog import TraceLog

RULES = [
    {"rule": "nsfw > 0.8", "task": "nsfw", "action": "downrank", "threshold": 0.8, "factor": 0.1},
    {"rule": "combined < 0.7", "task": "combined", "action": "drop", "threshold": 0.7, "factor": None},
]


@pytest.fixture
def logs(tmp_path):
    trace = TraceLog(tmp_path)
    common = {"request": "r", "models": {}, "rules": RULES}
    trace.event("slates", request="r")
    trace.event("safety", run="a", unknown=3, user=[1, 1, 2], item=[7, 8, 7], rule=[0, 1, 0], score=[0.9, 0.5, 0.9],
                shown=[True, False, False], **common)
    trace.event("safety", run="b", unknown=0, user=["x"], item=["i9"], rule=[1], score=[0.1], shown=[False], **common)
    trace.close()
    return tmp_path


def test_actions_are_listed_and_counted_by_rule(logs):
    found = audit(logs, Wanted())
    assert [(a["user"], a["item"], a["rule"], a["score"], a["shown"]) for a in found.actions] == [
        (1, 7, "nsfw > 0.8", 0.9, True), (1, 8, "combined < 0.7", 0.5, False),
        (2, 7, "nsfw > 0.8", 0.9, False), ("x", "i9", "combined < 0.7", 0.1, False),
    ]
    assert found.counts[0] == {
        "run": "a", "rule": "nsfw > 0.8", "action": "downrank", "times": 2, "items": 1, "users": 2, "shown": 1
    }
    assert (found.requests, found.unknown, found.damaged) == (2, 3, 0)


@pytest.mark.parametrize(
    ("wanted", "items"),
    [
        (Wanted(run="b"), ["i9"]), (Wanted(action="drop"), [8, "i9"]), (Wanted(task="nsfw"), [7, 7]),
        (Wanted(user="2"), [7]), (Wanted(item="8"), [8]),
        (Wanted(since=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)), []),
        (Wanted(since=dt.datetime.now(dt.UTC) - dt.timedelta(days=2)), [7, 8, 7, "i9"]),
    ],
)
def test_every_filter_leaves_what_it_names(logs, wanted, items):
    assert [a["item"] for a in audit(logs, wanted).actions] == items


def test_a_limit_keeps_the_latest_and_counts_all(logs):
    found = audit(logs, Wanted(), limit=1)
    assert [a["item"] for a in found.actions] == ["i9"] and sum(c["times"] for c in found.counts) == 4
    assert audit(logs, Wanted(), limit=0).actions == []


def test_damaged_lines_are_counted_and_passed_over(logs):
    with open(next(logs.glob("*.jsonl")), "ab") as handle:
        handle.write(b'{"ts":"2026-01-01","event":"safety","user":[1]\n{"event":"safety"}\n')
    found = audit(logs, Wanted())
    assert found.damaged == 2 and len(found.actions) == 4


def test_moments_are_read_as_times_or_as_how_long_ago():
    now = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    assert parse_since("12h", now) == dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    assert parse_since("1.5d", now) == dt.datetime(2026, 2, 28, tzinfo=dt.UTC)
    assert parse_since("2026-01-31T18:00:00") == dt.datetime(2026, 1, 31, 18, tzinfo=dt.UTC)
    assert parse_since("2026-01-31T18:00:00+02:00").astimezone(dt.UTC).hour == 16
    with pytest.raises(UsageError):
        parse_since("yesterday")


def test_no_log_is_said(tmp_path):
    with pytest.raises(ArtifactError):
        audit(tmp_path, Wanted())
