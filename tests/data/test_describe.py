"""What `recsys data describe` says is true of the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.describe.profile import describe_dataset, distribution, rows_of, tail_exponent
from recsys_cli.data.writer import write_dataset

HOUR, DAY = 3_600_000_000, 86_400_000_000
MONDAY = 1_709_510_400_000_000
"""2024-03-04T00:00Z"""


def _power_law(alpha: float, xmin: int, n: int, seed: int) -> np.ndarray:
    """Discrete power law by the generator of Clauset et al. 2009, appendix D."""
    u = np.random.default_rng(seed).random(n)
    return np.floor((xmin - 0.5) * (1 - u) ** (-1 / (alpha - 1)) + 0.5).astype(np.int64)


@pytest.mark.parametrize(("alpha", "xmin"), [(2.2, 1), (2.5, 6), (3.1, 10)])
def test_the_tail_exponent_of_a_power_law_is_recovered(alpha, xmin):
    counts = _power_law(alpha, xmin, 20_000, seed=3)
    fit = tail_exponent(counts)
    assert abs(fit["alpha"] - alpha) < max(4 * fit["standard_error"], 0.02 * alpha)
    assert fit["ks"] < 0.02 and fit["n"] == (counts >= fit["xmin"]).sum()


def test_the_tail_is_found_above_a_body_that_is_no_power_law():
    rng = np.random.default_rng(1)
    counts = np.concatenate([rng.integers(1, 20, 20_000), _power_law(2.5, 20, 10_000, seed=2)])
    fit = tail_exponent(counts)
    assert 15 <= fit["xmin"] <= 40 and abs(fit["alpha"] - 2.5) < 0.1


def test_the_fit_is_the_formula_by_hand():
    counts = np.repeat([1, 2, 4, 8], [40, 20, 10, 5])
    fit = tail_exponent(counts, least=75)
    logs = 40 * np.log(2) + 20 * np.log(4) + 10 * np.log(8) + 5 * np.log(16)
    assert fit["xmin"] == 1 and fit["alpha"] == pytest.approx(1 + 75 / logs)
    assert fit["standard_error"] == pytest.approx((75 / logs) / np.sqrt(75))


def test_no_tail_is_claimed_where_there_are_too_few_values_or_none_spread():
    assert tail_exponent(np.array([1, 5, 100])) is None
    assert tail_exponent(np.full(500, 7)) is None
    assert tail_exponent(np.zeros(10, int)) is None


def test_a_distribution_by_hand():
    out = distribution(np.array([0, 0, 1, 3]))
    assert (out["mean"], out["median"], out["max"], out["zero_share"]) == (1, 0.5, 3, 0.5)
    # Gini: mean absolute difference over twice the mean = (0·2 + 1·4 + 3·4 + 2·2) / 16 / 2
    assert out["gini"] == pytest.approx(20 / 16 / 2)
    assert out["top_percent_share"] == 0.75
    assert out["ccdf"] == {"x": [1, 3], "share": [0.5, 0.25]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two tastes: users 0–9 engage with jazz and follow each other's author, users 10–19 with chess."""
    users = np.arange(20)
    items = pl.DataFrame(
        {
            "item_id": [0, 1, 2, 3],
            "author_id": ["j", "j", "c", "c"],
            "topics": [["jazz"], ["jazz"], ["chess"], ["chess"]],
            "toxicity": [0.9, 0.1, None, 0.2],
            "created_at": pl.Series([MONDAY - DAY, MONDAY, MONDAY + HOUR, MONDAY + DAY]).cast(
                pl.Datetime("us", "UTC")
            ),
        }
    )
    times, who, what = [], [], []
    for u in users:
        # one session of three impressions a minute apart on Monday at 3 h, one of one on Tuesday at 5 h
        times += [MONDAY + 3 * HOUR + k * 60_000_000 for k in range(3)] + [MONDAY + DAY + 5 * HOUR]
        who += [u] * 4
        what += [0, 1, 2, 3]
    liked = [(u < 10) == (i < 2) for u, i in zip(who, what, strict=True)]
    impressions = pl.DataFrame(
        {
            "user_id": who,
            "item_id": what,
            "timestamp": pl.Series(times).cast(pl.Datetime("us", "UTC")),
            "like": liked,
            "surface": ["home"] * 60 + ["search"] * 20,
        }
    )
    follows = pl.DataFrame({"follower_id": users, "followee_id": ["j"] * 10 + ["c"] * 10})
    path = tmp_path_factory.mktemp("world") / "d"
    write_dataset(
        path,
        "world",
        {
            "users": pl.DataFrame({"user_id": users}),
            "items": items,
            "impressions": impressions,
            "follows": follows,
        },
        {"like": "positive"},
    )
    return describe_dataset(path)


