"""Memories of people: small, bounded, right in the next answer."""

from __future__ import annotations

import numpy as np
from law_world import END, some_events

from recsys_cli.serving.erasure import mark
from recsys_cli.serving.events import Entry, Event, Served
from recsys_cli.serving.memory import SEEN_KEPT, SERVED_FOR, SESSION_GAP, SESSION_KEPT, Memory, MemoryStore, decoded

MINUTE = 60_000_000


def noted(*events) -> Memory:
    memory = Memory()
    for event in events:
        memory.note(event)
    return memory


def at(kind, minute, item=None, **more) -> Event:
    return Event(kind, "u", item, timestamp=END + minute * MINUTE, **more)


def test_what_each_event_leaves():
    memory = noted(
        at("impression", 0, "a"), at("like", 1, "b"), at("hide", 2, "c"), at("see_less", 3, "d"),
        at("block", 4, author_id="x"), at("follow", 4, author_id="y"), at("dwell", 5, "a", dwell_seconds=2),
    )
    assert set(memory.seen) == set("abcd")
    assert set(memory.recent) == {"b"} and set(memory.hidden) == {"c", "d"}
    assert set(memory.edges["block"]) == {"x"} and set(memory.edges["follow"]) == {"y"}
    assert [(item, kind) for item, kind, _ in memory.session] == [
        ("b", "like"), ("c", "hide"), ("d", "see_less"), ("a", "dwell")
    ]
    memory.note(at("unblock", 6, author_id="x"))
    assert not memory.edges["block"] and set(memory.undone["block"]) == {"x"}
    memory.note(at("hide", 7, "b"))
    assert "b" not in memory.recent


def test_a_session_ends_after_a_pause():
    memory = noted(at("like", 0, "a"), at("like", 20, "b"))
    gap = SESSION_GAP // MINUTE
    assert len(memory.current_session(END + (20 + gap) * MINUTE)) == 2
    assert memory.current_session(END + (21 + gap) * MINUTE) == []
    memory.note(at("impression", 21 + gap, "c"))
    memory.note(at("click", 22 + gap, "c"))
    assert [item for item, _, _ in memory.session] == ["c"]


def test_what_was_served_is_remembered_for_a_while():
    memory = noted(at("served", 0, request_id="r", served=Served(["a", "b"])))
    assert memory.served_since(END + SERVED_FOR - 1) == {"a", "b"}
    assert memory.served_since(END + SERVED_FOR) == set()
    assert not memory.seen


def test_memories_are_bounded_and_keep_the_latest():
    memory = noted(*(at("click", 0, str(n)) for n in range(SEEN_KEPT + 10)))
    assert len(memory.seen) == SEEN_KEPT and "9" not in memory.seen and "10" in memory.seen
    assert len(memory.session) == SESSION_KEPT
    store = MemoryStore(most=3)
    store.take([Entry(n + 1, Event("like", f"u{n % 5}", "a", timestamp=END)) for n in range(5)])
    assert len(store) == 3 and store.of("u0") == Memory() and "a" in store.of("u4").seen


def test_entries_count_once_and_the_store_comes_back_as_it_was():
    entries = [Entry(n + 1, e) for n, e in enumerate(some_events(np.random.default_rng(0), 300))]
    once, twice = MemoryStore(), MemoryStore()
    once.take(entries)
    twice.take(entries[:200])
    twice.take(entries[100:])
    changes = twice.changes()
    back = decoded(changes.items(), twice.offset())
    assert twice.changes() == {}
    twice.unsaved(["105", "106"])
    first = twice.changes(1)
    assert len(first) == 1 and set(first | twice.changes(5)) == {"105", "106"}
    for user in {e.event.user_id for e in entries if e.event.user_id}:
        assert once.of(user) == twice.of(user) == back.of(user)
    assert back.offset() == 300


def test_whoever_is_erased_is_forgotten_by_the_mark_in_the_log():
    store = MemoryStore()
    store.take([Entry(1, at("like", 0, "a")), Entry(2, Event("erase", mark("u"), timestamp=END))])
    assert store.of("u") == Memory() and store.offset() == 2
