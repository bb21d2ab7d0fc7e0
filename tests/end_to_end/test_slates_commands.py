"""`recsys evaluate --slates`, `--ablate`, `--segments`, `--growth` and `recsys compare` as processes."""

from __future__ import annotations

import json

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


def test_the_served_lists_of_a_run_are_measured_alike_from_files_and_by_the_run(trained):
    """What `recommend --all` writes, judged on the test window, is a slate file like any other."""
    document = json.loads(
        trained.ok("evaluate", "--segments", "activity", "--ablate", "diversity", "-k", "5,10", "--format", "json",
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
    assert document["systems"][1]["name"] == "without diversity"
    assert ours["diversity@10"]["value"] > document["systems"][1]["metrics"]["diversity@10"]["value"]
    per_user = pl.read_parquet(trained.folder / "people.parquet").filter(
        pl.col("system") == document["systems"][0]["name"]
    )
    assert per_user["ndcg@10"].mean() == pytest.approx(ours["ndcg@10"]["value"])
    assert sum(s["users"] for s in document["segments"][0]["segments"]) == document["users"]


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
    told = trained.refused(2, "evaluate", "--ablate", "diversty")
    assert "did you mean 'diversity'" in told
    assert "no run" in trained.refused(5, "compare", "20200101-000000", "20200102-000000").lower()
