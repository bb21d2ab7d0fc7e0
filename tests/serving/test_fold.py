"""The fold: from events to impressions, by rules that depend on nothing but the events."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.serving.events import Entry, Event, Served
from recsys_cli.serving.fold import ATTRIBUTION, Fold

ACTIONS = ("click", "like", "hide")
T = 1_760_000_000_000_000
MINUTE = 60_000_000


def folded(events, cuts=()) -> Fold:
    entries = [Entry(n + 1, e) for n, e in enumerate(events)]
    fold, start = Fold(ACTIONS), 0
    for cut in (*sorted(cuts), len(entries)):
        fold.take(entries[start:cut])
        start = max(start, cut)
    return fold


def rows(fold: Fold) -> list[dict]:
    names, c = fold.names, fold.columns
    return [
        {
            "user": names["users"].listed[c["user"][r]], "item": names["items"].listed[c["item"][r]],
            "minute": (c["time"][r] - T) / MINUTE, "shown": bool(c["shown"][r]), "position": c["position"][r],
            "did": {a for k, a in enumerate(ACTIONS) if c["bits"][r] >> k & 1},
            "dwell": None if np.isnan(c["dwell"][r]) else c["dwell"][r],
        }
        for r in range(len(fold))
    ]


def event(kind, minute, item="i", request="r", **more) -> Event:
    return Event(kind, "u", item, timestamp=T + round(minute * MINUTE), request_id=request, **more)


def test_events_of_one_request_make_one_impression_whatever_comes_first():
    events = [
        event("like", 2), event("dwell", 3, dwell_seconds=4.0), event("impression", 1, position=3),
        event("dwell", 4, dwell_seconds=9.0), event("impression", 5, position=7), event("see_less", 6),
    ]
    wanted = {"user": "u", "item": "i", "minute": 1, "shown": True, "position": 3, "did": {"like", "hide"}, "dwell": 9}
    assert rows(folded(events)) == [wanted]
    assert rows(folded(events[::-1])) == [wanted]


def test_an_action_without_a_request_goes_to_the_latest_impression_of_the_last_hour():
    fold = folded([
        event("impression", 0, request="a"), event("impression", 10, request="b"), event("like", 20, request=None),
        event("like", 90, request=None), event("click", 100, request=None),
    ])
    assert [(r["minute"], r["shown"], r["did"]) for r in rows(fold)] == [
        (0, True, set()), (10, True, {"like"}), (90, False, {"like", "click"})
    ]


def test_what_comes_after_an_hour_is_a_row_of_its_own():
    fold = folded([event("impression", 0), event("impression", 61, item="j"), event("like", 62)])
    assert [(r["item"], r["did"]) for r in rows(fold)] == [("i", set()), ("j", set()), ("i", {"like"})]
    fold = folded([event("impression", 0), event("impression", 59, item="j"), event("like", 59)])
    assert len(fold) == 2


def test_an_impression_takes_from_the_answer_what_it_does_not_tell():
    served = Served(["j", "i"], "run", "", [0.25, 0.5], ["als", "fresh"], surface="feed")
    fold = folded([
        Event("served", "u", request_id="r", served=served, timestamp=T), event("impression", 1),
        event("impression", 1, item="j", position=9, propensity=0.125),
    ])
    c = fold.columns
    assert list(c["position"]) == [1, 9]
    assert list(c["propensity"]) == [0.5, 0.125]
    assert [fold.names["sources"].listed[s] for s in c["source"]] == ["fresh", "als"]


_EVENTS = st.lists(
    st.builds(
        event, st.sampled_from(["impression", "click", "like", "hide"]), st.integers(0, 300),
        st.sampled_from("ij"), st.sampled_from(["a", "b", None]),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(_EVENTS, st.lists(st.integers(0, 40), max_size=4), st.integers(0, 40))
def test_batches_and_stops_make_no_difference(events, cuts, stop):
    whole = folded(events)
    one_by_one = folded(events, range(len(events)))
    stopped = Fold.from_bytes(folded(events[:stop], cuts).to_bytes())
    stopped.take([Entry(n + 1, e) for n, e in enumerate(events)])  # what it knows does nothing
    for other in (one_by_one, stopped):
        assert rows(other) == rows(whole)
        assert other.offset == whole.offset == len(events)
    assert sum(len(r["did"]) for r in rows(whole)) <= sum(e.type != "impression" for e in events)
    assert whole.settled_rows <= len(whole)
    settled = rows(whole)[: whole.settled_rows]
    whole.take([Entry(len(events) + 1, event("hide", 300))])
    assert rows(whole)[: len(settled)] == settled  # what is settled never changes
    assert ATTRIBUTION == 60 * MINUTE


def test_a_fold_that_is_none_is_refused():
    with pytest.raises(ValueError, match="truncated"):
        Fold.from_bytes(b"\x81\xa1")
