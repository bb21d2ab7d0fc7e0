"""What `evaluate` says first: who wins, by how much, and what stands beside it."""

import pytest

from recsys_cli.evaluation.summary import leading, outcome, verdict


def figure(value, low=None, high=None):
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def system(name, kind, ndcg):
    metrics = {"ndcg@10": figure(ndcg), "diversity@10": figure(float("nan")), "coverage@10": figure(0.2)}
    return {"name": name, "kind": kind, "metrics": metrics | {"authors@10": figure(0.9)}}


def report(less):
    systems = [
        system("funnel", "pipeline", 0.2), system("before re-ranking", "pipeline", 0.25),
        system("sources alone", "pipeline", 0.1), system("popularity", "baseline", 0.1),
        system("random", "baseline", 0.01), system("a", "source", 0.05), system("b", "source", 0.22),
        system("c", "source", 0.15), system("d", "source", 0.18), system("e", "source", float("nan")),
    ]
    against = [
        {"role": role, "against": name, "metrics": {"ndcg@10": d}}
        for (role, name), d in zip(
            (("best source", "b"), ("popularity", "popularity"), ("before re-ranking", "before re-ranking")), less,
            strict=True,
        )
    ]
    return {"k": [5, 10], "slate_size": 10, "systems": systems, "against": against}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.02, "beats"), (-0.02, -0.01, "loses to"), (-0.01, 0.01, "ties with"),
        (None, None, "cannot be told from"),
    ],
)
def test_an_interval_decides_who_wins(low, high, words):
    assert outcome({"value": 0.0, "low": low, "high": high}) == words
    nan = float("nan")
    assert outcome({"value": 0.1, "low": nan, "high": nan}) == "cannot be told from"


def test_the_verdict_says_in_words_where_the_list_loses_and_what_re_ranking_costs():
    first, second, third = verdict(
        report([figure(-0.02, -0.03, -0.01), figure(0.1, 0.08, 0.12), figure(-0.05, -0.06, -0.04)])
    )
    assert first.startswith("The list loses to its best source, b: NDCG@10 0.200 against 0.220, -0.020 (-0.030")
    assert second.startswith("The list beats popularity: NDCG@10 0.200 against 0.100, +0.100")
    assert "NDCG@10 -0.050 (-0.060 to -0.040)" in third and "coverage +0.000" in third and "topic" not in third


def test_the_summary_shows_the_best_sources_between_the_pipeline_and_the_baselines():
    names = [s["name"] for s in leading(report([figure(0.0)] * 3))]
    assert names == ["funnel", "before re-ranking", "sources alone", "b", "d", "c", "popularity", "random"]


def test_where_nothing_is_to_be_found_only_what_would_help_is_named():
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.evaluation.period import _what_helps

    counts = {"interactions": 11, "repeated": 11, "seen_before": 0, "not_yet_published": 0}
    assert "nothing that they did not know" in _what_helps(counts, EvaluationConfig(), seen=True)
    counts |= {"repeated": 4, "seen_before": 7}
    both = _what_helps(counts, EvaluationConfig(), seen=True)
    assert "evaluation.truths to all" in both and "filters.seen to false" in both
    # what is set already is not named again
    told = _what_helps(counts, EvaluationConfig(truths="all"), seen=False)
    assert "truths" not in told and "filters.seen" not in told and "windows.test_share" in told