def test_counts_and_rates(world):
    counts = world["counts"]
    assert (counts["users"], counts["items"], counts["authors"], counts["impressions"]) == (20, 4, 2, 80)
    assert counts["interactions"] == 40 and counts["density"] == 1 and counts["follows"] == 20
    assert world["actions"] == [{"action": "like", "polarity": "positive", "count": 40, "rate": 0.5}]
    assert world["distributions"]["followers"]["max"] == 10
    assert world["categories"]["impressions by surface"] == {"home": 60, "search": 20}


def test_homophily_sees_that_people_follow_their_taste(world):
    h = world["homophily"]
    assert h["profiles_by"] == "topics" and h["pairs"] == 20
    assert h["follow_similarity"] == pytest.approx(1) and h["follow_similar_share"] == 1
    assert 0.1 < h["random_similar_share"] < 0.9
    assert h["random_similarity"] == pytest.approx(h["random_similar_share"])


def test_sessions_are_told_from_pauses_where_the_log_names_none(world):
    s = world["sessions"]
    assert s["count"] == 40 and s["per_active_user"] == 2
    assert (s["impressions"]["mean"], s["impressions"]["max"]) == (2, 3)
    assert s["minutes"]["max"] == 2
    assert s["gap_hours"]["median"] == pytest.approx(26 - 2 / 60)


def test_rhythm_by_hour_weekday_and_day(world):
    r = world["rhythm"]
    assert {h: n for h, n in enumerate(r["impressions_by_hour"]) if n} == {3: 60, 5: 20}
    assert r["impressions_by_weekday"] == [60, 20, 0, 0, 0, 0, 0]
    assert r["days"] == ["2024-03-04", "2024-03-05"]
    assert r["active_users_by_day"] == [20, 20] and r["new_items_by_day"] == [2, 1]
    assert r["interactions_by_day"] == [30, 10]


def test_safety_counts_items_and_what_was_shown(world):
    (label,) = world["safety"]
    assert label["items_known"] == 3 and label["items_above_half"] == pytest.approx(1 / 3)
    assert label["impressions_above_half"] == pytest.approx(1 / 3)


def test_sessions_of_the_log_are_used_where_it_names_them(tiny_dataset):
    s = describe_dataset(tiny_dataset)["sessions"]
    assert s["from"] == "log" and s["count"] == 480 and s["impressions"]["mean"] == 10


def test_a_dataset_without_time_has_no_rhythm(tmp_path):
    write_dataset(
        tmp_path / "d",
        "t",
        {
            "users": pl.DataFrame({"user_id": [1]}),
            "items": pl.DataFrame({"item_id": [1]}),
            "impressions": pl.DataFrame(
                {
                    "user_id": [1],
                    "item_id": [1],
                    "timestamp": pl.Series([0]).cast(pl.Datetime("us", "UTC")),
                    "like": [True],
                }
            ),
        },
        {"like": "positive"},
        has_time=False,
    )
    document = describe_dataset(tmp_path / "d")
    assert document["rhythm"] is None and document["sessions"] is None and document["counts"]["days"] is None
    assert not document["negatives_observed"] and rows_of(document)


def recsys(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    command = [sys.executable, "-m", "recsys_cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_prints_writes_json_and_draws(tiny_dataset, tmp_path):
    text = recsys("data", "describe", "--data-dir", tiny_dataset)
    assert "Homophily" in text and "impressions by hour" in text
    assert max(map(len, text.splitlines())) <= 100
    document = json.loads(recsys("data", "describe", "--data-dir", tiny_dataset, "--format", "json"))
    assert document["counts"]["impressions"] == 4800
    recsys("data", "describe", "--data-dir", tiny_dataset, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.count("<svg") > 8
    assert "http" not in page and "<script" not in page  # nothing is fetched
