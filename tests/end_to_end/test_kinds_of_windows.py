"""Data of other kinds than a log in time, from files to a report, in the windows that fit it."""

from __future__ import annotations

import hashlib
import json
import re

import numpy as np
import pytest
from place import Place

pytestmark = pytest.mark.slow

SETTINGS = (
    "retrieval:\n  two_tower: {enabled: false}\n  als: {dim: 8, epochs: 3}\n"
    "ranking:\n  heavy: {kind: shared_bottom, epochs: 2, hidden: [16]}\n  baseline: {enabled: false}\n"
    "  light: {measured_users: 0}\n"
    "evaluation: {resamples: 100, k: [5, 10, 20, 40]}\n"
)
MAPPING = (
    "name: pairs\nimpressions:\n  files: pairs.csv\n  columns: {user_id: user, item_id: item%s}\n"
    "  actions:\n    click: {value: true}\n"
)
DATE = re.compile(r"\b(19|20)\d\d-\d\d-\d\d")


def pairs(seed: int = 0) -> str:
    """Lines of user and item: 90 people of three tastes, each with 14 of the 40 items of theirs."""
    rng = np.random.default_rng(seed)
    lines = [
        f"u{user},i{40 * (user % 3) + item}" for user in range(90) for item in rng.permutation(40)[:14]
    ]
    return "user,item\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    out = Place(tmp_path_factory.mktemp("pairs"))
    (out.folder / "tiny.yaml").write_text(SETTINGS)
    (out.folder / "pairs.csv").write_text(pairs())
    (out.folder / "plain.yaml").write_text(MAPPING % "")
    (out.folder / "ordered.yaml").write_text(MAPPING % ", timestamp: {order: true}")
    out.ok("import-data", "plain.yaml", "--from", ".", "--to", "data/plain")
    out.ok("import-data", "ordered.yaml", "--from", ".", "--to", "data/ordered")
    return out


@pytest.fixture(scope="module")
def plain(place) -> tuple[str, dict, str]:
    """Messages of the training, the report, and the report as it is printed, of pairs without time or order."""
    where = ("--data-dir", "data/plain", "--artifacts-dir", "artifacts-plain")
    trained = place.recsys("train", *where)
    assert trained.returncode == 0, trained.stderr
    return trained.stderr, json.loads(place.ok("evaluate", *where, "--format", "json")), place.ok("evaluate", *where)


def test_pairs_without_time_are_drawn_from_each_user_and_nobody_speaks_of_dates(place, plain):
    messages, report, printed = plain
    assert "windows: user_random, since rows have neither time nor an order" in messages
    assert report["window"] == {"kind": "user_random", "start": None, "end": None, "rows": report["window"]["rows"]}
    assert report["users"] > 80 and not DATE.search(printed.replace(report["run"], ""))
    answer = place.ok("recommend", "--user", "u1", "--data-dir", "data/plain", "--artifacts-dir", "artifacts-plain")
    assert not DATE.search(answer) and "as of" not in answer
    where = ("--user", "u1", "--item", "i3", "--artifacts-dir", "artifacts-plain")
    assert not DATE.search(place.ok("features", "show", *where))
    assert "no time to count up to" in place.refused(
        2, "features", "show", *where, "--at", "2000-01-01", "--data-dir", "data/plain"
    )


def test_one_list_stands_behind_every_k(plain):
    _, report, _ = plain
    for system in report["systems"]:
        recalls = [system["metrics"][f"recall@{k}"]["value"] for k in report["k"]]
        assert recalls == sorted(recalls), system["name"]


def test_every_group_is_compared_with_popularity(plain):
    _, report, _ = plain
    systems = {s["name"]: s["metrics"]["ndcg@10"]["value"] for s in report["systems"]}
    assert sum(g["users"] for g in report["groups"] if g["group"] != "any history") == report["users"]
    total = sum(g["users"] * g["over_popularity"]["ndcg@10"]["value"] for g in report["groups"])
    assert total / report["users"] == pytest.approx(systems["funnel"] - systems["popularity"])


def test_described_and_validated_as_what_they_are(place):
    for kind, said in (("plain", "neither time nor order"), ("ordered", "no time, order only")):
        printed = place.ok("data", "describe", "--data-dir", f"data/{kind}")
        assert said in printed and not DATE.search(printed)
        place.ok("data", "validate", "--data-dir", f"data/{kind}")


def test_held_out_people_are_found_by_what_is_known_of_them(place):
    where = ("--data-dir", "data/ordered", "--artifacts-dir", "artifacts-people", "--set", "windows.split=users")
    trained = place.recsys("train", *where)
    assert trained.returncode == 0 and "windows: users: held-out people measure" in trained.stderr, trained.stderr
    report = json.loads(place.ok("evaluate", *where, "--format", "json"))
    # 18 of the 90, 11 of the 14 rows of each known and 3 to be found
    assert report["users"] == 18 and report["truth"]["relevant"] == 54
    assert [g["group"] for g in report["groups"]] == ["10–49 interactions"]
    recall = {s["name"]: s["metrics"]["recall@40"]["value"] for s in report["systems"]}
    # 29 items of their taste are open to them, which ALS can only tell from their histories
    assert recall["als"] > 0.9 and recall["popularity"] < 0.6


def test_rolling_cuts_are_each_trained_and_measured_and_nothing_is_published(place):
    timed = [f"{line},{1_600_000_000 + 60 * n}" for n, line in enumerate(sorted(pairs().split()[1:], key=hash_of))]
    (place.folder / "timed.csv").write_text("user,item,t\n" + "\n".join(timed) + "\n")
    mapping = (MAPPING % ", timestamp: {column: t, unit: s}").replace("pairs.csv", "timed.csv")
    (place.folder / "timed.yaml").write_text(mapping)
    place.ok("import-data", "timed.yaml", "--from", ".", "--to", "data/timed")
    where = ("--data-dir", "data/timed", "--artifacts-dir", "artifacts-rolling")
    report = json.loads(place.ok("evaluate", "--rolling", *where, "--set", "windows.cuts=2", "--format", "json"))
    first, second = (cut["window"] for cut in report["cuts"])
    assert first["end"] == second["start"] and first["rows"] == second["rows"] == 126
    for system in report["systems"]:
        ndcg = system["metrics"]["ndcg@10"]
        assert ndcg["mean"] == pytest.approx(np.mean(ndcg["each"])) and len(ndcg["each"]) == 2
    assert not list(place.folder.glob("artifacts-rolling/runs/*"))
    assert "leave out --run" in place.refused(2, "evaluate", "--rolling", "--run", "x", *where)


def hash_of(line: str) -> str:
    """A key that mixes the lines in the same way everywhere."""
    return hashlib.md5(line.encode()).hexdigest()


def test_order_without_time_is_cut_by_user(place):
    where = ("--data-dir", "data/ordered", "--artifacts-dir", "artifacts-ordered")
    trained = place.recsys("train", *where)
    assert "windows: last, since rows have an order but no time" in trained.stderr
    report = json.loads(place.ok("evaluate", "--retrievers", *where, "--format", "json"))
    assert report["window"]["kind"] == "last" and report["users"] == 90 and report["truth"]["relevant"] == 180
    assert "windows.split is time, and" in place.refused(3, "train", *where, "--set", "windows.split=time")
