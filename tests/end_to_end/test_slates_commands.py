"""`recsys evaluate --slates`, `--ablate`, `--segments`, `--growth` and `recsys compare` as processes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

CSV = {
    "a.csv": "user_id,item_id,rank\n1,7,1\n1,8,2\n2,7,1\n",
    "b.csv": "user_id,item_id,rank\n1,8,1\n1,7,2\n2,9,1\n",
    "truth.csv": "user_id,item_id\n1,8\n2,7\n",
    "people.csv": "user_id,age\n1,20\n2,40\n",
}


@pytest.fixture
def files(world):
    for name, text in CSV.items():
        (world.folder / name).write_text(text)
    return world


def test_files_of_another_system_need_no_model_and_no_dataset(files):
    arguments = ("evaluate", "--slates", "a.csv", "--truth", "truth.csv", "--data-dir", "nothing")
    document = json.loads(files.ok(*arguments, "-k", "1,2", "--format", "json"))
    assert document["k"] == [1, 2] and document["systems"][0]["name"] == "a"
    assert document["systems"][0]["metrics"]["mrr@2"]["value"] == pytest.approx(0.75)
    told = files.ok(*arguments, "--segments", "age", "--user-table", "people.csv", "-k", "2")
    assert "2 users with 2 relevant items" in told and "a by age, at 2" in told and "no verdict" in told
    assert max(map(len, told.splitlines())) <= 100


def test_two_files_are_compared_with_their_users_and_items(files):
    files.ok("compare", "a.csv", "new=b.csv", "--truth", "truth.csv", "--output", "c.json", "--html", "c.html")
    comparison = json.loads((files.folder / "c.json").read_text())["comparisons"][0]
    assert (comparison["first"], comparison["second"]) == ("a", "new")
    assert "2 of 2 users differ, too few to test" in comparison["sentence"]
    assert {row["user"]: row["change"] for row in comparison["users"]}["2"] == -1
    assert {row["item"]: row["change"] for row in comparison["items"]} == {"7": -1, "9": 1}
    assert "vegaEmbed" in (files.folder / "c.html").read_text()


def test_what_has_no_meaning_is_refused_in_words(files):
    assert "the lists" in files.refused(2, "evaluate", "--truth", "truth.csv")
    assert "no file gone.csv" in files.refused(4, "evaluate", "--slates", "gone.csv", "--truth", "truth.csv")
    assert "whole number above 0" in files.refused(2, "evaluate", "--slates", "a.csv", "-k", "0")
    assert "two slates are called 'a'" in files.refused(2, "evaluate", "--slates", "a.csv", "--slates", "a=b.csv")
    assert "are the same" in files.refused(2, "compare", "a.csv", "a.csv")
    told = files.refused(2, "evaluate", "--slates", "a.csv", "--truth", "truth.csv", "--segments", "age")
    assert "no attributes of users are known" in told


@pytest.mark.slow
def test_a_run_beside_others_has_the_figures_of_its_own_report(trained):
    """The figures of a run beside others are those of its own report."""
    document = json.loads(
        trained.ok("evaluate", "--segments", "activity", "--ablate", "heavy", "-k", "5,10", "--format", "json",
                   "--per-user", "people.parquet")
    )  # fmt: skip
    report = json.loads(trained.ok("evaluate", "-k", "5,10", "--format", "json"))
    ours = document["systems"][0]["metrics"]
    for metric, figure in report["systems"][0]["metrics"].items():
        if metric.partition("@")[0] in (
            "ndcg",
            "recall",
            "mrr",
            "diversity",
            "novelty",
            "popularity",
            "authors",
            "coverage",
        ):
            assert ours[metric]["value"] == pytest.approx(figure["value"]), metric
    assert document["systems"][1]["name"] == "without heavy"
    assert document["comparisons"][0]["overlap"]["value"] < 1
    per_user = pl.read_parquet(trained.folder / "people.parquet").filter(
        pl.col("system") == document["systems"][0]["name"]
    )
    assert per_user["ndcg@10"].mean() == pytest.approx(ours["ndcg@10"]["value"])
    assert sum(s["users"] for s in document["segments"][0]["segments"]) == document["users"]


@pytest.mark.slow
def test_where_positives_are_lost_adds_up_and_agrees_with_recall(trained):
    report = json.loads(trained.ok("evaluate", "-k", "10", "--growth", "--format", "json"))
    lost = {row["fate"]: row["value"] for row in report["lost"]}
    assert sum(lost.values()) == pytest.approx(1)
    assert lost["shown"] == pytest.approx(report["systems"][0]["metrics"]["recall@10"]["value"])
    assert 1 - lost["not proposed"] == pytest.approx(report["sourced"]["recall"]["value"], abs=1e-6)
    assert all(0 <= row["rank_biased_overlap"]["value"] <= 1 for row in report["overlap"])
    assert sum(row["relevant"] for row in report["ages"]) == report["truth"]["relevant"]
    growth = report["growth"]
    assert growth["known"][:3] == [0, 1, 3]
    funnel = [r["value"] for r in growth["rows"] if r["system"] == "funnel"]
    assert len(funnel) == len(growth["known"]) and np.isfinite(funnel).all()
    figures = report["impressions"]["views"][0]["actions"][0]
    assert 0 <= figures["brier"] <= 1 and 0 <= figures["grouped_auc"] <= 1 and figures["grouped_auc_users"] > 0


def test_runs_of_other_data_and_parts_that_are_not_there_are_refused(trained):
    told = trained.refused(2, "evaluate", "--ablate", "hevy")
    assert "did you mean 'heavy'" in told
    assert "no run" in trained.refused(5, "compare", "20200101-000000", "20200102-000000").lower()


@pytest.mark.slow
def test_a_source_planted_as_useless_earns_nothing_and_the_best_one_does(trained):
    """Beside the source of whom people follow and of what is popular stands one that repeats the latter's list."""
    from recsys_cli.config import resolve
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.slates.of_dataset import evaluate_on_dataset
    from recsys_cli.settings import Settings

    class Echo:
        """Takes the place of a source and says what another says; what it is asked about itself the source answers."""

        def __init__(self, inner, other):
            self.inner, self.other = inner, other

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def retrieve(self, state, users, k):
            return self.other.retrieve(state, users, k)

    settings = resolve(Settings, file=trained.folder / "tiny.yaml", layers=[]).config
    paths = {name: str(trained.folder / getattr(settings.paths, name)) for name in ("data", "artifacts")}
    settings = settings.model_copy(update={"paths": settings.paths.model_copy(update=paths)})
    engine = RecommendationEngine.load(paths["artifacts"], measured=True)
    held = engine.bundle.retrievers
    kept = {name: held[name] for name in ("in_network", "popularity")}
    planted = replace(engine.bundle, retrievers=kept | {"als": Echo(held["als"], held["popularity"])})
    # few candidates, so that one source alone cannot propose the whole of a small catalogue
    sourcing = engine.pipeline.sourcing.model_copy(update={"candidates": 60})
    engine = replace(engine, bundle=planted).with_pipeline(engine.pipeline.model_copy(update={"sourcing": sourcing}))
    report = evaluate_on_dataset({}, settings, engines={"whole": engine}, ablate=["sources"], k=[10])
    tests = {c["second"]: c["metrics"]["ndcg@10"] for c in report.document["comparisons"]}
    useless, best = tests["without als"], tests["without in_network"]
    assert useless["verdict"] in ("tie", "too few differ")
    assert useless["low"] != useless["low"] or useless["low"] <= 0 <= useless["high"]
    assert best["verdict"] == "lower" and best["high"] < 0
