"""Whole analyses on planted winners, losers, ties, broken splits, peeking, guardrails, segments and days."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cli.experiments.analysis import Evidence, analyse
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.daily import DailyOutcomes, information_at, novelty, weekdays
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.segments import Segment

SOLD = MetricConfig(name="sold", numerator="sold")
HIDDEN = MetricConfig(name="hidden", numerator="hidden", goal="down")


def shop(seed: int, *lifts: float, n: int = 3000, hide: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Users dealt evenly to a control and one variant a lift."""
    rng = np.random.default_rng(seed)
    arm = rng.permutation(np.arange(n) % (1 + len(lifts)))
    factor = 1 + np.array([0.0, *lifts])[arm]
    sold, hidden = rng.gamma(2, 1, n) * factor, rng.poisson(1 + hide * (arm > 0))
    return {"sold": sold, "hidden": hidden.astype(float), "before": rng.gamma(2, 1, n)}, arm


def config(**more) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "e", "metrics": (SOLD, HIDDEN)} | more)


@pytest.mark.parametrize(
    ("lift", "outcome", "words"),
    [
        (0.2, "ship", "Treatment is better: sold +"),
        (-0.2, "roll_back", "Treatment is worse: sold -"),
        (0.0, "no_difference", "No difference in sold"),
    ],
)
def test_winners_losers_and_ties_are_told(lift, outcome, words):
    users, arm = shop(0, lift)
    found = analyse(users, arm, config())
    assert found["decision"]["outcome"] == outcome and found["verdict"].startswith(words)
    assert found["decision"]["variant"] == (None if outcome == "no_difference" else "treatment")


def test_a_broken_split_voids_everything_first():
    users, arm = shop(2, 0.3)
    keep = (arm == 0) | (np.arange(len(arm)) % 4 > 0)
    found = analyse({c: v[keep] for c, v in users.items()}, arm[keep], config())
    assert found["decision"]["outcome"] == "invalid" and "users came out as" in found["verdict"]


def test_arms_that_differed_before_void_everything():
    users, arm = shop(3, 0.3)
    users["before"] = users["before"] * (1 + 0.3 * arm)
    metric = MetricConfig(name="sold", numerator="sold", covariate="before")
    found = analyse(users, arm, config(metrics=(metric,)))
    assert found["decision"]["outcome"] == "invalid" and "before differed" in found["verdict"]


def test_a_guardrail_rolls_back_what_would_have_shipped():
    users, arm = shop(4, 0.2, hide=0.5)
    assert analyse(users, arm, config())["decision"]["outcome"] == "ship"
    found = analyse(users, arm, config(guardrails={"hidden": 0.1}))
    assert found["decision"]["outcome"] == "roll_back" and "guardrail beyond 10.0%: hidden +" in found["verdict"]
    assert analyse(users, arm, config(guardrails={"hidden": 0.9}))["decision"]["outcome"] == "ship"


def test_less_than_what_is_worth_it_is_not_shipped():
    users, arm = shop(5, 0.1, n=9000)
    assert analyse(users, arm, config(practical_effect=0.05))["decision"]["outcome"] == "ship"
    found = analyse(users, arm, config(practical_effect=0.3))
    assert found["decision"]["outcome"] == "no_difference" and "practical_effect" in found["verdict"]


def test_of_several_variants_the_best_is_shipped_and_chances_are_corrected():
    users, arm = shop(6, 0.05, 0.3)
    three = config(variants={"plain": {}, "bold": {}, "bolder": {}}, metrics=(SOLD,))
    found = analyse(users, arm, three)
    assert found["decision"] == {"outcome": "ship", "variant": "bolder", "because": found["decision"]["because"]}
    assert found["verdict"].startswith("Bolder is better") and set(found["users"]) == {"plain", "bold", "bolder"}
    best = {b["variant"]: b["probability_best"] for b in found["beliefs"]}
    assert best["bolder"] > 0.99 and sum(best.values()) == pytest.approx(1)
    assert all(row["p_adjusted"] >= row["p_value"] for row in found["metrics"])


def test_false_findings_among_ten_variants_are_as_rare_as_promised():
    many = config(variants={f"v{i}": {} for i in range(11)}, metrics=(SOLD,), min_users=10)
    found = sum(
        analyse(*shop(seed, *[0.0] * 10, n=1100), many)["decision"]["outcome"] in ("ship", "roll_back")
        for seed in range(60)
    )
    assert found <= 9


def by_days(seed: int, lift: float, days: int, a_day: int, fade: bool = False):
    rng = np.random.default_rng(seed)
    day, n = np.repeat(np.arange(1, days + 1), a_day), days * a_day
    arm = rng.integers(0, 2, n)
    effect = lift / np.where(fade, day, 1)
    sold = rng.gamma(2, 1, n) * (1 + effect * arm)
    return {"sold": sold}, arm, Evidence(daily=DailyOutcomes(np.arange(n), day, {"sold": sold}, day))


def test_a_fixed_length_is_not_decided_early_though_it_looks_significant():
    users, arm, evidence = by_days(1, 0.3, 4, 300)
    found = analyse(users, arm, config(metrics=(SOLD,), days=14), evidence)
    assert found["metrics"][0]["p_value"] < 0.001 and found["decision"]["outcome"] == "keep_running"
    assert found["verdict"].startswith("Keep running.")
    assert analyse(users, arm, config(metrics=(SOLD,), days=4), evidence)["decision"]["outcome"] == "ship"


