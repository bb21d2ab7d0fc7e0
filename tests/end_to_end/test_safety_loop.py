"""A classifier is trained from a file, taken into a run, acts on slates, and the audit tells."""

from __future__ import annotations

import json

import polars as pl
import pytest

QUICK = (
    "--set", "ranking.heavy.epochs=1", "--set", "retrieval.two_tower.enabled=false",
    "--set", "retrieval.als.enabled=false",
)
RULES = (
    "pipeline.safety.rules=[{task: brand_safety, above: 0.5, action: interstitial}, "
    "{task: author_brand_safety, above: 0.9, action: drop, unless_following: true}, "
    "{task: nsfw, above: 0.5, action: drop}]"
)


@pytest.fixture(scope="module")
def place(world, tmp_path_factory):
    """The tiny world with a classifier of its rude words, and a run trained after it."""
    place = world.copy(tmp_path_factory.mktemp("safety") / "place")
    items = pl.read_parquet(place.folder / "data" / "world" / "items.parquet").select("text")
    rude = pl.col("text").str.contains("idiot|stupid|pathetic|trash|losers|disgusting|clowns|worthless")
    items.with_columns(rude=rude).write_csv(place.folder / "labels.csv")
    place.ok("train-safety", "--task", "brand_safety", "--labels", "labels.csv", "--label-column", "rude")
    place.ok("train", "--quiet", *QUICK)
    return place


def test_the_classifier_is_kept_measured_and_listed(place):
    (row,) = json.loads(place.ok("safety", "models", "--format", "json"))
    assert (row["name"], row["of"], row["rows"]) == ("brand_safety", "texts", 1500)
    assert row["roc_auc"] > 0.8


def test_items_without_a_score_are_scored_and_the_manifest_says_by_whom(place):
    scored = json.loads(place.ok("runs", "show", "--format", "json"))["metrics"]["safety"]
    assert scored["brand_safety"]["model"] == 1500 and len(scored["brand_safety"]["version"]) == 12
    assert scored["nsfw"]["dataset"] == 1500 and scored["nsfw"]["model"] == 0


def test_rules_on_the_new_score_act_and_are_audited(place):
    (place.folder / "users.txt").write_text("\n".join(map(str, range(1, 41))))
    options = ("--users-file", "users.txt", "--set", RULES)
    answers = json.loads(place.ok("recommend", *options, "--format", "json"))
    items = [item for answer in answers for item in answer["items"]]
    assert all(len(answer["items"]) == 10 for answer in answers)
    assert all(item["safety"]["nsfw"] <= 0.5 for item in items)
    noticed = [item for item in items if item["interstitial"]]
    assert noticed and all(item["safety"]["brand_safety"] > 0.5 for item in noticed)
    assert {item["item_id"] for item in noticed} == {i["item_id"] for i in items if i["safety"]["brand_safety"] > 0.5}
    found = json.loads(place.ok("safety", "audit", "--since", "1h", "--format", "json"))
    actions = {row["action"] for row in found["counts"]}
    assert {"interstitial", "drop"} <= actions
    shown = [a for a in found["actions"] if a["action"] == "interstitial" and a["shown"]]
    assert len(shown) == len(noticed)
    assert not any(a["shown"] for a in found["actions"] if a["action"] == "drop")
    assert "(notice: brand_safety > 0.5)" in place.ok("recommend", *options, COLUMNS="200")
    out = place.ok("safety", "audit", COLUMNS="100")
    assert max(map(len, out.splitlines())) <= 100 and "nsfw > 0.5" in out


def test_a_rule_on_a_score_that_is_nowhere_is_refused(place):
    rule = "pipeline.safety.rules=[{task: brand_saftey, above: 0.5, action: drop}]"
    assert "did you mean 'brand_safety'" in place.refused(3, "recommend", "--user", "1", "--set", rule)


@pytest.mark.slow
def test_an_experiment_scores_the_items_that_arrive(place):
    (place.folder / "safe.yaml").write_text(
        "name: safe\ncontrol: {}\ntreatment:\n  safety: {rules: [{task: brand_safety, above: 0.5, action: drop}]}\n"
        "days: 2\n"
    )
    result = json.loads(place.ok("ab-test", "safe.yaml", "--format", "json"))
    assert "p_value" in json.dumps(result)


def test_bad_labels_end_with_the_code_for_data(place):
    (place.folder / "latin.csv").write_bytes("text,label\nschön,1\nb,0\n".encode("latin-1"))
    arguments = ("train-safety", "--task", "spam", "--label-column")
    assert "latin.csv line 2: not utf-8" in place.refused(4, *arguments, "label", "--labels", "latin.csv")
    assert "combined" in place.refused(2, "train-safety", "--task", "combined", "--labels", "one.csv")
