"""Ranking metrics against hand-worked cases, scikit-learn and plain loops."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation import intervals
from recsys_cli.evaluation import ranking_metrics as rm


def ragged(*rows) -> Ragged:
    flat = [v for row in rows for v in sorted(row)]
    lengths = [len(row) for row in rows]
    return Ragged(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.array(flat, np.int32))


HAND = np.array([[3, 1, 4, 2], [7, 8, -1, -1], [5, 6, 7, 8]], np.int32)
HAND_RELEVANT = ragged([1, 2, 9], [8], [])


def test_hand_worked_lists():
    figures = rm.accuracy(HAND, HAND_RELEVANT, [2, 4])
    assert figures["recall@2"][:2] == pytest.approx([1 / 3, 1.0])
    assert figures["recall@4"][:2] == pytest.approx([2 / 3, 1.0])
    assert figures["precision@4"][:2] == pytest.approx([0.5, 0.25])
    assert figures["hit_rate@2"][:2] == pytest.approx([1.0, 1.0])
    assert figures["mrr@4"][:2] == pytest.approx([0.5, 0.5])
    dcg, ideal = 1 / math.log2(3) + 1 / math.log2(5), 1 + 1 / math.log2(3) + 1 / math.log2(4)
    assert figures["ndcg@4"][:2] == pytest.approx([dcg / ideal, 1 / math.log2(3)])
    assert figures["map@4"][:2] == pytest.approx([(1 / 2 + 2 / 4) / 3, 0.5])


def test_users_without_relevant_items_have_no_figure():
    assert all(np.isnan(v[2]) for v in rm.accuracy(HAND, HAND_RELEVANT, [1, 4]).values())


def test_a_list_shorter_than_k_is_not_rewarded():
    short = np.array([[8]], np.int32)
    figures = rm.accuracy(short, ragged([8]), [5])
    assert figures["precision@5"][0] == pytest.approx(0.2)
    assert figures["recall@5"][0] == figures["ndcg@5"][0] == figures["map@5"][0] == 1.0


@st.composite
def rankings(draw):
    n_items = draw(st.integers(2, 25))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    users = draw(st.integers(1, 6))
    lists = np.stack([rng.permutation(n_items) for _ in range(users)]).astype(np.int32)
    some = [np.flatnonzero(rng.random(n_items) < 0.3).tolist() for _ in range(users)]
    relevant = [row or [int(rng.integers(n_items))] for row in some]
    return lists, relevant, draw(st.integers(1, n_items)), n_items


@given(rankings())
@settings(max_examples=60, deadline=None)
def test_agrees_with_scikit_learn_and_with_loops(case):
    lists, relevant, k, n_items = case
    figures = rm.accuracy(lists, ragged(*relevant), [k])
    full = rm.accuracy(lists, ragged(*relevant), [n_items])
    for u, (row, truth) in enumerate(zip(lists.tolist(), relevant, strict=True)):
        gain = np.zeros(n_items)
        gain[truth] = 1
        score = np.zeros(n_items)
        score[row] = -np.arange(n_items)
        assert figures[f"ndcg@{k}"][u] == pytest.approx(ndcg_score([gain], [score], k=k))
        assert full[f"map@{n_items}"][u] == pytest.approx(average_precision_score(gain, score))
        found = [item in truth for item in row[:k]]
        assert figures[f"recall@{k}"][u] == pytest.approx(sum(found) / len(truth))
        assert figures[f"precision@{k}"][u] == pytest.approx(sum(found) / k)
        assert figures[f"hit_rate@{k}"][u] == float(any(found))
        first = found.index(True) + 1 if any(found) else math.inf
        assert figures[f"mrr@{k}"][u] == pytest.approx(1 / first)
        precisions = [sum(found[: i + 1]) / (i + 1) for i, f in enumerate(found) if f]
        assert figures[f"map@{k}"][u] == pytest.approx(sum(precisions) / min(k, len(truth)))


def test_graded_gains_by_hand():
    gain, ideal = np.array([[3.0, 0, 1], [0, 0, 0], [2, 0, 0]]), np.array([[3.0, 2, 1], [0, 0, 0], [2, 0, 0]])
    got = rm.graded_ndcg(gain, ideal, 3)
    assert got[0] == pytest.approx((3 + 1 / 2) / (3 + 2 / math.log2(3) + 1 / 2))
    assert np.isnan(got[1]) and got[2] == 1.0
    assert rm.graded_ndcg(gain, ideal, 1)[0] == 1.0
    assert rm.graded_ndcg(ideal, ideal, 2)[0] == 1.0
    # a list shorter than k misses what stands behind it
    assert rm.graded_ndcg(gain[:, :1], ideal, 10)[0] == pytest.approx(3 / (3 + 2 / math.log2(3) + 1 / 2))


@given(st.lists(st.floats(0, 5), min_size=2, max_size=12), st.integers(1, 12), st.randoms(use_true_random=False))
def test_graded_gains_agree_with_scikit_learn(gains, k, random):
    if not max(gains) > 1e-3:
        return
    order = list(range(len(gains)))
    random.shuffle(order)
    listed = np.array([[gains[i] for i in order]])
    got = rm.graded_ndcg(listed, np.sort(listed, axis=1)[:, ::-1], k)[0]
    assert got == pytest.approx(ndcg_score([gains], [[-order.index(i) for i in range(len(gains))]], k=k))


def test_coverage_counts_each_item_once_and_widens_with_lone_items():
    same = np.tile(np.array([[0, 1]], np.int32), (50, 1))
    assert rm.coverage(same, 2, 10) == pytest.approx((0.2, 0.2, 0.2))
    rng = np.random.default_rng(1)
    varied = np.stack([rng.choice(1000, 5, replace=False) for _ in range(50)]).astype(np.int32)
    share, low, high = rm.coverage(varied, 5, 1000)
    assert share == pytest.approx(len(np.unique(varied)) / 1000)
    assert low < share < high


def test_coverage_interval_is_the_jackknife():
    rng = np.random.default_rng(3)
    lists = np.stack([rng.choice(30, 4, replace=False) for _ in range(12)]).astype(np.int32)
    lists[0, 2:] = -1
    left_out = [len(np.setdiff1d(np.unique(np.delete(lists, u, 0)), [-1])) for u in range(12)]
    spread = math.sqrt(11 / 12 * np.var(left_out) * 12)
    share, low, high = rm.coverage(lists, 4, 100)
    assert (high - low) / 2 * 100 == pytest.approx(1.959964 * spread)
    assert share * 100 == len(np.setdiff1d(np.unique(lists), [-1]))


def test_intra_list_diversity_is_one_minus_the_mean_pairwise_cosine():
    rng = np.random.default_rng(0)
    sets = [sorted(rng.choice(9, rng.integers(0, 4), replace=False).tolist()) for _ in range(40)]
    lists = np.stack([rng.choice(40, 6, replace=False) for _ in range(8)]).astype(np.int32)
    lists[0, 4:] = -1
    got = rm.intra_list_diversity(lists, 6, ragged(*sets))
    for u, row in enumerate(lists):
        known = [set(sets[i]) for i in row if i >= 0 and sets[i]]
        cosines = [len(a & b) / math.sqrt(len(a) * len(b)) for a, b in combinations(known, 2)]
        assert got[u] == pytest.approx(1 - np.mean(cosines))


def test_diversity_needs_two_items_with_topics():
    topics = ragged([1], [], [2])
    lists = np.array([[0, 1], [1, -1], [0, 2]], np.int32)
    got = rm.intra_list_diversity(lists, 2, topics)
    assert np.isnan(got[:2]).all() and got[2] == 1.0


def test_novelty_and_popularity_by_hand():
    lists = np.array([[0, 1], [2, -1], [-1, -1]], np.int32)
    audience = np.array([8, 2, 0])
    got = rm.novelty(lists, 2, audience, 8)
    assert got[:2] == pytest.approx([(0 + 2) / 2, 3.0]) and np.isnan(got[2])
    place = rm.popularity_percentile(lists, 2, audience)
    assert place[:2] == pytest.approx([(2.5 / 3 + 1.5 / 3) / 2, 0.5 / 3]) and np.isnan(place[2])


def test_a_uniform_choice_of_what_is_open_is_of_middling_popularity():
    rng = np.random.default_rng(0)
    popularity = np.where(np.arange(400) < 100, rng.integers(0, 50, 400), np.nan)  # 300 are published later
    lists = np.stack([rng.permutation(100)[:20] for _ in range(500)]).astype(np.int32)
    assert rm.popularity_percentile(lists, 20, popularity).mean() == pytest.approx(0.5, abs=0.01)
    # an item without a place counts in no list
    assert rm.popularity_percentile(np.array([[0, 300]], np.int32), 2, np.append(np.zeros(1), popularity[1:])) == (
        pytest.approx(rm.popularity_percentile(np.array([[0]], np.int32), 1, np.append(np.zeros(1), popularity[1:])))
    )


def test_gini_of_equal_and_of_single_exposure():
    assert rm.gini(np.full(10, 4)) == pytest.approx(0)
    assert rm.gini(np.array([0] * 9 + [5])) == pytest.approx(0.9)
    assert rm.gini(np.array([1, 3])) == pytest.approx(0.25)


def test_distinct_authors_per_list():
    author = np.array([4, 4, 7, -1])
    lists = np.array([[0, 1, 2], [0, 1, -1], [3, -1, -1]], np.int32)
    got = rm.distinct_per_list(lists, 3, author)
    assert got[:2] == pytest.approx([2 / 3, 1 / 2]) and np.isnan(got[2])


def test_bootstrap_interval_matches_the_normal_one_and_is_seeded():
    rng = np.random.default_rng(5)
    values = rng.gamma(2, 1, (400, 2))
    values[::4, 1] = np.nan
    mean, low, high = intervals.bootstrap_means(values, resamples=2000, seed=3)
    assert mean == pytest.approx(np.nanmean(values, axis=0))
    error = np.nanstd(values, axis=0) / np.sqrt([400, 300])
    assert high - mean == pytest.approx(1.96 * error, rel=0.15)
    assert mean - low == pytest.approx(1.96 * error, rel=0.15)
    again = intervals.bootstrap_means(values, resamples=2000, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip((mean, low, high), again, strict=True))


def test_bootstrap_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(11)
    inside = 0
    for trial in range(200):
        _, low, high = intervals.bootstrap_means(rng.exponential(1.0, (80, 1)), resamples=300, seed=trial)
        inside += low[0] <= 1.0 <= high[0]
    assert 0.87 <= inside / 200 <= 0.99


def test_ratios_share_the_resamples_of_means_and_their_differences_are_paired():
    rng = np.random.default_rng(2)
    common = rng.normal(5, 2, 300)
    values = np.stack([common + rng.normal(0.3, 0.1, 300), common], axis=1)
    means = intervals.bootstrap_means(values, resamples=400, seed=4)
    ratios = intervals.bootstrap_ratios(values, np.ones_like(values), [(0, 1)], resamples=400, seed=4)
    assert all(a[:2] == pytest.approx(b, rel=1e-5) for a, b in zip(ratios, means, strict=True))
    value, low, high = (side[2] for side in ratios)
    assert value == pytest.approx(values[:, 0].mean() - values[:, 1].mean())
    assert 0.27 < low < value < high < 0.33 and ratios[2][0] - ratios[1][0] > 0.3
    below = np.stack([values[:, 0], np.zeros(300)], axis=1)
    nothing = intervals.bootstrap_ratios(values, below, [(0, 1)], resamples=100)
    assert np.isnan([side[1:] for side in nothing]).all() and np.isfinite(nothing[0][0])


def test_bootstrap_of_one_user_has_no_interval():
    mean, low, high = intervals.bootstrap_means(np.array([[0.5, np.nan]]))
    assert mean[0] == 0.5 and np.isnan(mean[1]) and np.isnan(low).all() and np.isnan(high).all()


@pytest.mark.parametrize("digits", [6, 0], ids=["distinct scores", "ties"])
def test_auc_interval_is_that_of_resampled_users_by_scikit_learn(digits):
    rng = np.random.default_rng(2)
    user = rng.integers(0, 40, 500) * 7
    label = rng.random(500) < 0.2
    score = np.round(rng.normal(label, 1), digits)
    weights = np.concatenate(list(intervals.resample_counts(40, 60, 7, 5)))
    aucs = [roc_auc_score(label, score, sample_weight=row[user // 7]) for row in weights]
    got = intervals.bootstrap_auc(label, score, user, resamples=60, seed=5)
    assert got == pytest.approx(np.quantile(aucs, [0.025, 0.975]))


def test_auc_interval_is_wider_when_rows_of_a_user_move_together():
    rng = np.random.default_rng(9)
    user = np.repeat(np.arange(100), 20)
    label = (rng.random(2000) < 0.3) | (np.repeat(rng.random(100), 20) < 0.1)
    score = label + rng.normal(0, 1, 2000) + np.repeat(rng.normal(0, 1, 100), 20)
    by_user = intervals.bootstrap_auc(label, score, user, seed=1)
    by_row = intervals.bootstrap_auc(label, score, np.arange(2000), seed=1)
    auc = roc_auc_score(label, score)
    assert by_user[0] < auc < by_user[1] and by_row[0] < auc < by_row[1]
    assert by_user[1] - by_user[0] > by_row[1] - by_row[0]


def test_auc_interval_is_none_where_one_user_holds_all_positives():
    label = np.array([True, True, False, False, False])
    assert np.isnan(intervals.bootstrap_auc(label, np.arange(5.0), np.array([1, 1, 2, 3, 4]))).all()
