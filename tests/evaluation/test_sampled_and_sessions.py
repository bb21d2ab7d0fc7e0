"""Sampled metrics and their correction, and lists judged session by session."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import hypergeom

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError, UsageError
from recsys_cli.evaluation.sampled import (
    correction,
    drawn_ranks,
    full_ranks,
    of_rank,
    posterior_figures,
    rank_distribution,
    ranks_within,
)
from recsys_cli.evaluation.slates.evaluate import evaluate


def test_ranks_pass_over_other_relevant_items():
    items = np.array([[4, 7, 2, 9, -1]], np.int32)
    relevant = Ragged(np.array([0, 3]), np.array([2, 7, 30], np.int32))
    hit = relevant.contains(np.array([0]), items)
    rank = full_ranks(hit, items, relevant, 40, 0)
    # 4 stands above both; 9 behind them; 30 is somewhere among the 37 − 2 that the list does not hold
    assert rank[:2].tolist() == [2, 2] and 3 <= rank[2] <= 38
    within, drawn = ranks_within(hit, items, relevant)
    assert within.tolist() == [2, 2, 3] and drawn.tolist() == [2, 2, 2]


def test_the_last_place_is_shared_by_what_is_not_listed():
    items = np.full((4000, 2), -1, np.int32)
    items[:, 0] = 0
    relevant = Ragged(np.arange(4001), np.full(4000, 5, np.int32))
    rank = full_ranks(np.zeros((4000, 2), bool), items, relevant, 11, 3)
    assert np.bincount(rank, minlength=12)[2:12] == pytest.approx(np.full(10, 400), abs=80) and rank.min() == 2


@pytest.mark.parametrize("metric", ["recall", "ndcg", "mrr"])
def test_a_sample_of_everything_needs_no_correction(metric):
    ranks = np.arange(1, 42)
    assert correction(metric, 10, 40, 40, 1e-9) == pytest.approx(of_rank(metric, ranks, 10), abs=1e-5)
    everything = drawn_ranks(ranks, np.full(41, 40), 40, 0)
    assert (everything == ranks).all()


def test_the_correction_is_the_estimator_of_the_paper():
    wrong, drawn, k, gamma = 30, 6, 4, 0.05
    ranks = np.arange(1, wrong + 2)
    chance = hypergeom.pmf(np.arange(drawn + 1), wrong, (ranks - 1)[:, None], drawn)
    weight = np.log((ranks + 1) / ranks) / math.log(wrong + 2)
    wanted = np.where(ranks <= k, 1 / np.log2(ranks + 1), 0)

    def loss(of: np.ndarray) -> float:
        mean = chance @ of
        return float(weight @ ((mean - wanted) ** 2 + gamma * (chance @ of**2 - mean**2)))

    found = correction("ndcg", k, wrong, drawn, gamma)
    rng = np.random.default_rng(0)
    assert all(loss(found) < loss(found + 0.01 * rng.normal(size=drawn + 1)) for _ in range(200))


@pytest.mark.parametrize(("wrong", "drawn"), [(1000, 100), (10_000, 500)])
def test_corrected_figures_are_near_the_full_ones_where_sampled_are_far(wrong, drawn):
    rng = np.random.default_rng(1)
    near = 1 + (3 * rng.pareto(0.6, 20_000)).astype(np.int64)
    rank = np.where(rng.random(20_000) < 0.5, near, rng.integers(1, wrong + 2, 20_000)).clip(1, wrong + 1)
    sample = drawn_ranks(rank, np.full(20_000, wrong), drawn, 2)
    full, sampled = (of_rank("ndcg", r, 10).mean() for r in (rank, sample))
    corrected = correction("ndcg", 10, wrong, drawn)[sample - 1].mean()
    assert sampled > 1.3 * full and corrected == pytest.approx(full, rel=0.06)


@pytest.mark.parametrize(("wrong", "drawn"), [(1000, 100), (10_000, 500)])
def test_the_distribution_of_ranks_by_em_gives_the_full_figure_too(wrong, drawn):
    rng = np.random.default_rng(1)
    near = 1 + (3 * rng.pareto(0.6, 20_000)).astype(np.int64)
    rank = np.where(rng.random(20_000) < 0.5, near, rng.integers(1, wrong + 2, 20_000)).clip(1, wrong + 1)
    wrongs, drawns = np.full(20_000, wrong), np.full(20_000, drawn)
    sample = drawn_ranks(rank, wrongs, drawn, 2)
    share = rank_distribution(sample, drawns, wrongs)
    assert share.sum() == pytest.approx(1) and (share >= 0).all()
    figures = posterior_figures("ndcg", 10, share, wrong, drawn)[sample - 1]
    assert figures.mean() == pytest.approx(of_rank("ndcg", rank, 10).mean(), rel=0.06)
    assert ((figures >= 0) & (figures <= 1)).all(), "unlike the corrected ones they are figures that can be"


def test_a_sample_of_everything_tells_the_distribution_itself():
    rank = np.repeat([1, 2, 5], [6, 3, 1])
    share = rank_distribution(rank, np.full(10, 9), np.full(10, 9))
    assert share == pytest.approx([0.6, 0.3, 0, 0, 0.1, 0, 0, 0, 0, 0], abs=1e-6)
    assert posterior_figures("recall", 2, share, 9, 9)[[0, 1, 4]] == pytest.approx([1, 1, 0])


def slates_of(users: int, width: int, seed: int):
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(400)[:width] for _ in range(users)])
    slates = pl.DataFrame({"user_id": np.repeat(np.arange(users), width), "item_id": items.ravel()})
    truth = pl.DataFrame({"user_id": np.arange(users), "item_id": items[np.arange(users), rng.geometric(0.1, users)]})
    return slates, truth


def test_full_sampled_and_corrected_stand_beside_one_another():
    slates, truth = slates_of(3000, 400, 0)
    report = evaluate(slates, truth, ["ndcg@10"], negatives=100)
    figures = report.document["systems"][0]["metrics"]
    assert report["alone_ndcg@10"] == pytest.approx(report["ndcg@10"])  # one item to find a user
    assert report["sampled_ndcg@10"] > report["alone_ndcg@10"] + 0.1
    low, high = figures["corrected_ndcg@10"]["low"], figures["corrected_ndcg@10"]["high"]
    assert low < report["alone_ndcg@10"] < high
    assert report["em_ndcg@10"] == pytest.approx(report["alone_ndcg@10"], abs=0.05)
    with pytest.raises(UsageError, match="name one"):
        evaluate(slates, truth, negatives=10, sample_of=400)


def test_rankings_of_samples_tell_what_the_catalogue_would_have():
    slates, truth = slates_of(3000, 400, 0)
    rng = np.random.default_rng(3)
    wanted = dict(truth.iter_rows())
    kept = [item == wanted[user] or rng.random() < 100 / 399 for user, item in slates.iter_rows()]
    sample = slates.filter(pl.Series(kept))
    report = evaluate(sample, truth, ["recall@10"], sample_of=400)
    full = evaluate(slates, truth, ["recall@10"])["recall@10"]
    assert "alone_recall@10" not in report.document["systems"][0]["metrics"]
    assert report["sampled_recall@10"] == report["recall@10"] > full + 0.1
    assert report["corrected_recall@10"] == pytest.approx(full, abs=0.03)
    with pytest.raises(UsageError, match="longer than the 50 items"):
        evaluate(sample, truth, sample_of=50)


def test_sessions_by_hand():
    truth = pl.DataFrame({"user_id": [1, 1, 1, 2], "session_id": ["a", "a", "b", "c"], "item_id": [7, 8, 9, 7]})
    of_sessions = pl.DataFrame(
        {"user_id": [1, 1, 1, 2], "session_id": ["a", "b", "z", "c"], "item_id": [7, 8, 9, 8], "rank": [1, 1, 1, 1]}
    )
    report = evaluate(of_sessions, truth, ["recall@1", "hit_rate@1"], per_session=True)
    # user 1: half of session a and nothing of b; user 2: nothing
    assert report["recall@1"] == pytest.approx((0.5 + 0) / 2 / 2) and report["hit_rate@1"] == pytest.approx(0.25)
    assert report.document["users"] == 2 and report.document["sessions"] == 3
    assert report.document["systems"][0]["rows"]["users or sessions without anything to find"] == 1
    of_users = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [9, 7, 7]})
    report = evaluate(of_users, truth, ["recall@2", "popularity_lift@2"], per_session=True, history=truth)
    assert report["recall@2"] == pytest.approx(((0.5 + 1) / 2 + 1) / 2)
    assert report.per_user["recall@2"].to_list() == [0.75, 1.0]
    with pytest.raises(DataError, match="no column session_id"):
        evaluate(of_users, of_users, per_session=True)
