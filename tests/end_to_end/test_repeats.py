"""Data in which people come back to what they had, from files to a report: groceries, taken in baskets every week."""

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
    "name: groceries\nimpressions:\n  files: orders.csv\n  columns:\n    user_id: user\n    item_id: item\n"
    "    timestamp: {column: t, unit: s}\n  actions:\n    click: {value: true}\n"
)
DAY, START = 86_400, 1_600_000_000


def orders(people: int = 90, items: int = 200, weeks: int = 14, seed: int = 0) -> str:
    """Everybody's order of a week, on a weekday of their own: most of five things of theirs, and three popular ones."""
    rng = np.random.default_rng(seed)
    popular = 1 / np.arange(1, items + 1)
    own = [rng.choice(items, 5, replace=False) for _ in range(people)]
    lines = []
    for week in range(weeks):
        for user in range(people):
            taken = set(own[user][rng.random(5) < 0.8]) | set(rng.choice(items, 3, p=popular / popular.sum()))
            moment = START + (7 * week + user % 7) * DAY + 60 * user
            lines += [f"u{user},i{item},{moment}" for item in sorted(taken)]
    return "user,item,t\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def groceries(tmp_path_factory) -> tuple[Place, str]:
    """The place, trained, and what training said."""
    return Place.trained(tmp_path_factory.mktemp("groceries"), SETTINGS, MAPPING, orders=orders())


def test_training_says_once_that_lists_may_hold_what_was_seen(groceries):
    place, said = groceries
    (line,) = [line for line in said.splitlines() if "seen items" in line]
    assert line.startswith("lists may hold seen items: ") and len(line) <= 100
    manifest = json.loads(place.ok("runs", "show", "--format", "json"))
    found = manifest["metrics"]["repeats"]
    assert found["lists_may_hold_seen"] and 0.4 < found["share"] < 0.9 and found["people"] > 0.9
    assert {"repeat_consumption", "next_basket"} <= set(manifest["metrics"]["sources"])
    assert "session_neighbours" not in manifest["metrics"]["sources"]


def test_lists_hold_what_people_come_back_to_and_say_so(groceries):
    place, _ = groceries
    answer = json.loads(place.ok("recommend", "--user", "u3", "--format", "json"))
    had = {line.split(",")[1] for line in orders().splitlines() if line.startswith("u3,")}
    old = [item for item in answer["items"] if item["item_id"] in had]
    assert len(old) >= 4 and any(item["reason"] == "you come back to it" for item in old)
    left_out = ("--set", "pipeline.filters.seen=true")
    without = json.loads(place.ok("recommend", "--user", "u3", "--format", "json", *left_out))
    assert without["items"] and not {item["item_id"] for item in without["items"]} & had


def test_the_report_measures_new_items_repeats_and_both(groceries):
    place, _ = groceries
    report = json.loads(place.ok("evaluate", "--format", "json"))
    new, repeats, both = report["repeats"]
    assert [row["of"] for row in report["repeats"]] == ["new items", "repeats", "both"]
    assert new["relevant"] + repeats["relevant"] == both["relevant"] == report["truth"]["relevant"]
    systems = {s["name"]: s["metrics"] for s in report["systems"]}
    assert both["systems"]["funnel"]["ndcg@10"] == systems["funnel"]["ndcg@10"]
    assert repeats["systems"]["funnel"]["recall@10"]["value"] > 0.6
    assert systems["repeat_consumption"]["ndcg@10"]["value"] > 1.3 * systems["popularity"]["ndcg@10"]["value"]
    printed = place.ok("evaluate")
    assert "of new items, repeats and both" in printed and max(map(len, printed.splitlines())) <= 100
    alone = json.loads(place.ok("evaluate", "--format", "json", "--set", "pipeline.filters.seen=true"))
    assert alone["repeats"] == [] and alone["truth"]["relevant"] == new["relevant"]


def test_what_is_set_is_not_decided(groceries, tmp_path):
    place = groceries[0].copy(tmp_path / "place")
    trained = place.recsys("train", "--set", "pipeline.filters.seen=true", "--artifacts-dir", "other")
    assert trained.returncode == 0 and "are repeats" not in trained.stderr
    assert "source repeat_consumption left out: lists leave out what was seen" in trained.stderr
