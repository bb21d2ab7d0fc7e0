"""Policies judged on a world and a run of real processes: off-policy, interleaved, and over days."""

import functools
import json

import polars as pl
import pytest

SCENARIO = """
name: loop
days: 3
policies:
  configured: {}
  trending: {pipeline: {order: {known: trending, new: trending}}}
drift: {interests: 0.1}
creators: {discouraged: 1.0, days: 1}
shocks: [{kind: spam_wave, day: 2, days: 1, share: 0.5}]
"""


def answer(place, *arguments) -> dict:
    return json.loads(place.ok(*arguments, "--format", "json", "--quiet"))


@pytest.mark.slow
def test_a_run_is_a_policy_and_its_answers_change_with_its_settings(trained):
    (trained.folder / "run.yaml").write_text(
        "name: run\nlog: {reward: {click: 1, like: 2}}\npolicy: {kind: run, measured: true}\n"
    )
    whole = pl.read_parquet(trained.folder / "data/world/impressions.parquet").sort("timestamp")
    whole.tail(len(whole) // 10).write_parquet(trained.folder / "late.parquet")
    found = answer(trained, "off-policy", "run.yaml", "--log", "late.parquet")
    assert found["rows"] == len(whole) // 10 and found["figures"]["rows_without_overlap"] > 0.5
    assert any("say as much of this policy as" in text for text in found["warnings"])
    trending = answer(
        trained, "off-policy", "run.yaml", "--log", "late.parquet",
        "--set", "pipeline.order.known=trending", "--set", "pipeline.order.new=trending",
    )
    assert trending["estimates"] != found["estimates"]


@pytest.mark.slow
def test_people_prefer_the_configured_ranking_to_one_that_is_half_chance(trained):
    (trained.folder / "half.yaml").write_text(
        "name: half\ntreatment: {exploration: {enabled: true, epsilon: 1.0}}\ndays: 2\nmetrics: [ctr]\n"
    )
    found = answer(trained, "interleave", "half.yaml", "--no-against-ab")
    (pair,) = found["preferences"]
    assert pair["high"] < 0 and pair["p_value"] < 0.01
    assert set(found["credit"]) == {"control", "treatment"} and "ab_users_needed" not in pair


@pytest.mark.slow
def test_a_simulation_that_was_stopped_goes_on_as_if_it_never_had_been(trained):
    (trained.folder / "loop.yaml").write_text(SCENARIO)
    whole = answer(trained, "simulate", "loop.yaml", "--resume", "kept", "--html", "loop.html")
    kept = sorted((trained.folder / "kept").glob("*.npz"))
    assert len(kept) == 6
    for file in kept:
        if "-day-1" not in file.name:
            file.unlink()
    assert answer(trained, "simulate", "loop.yaml", "--resume", "kept") == whole
    assert {row["policy"] for row in whole["differences"]} == {"trending"}
    by_day = {(row["policy"], row["day"]): row for row in whole["daily"]}
    assert by_day["configured", 1]["users"] == by_day["trending", 1]["users"]
    assert sum(whole["kept_back"].values()) > 0
    page = (trained.folder / "loop.html").read_text()
    assert "Day by day" in page and "spam wave on day 2" in page and "<svg" in page


@pytest.mark.slow
def test_lives_are_equal_however_many_processes_serve(trained, monkeypatch):
    """Three shards, served by one process, by two, and by two of which one day was kept."""
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.simulation import run
    from recsys_cli.simulation.config import pipelines_of, read_scenario

    (trained.folder / "two.yaml").write_text(SCENARIO.replace("days: 3", "days: 2"))
    monkeypatch.setattr(run, "shards_of", lambda n_users: 3)
    config, artifacts = read_scenario(trained.folder / "two.yaml", None), trained.folder / "artifacts"
    engine = RecommendationEngine.load(artifacts, threads=1)
    pipelines = pipelines_of(config, engine.pipeline)
    dataset, kept = Dataset.open(trained.folder / "data/world"), trained.folder / "sharded"
    live = functools.partial(run.simulate_scenario, config, pipelines, engine, dataset, artifacts=artifacts)
    alone, together = live(processes=1), live(processes=2, resume=kept)
    assert json.dumps(alone) == json.dumps(together)
    for file in kept.glob("*-day-2.npz"):
        file.unlink()
    assert json.dumps(live(processes=2, resume=kept)) == json.dumps(alone)


@pytest.mark.slow
def test_a_shared_market_splits_the_people_and_an_impossible_scenario_is_refused(trained):
    (trained.folder / "shared.yaml").write_text(SCENARIO.replace("days: 3", "days: 2\nmarket: shared"))
    found = answer(trained, "simulate", "shared.yaml")
    users = {(r["policy"], r["day"]): r["users"] for r in found["daily"]}
    assert users["configured", 1] + users["trending", 1] <= found["users"]
    told = trained.refused(3, "simulate", "shared.yaml", "--days", "500")
    assert "publishes new items for 14" in told
