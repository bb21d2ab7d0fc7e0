"""The shadow: which requests are copied, and what two runs are held against."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from recsys_cli.errors import UsageError
from recsys_cli.live.config import ShadowConfig
from recsys_cli.live.shadow import FEWEST, Answered, Request, answer, latest_requests, shadow, shadow_gates
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, EventRules, Served


def filled(folder, n: int) -> None:
    with EventLog.open(folder, EventRules(actions=("click",))) as log:
        for i in range(n):
            served = Served([f"i{k}" for k in range(i % 3)], surface="home" if i % 2 else None)
            log.append([Event("served", f"u{i}", request_id=f"r{i}", served=served),
                        Event("click", f"u{i}", "i0", request_id=f"r{i}")])


def test_the_latest_answers_that_held_anything_are_copied_as_they_were_asked(tmp_path):
    filled(tmp_path, 9)
    copied = latest_requests(tmp_path, 3)
    assert copied.requests == [
        Request("u5", 2, {"surface": "home"}), Request("u7", 1, {"surface": "home"}), Request("u8", 2, {}),
    ]
    assert list(copied.seen["u5"]) == ["i0"] and "i1" not in copied.seen["u5"]
    assert [r.user for r in latest_requests(tmp_path, 100).requests] == ["u1", "u2", "u4", "u5", "u7", "u8"]


def test_a_run_that_fails_at_a_request_answers_the_others():
    def recommend(user, n, context, request):
        if user == "bad":
            raise UsageError("no such surface", "x")
        if user == "worse":
            raise ZeroDivisionError("oh")
        return SimpleNamespace(items=[SimpleNamespace(item_id=i) for i in range(n)])

    requests = [Request("a", 2, {}), Request("bad", 2, {}), Request("worse", 1, {}), Request("b", 1, {})]
    found = answer(SimpleNamespace(recommend=recommend), requests)
    assert found.lists == [["0", "1"], [], [], ["0"]] and len(found.seconds) == 4
    assert found.failed == [None, "no such surface", "ZeroDivisionError: oh", None]


def answered(lists, seconds=0.001, failed=()) -> Answered:
    n = FEWEST  # copies of two kinds, as many of each
    return Answered([list(x) for x in lists] * n, [seconds] * 2 * n, list(failed or [None, None]) * n)


@pytest.mark.parametrize(
    ("new", "refused"),
    [
        (answered(["ab", "cd"]), []), (answered(["ax", "xy"]), []), (answered(["xy", "xy"]), ["overlap"]),
        (answered(["ab", ""]), ["empty"]), (answered(["ab", "cd"], 0.0059), []),
        (answered(["ab", "cd"], 0.0061), ["latency"]), (answered(["ab", ""], failed=[None, "boom"]), ["errors"]),
    ],
    ids=["same", "a half of one", "other items", "empty", "a little slower", "slow", "fails"],
)
def test_what_is_held_against_the_run_in_use(new, refused):
    gates = shadow_gates(answered(["ab", "cd"]), new, ShadowConfig(overlap=0.2))
    assert [g.gate for g in gates if g.passed is False] == [f"shadow: {name}" for name in refused]


def test_what_both_fail_at_is_nobodys_fault_and_without_requests_nothing_is_judged(tmp_path):
    both = answered(["ab", ""], failed=[None, "gone"])
    assert all(g.passed for g in shadow_gates(both, both, ShadowConfig()))
    few = Answered([["a"]] * 29, [0.001] * 29, [None] * 29)
    assert shadow_gates(few, few, ShadowConfig())[-1].passed is None
    filled(tmp_path, 0)
    (gate,) = shadow(None, None, tmp_path, ShadowConfig())
    assert gate.passed is None
