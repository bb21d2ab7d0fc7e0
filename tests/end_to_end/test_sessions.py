"""A shop of anonymous visitors, each with one short session, from files to a list for a history given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from place import Place

pytestmark = pytest.mark.slow

SETTINGS = (
    "retrieval:\n  two_tower: {enabled: false}\n  als: {enabled: false}\n"
    "ranking:\n  heavy: {kind: shared_bottom, epochs: 2, hidden: [16]}\n  baseline: {enabled: false}\n"
    "  light: {measured_users: 0}\n"
    "tuning: {budget_seconds: 1}\n"
    "evaluation: {resamples: 100, k: [5, 10]}\n"
)
MAPPING = (
    "name: shop\nimpressions:\n  files: clicks.csv\n  columns:\n    user_id: session\n    session_id: session\n"
    "    item_id: item\n    timestamp: {column: t, unit: s}\n  actions:\n    click: {value: true}\n"
)
ITEMS = 60


def follows(item: int) -> int:
    """What mostly comes after an item."""
    return (7 * item + 11) % ITEMS


def clicks(sessions: int = 900, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    lines = []
    for session in range(sessions):
        item = int(rng.integers(ITEMS))
        for place in range(rng.integers(3, 7)):
            lines.append(f"s{session},i{item},{1_600_000_000 + 1_800 * session + 40 * place}")
            item = follows(item) if rng.random() < 0.8 else int(rng.integers(ITEMS))
    return "session,item,t\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple[Place, str]:
    """The place, trained, and what training said."""
    return Place.trained(tmp_path_factory.mktemp("shop"), SETTINGS, MAPPING, clicks=clicks())


def test_neighbours_of_sessions_take_part_and_say_once_what_a_session_is(shop):
    place, said = shop
    assert said.count("session neighbours: a session is what has one session_id") == 1
    manifest = json.loads(place.ok("runs", "show", "--format", "json"))
    assert "session_neighbours" in manifest["metrics"]["sources"]
    assert "next_basket" not in manifest["metrics"]["sources"]
    assert not manifest["metrics"]["repeats"]["lists_may_hold_seen"]


def test_a_history_given_is_answered_with_what_follows_it(shop):
    place, _ = shop
    hits = 0
    for item in range(0, 60, 10):
        second = follows(item)
        answer = json.loads(place.ok("recommend", "--history", f"i{item},i{second}", "--format", "json"))
        listed = [one["item_id"] for one in answer["items"]]
        assert f"i{item}" not in listed and f"i{second}" not in listed
        hits += f"i{follows(second)}" in listed[:3]
    assert hits >= 5