@pytest.mark.parametrize("stop", ["always_valid", "group_sequential"])
def test_looking_every_day_may_decide_early(stop):
    users, arm, evidence = by_days(1, 0.3, 8, 300)
    found = analyse(users, arm, config(metrics=(SOLD,), days=14, stop=stop), evidence)
    assert found["decision"]["outcome"] == "ship" and len(found["effects_by_day"]) == 8
    for row in found["effects_by_day"]:
        assert row["always_low"] < row["low"] < row["value"] < row["high"] < row["always_high"]
    assert (np.diff([row["boundary"] for row in found["effects_by_day"]]) < 0).all()


def test_peeking_at_a_confidence_sequence_finds_nothing_where_nothing_is():
    peeked = allowed = 0
    setting = config(metrics=(SOLD,), days=20, stop="always_valid")
    for seed in range(50):
        users, arm, evidence = by_days(seed, 0.0, 20, 120)
        rows = analyse(users, arm, setting, evidence)["effects_by_day"]
        peeked += any(row["p_value"] < 0.05 for row in rows)
        allowed += any(row["always_p_value"] < 0.05 for row in rows)
    assert peeked > 7 and allowed <= 5


def test_a_fading_effect_is_a_novelty_and_a_steady_one_is_not():
    _, arm, evidence = by_days(3, 0.8, 12, 800, fade=True)
    from recsys_cli.experiments.daily import follow

    setting = config(metrics=(SOLD,), days=12)
    fading = novelty(follow(SOLD, evidence.daily, {}, arm, 1, setting))
    assert fading["p_value"] < 0.001 and fading["slope_per_e_fold"] < 0
    _, arm, evidence = by_days(3, 0.2, 12, 800)
    rows = follow(SOLD, evidence.daily, {}, arm, 1, setting)
    assert novelty(rows)["p_value"] > 0.01 and novelty(rows[:3]) is None and weekdays(rows, 0) is None


def test_effects_that_differ_by_weekday_are_seen():
    rng = np.random.default_rng(0)
    day, n = np.repeat(np.arange(1, 22), 400), 21 * 400
    arm = rng.integers(0, 2, n)
    sold = rng.gamma(2, 1, n) * (1 + 0.5 * arm * ((day - 1) % 7 >= 5))
    evidence = Evidence(daily=DailyOutcomes(np.arange(n), day, {"sold": sold}, day), first_weekday=0)
    found = analyse({"sold": sold}, arm, config(metrics=(SOLD,), days=21), evidence)["weekdays"]["treatment"]
    assert found["p_value"] < 0.001 and found["effects"]["Sunday"] > 0.3 > found["effects"]["Monday"]


def test_effects_of_segments_are_told_apart_and_drawn_together():
    users, arm = shop(8, 0.0, n=6000)
    code = np.arange(6000) % 3
    users["sold"] = users["sold"] * (1 + 0.5 * arm * (code == 2))
    groups = {"country": Segment(("de", "fr", "it"), code)}
    (found,) = analyse(users, arm, config(metrics=(SOLD,)), Evidence(segments=groups))["segments"]
    rows = {row["segment"]: row for row in found["segments"]}
    assert found["p_value"] < 0.001 and rows["it"]["low"] > 0.3 and abs(rows["de"]["value"]) < 0.15
    assert rows["de"]["value"] < rows["de"]["shrunk"] or rows["fr"]["value"] < rows["fr"]["shrunk"]
    for row in rows.values():
        assert row["shrunk_high"] - row["shrunk_low"] <= row["high"] - row["low"] + 1e-9


def checks_of(found: dict) -> dict[str, dict]:
    return {c["check"]: c for c in found["checks"]}


def test_one_user_who_decides_all_is_told():
    users, arm = shop(5, 0.15)
    assert checks_of(analyse(users, arm, config(metrics=(SOLD,))))["outliers"]["passed"]
    users["sold"][np.flatnonzero(arm == 0)[0]] += 2000.0
    found = checks_of(analyse(users, arm, config(metrics=(SOLD,))))["outliers"]
    assert not found["passed"] and not found["voids"] and "decide the outcome of treatment" in found["told"]


def test_a_covariate_that_one_variant_lacks_voids_everything():
    users, arm = shop(10, 0.0)
    lacking = (arm == 1) & (np.arange(len(arm)) % 10 == 0)
    found = analyse(users, arm, config(), Evidence(unknown={"before": lacking}))
    assert found["decision"]["outcome"] == "invalid" and "before is unknown of control 0.00%" in found["verdict"]
    even = np.arange(len(arm)) % 10 == 0
    assert checks_of(analyse(users, arm, config(), Evidence(unknown={"before": even})))["missing data"]["passed"]


def test_random_splits_of_the_same_users_find_as_little_as_alpha_says():
    users, arm = shop(11, 0.5, n=600)
    found = checks_of(analyse(users, arm, config(metrics=(SOLD,)), Evidence(aa=200)))["A/A"]
    assert found["passed"] and "of 200 random splits" in found["told"]


def test_shares_of_ramps_are_shares_of_the_information():
    setting = config(days=4, ramp={1: 0.1, 3: 1.0})
    assert information_at(setting, 2) == pytest.approx(0.2 / 2.2) and information_at(setting, 4) == 1
    assert information_at(config(days=4), 1) == 0.25


def test_clusters_are_units_whose_users_are_counted():
    rng = np.random.default_rng(0)
    size, arm = rng.integers(5, 40, 300).astype(float), np.arange(300) % 2
    sold = rng.normal(2, 0.3, 300) * size * (1 + 0.1 * arm)
    found = analyse({"sold": sold, "units": size}, arm, config(metrics=(SOLD,), unit="cluster"))
    assert found["unit"] == "cluster" and found["metrics"][0]["control"] == pytest.approx(
        sold[arm == 0].sum() / size[arm == 0].sum()
    )
    assert found["decision"]["outcome"] == "ship"
