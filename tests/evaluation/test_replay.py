"""The replayed rate weighs what was shown by how rarely it was shown."""

import numpy as np
import pytest

from recsys_cli.data.log import Log
from recsys_cli.evaluation.intervals import bootstrap_ratios
from recsys_cli.off_policy_estimates.single import importance, self_normalised_ips
from recsys_cli.replay import replayed


def make_log(rows):
    user, item, propensity, click = zip(*rows, strict=True)
    return Log(
        user=np.array(user, np.int32), item=np.array(item, np.int32), time=np.arange(len(rows), dtype=np.int64),
        actions={"click": np.array(click, bool)}, positive_actions=("click",), negative_actions=(),
        propensity=np.array(propensity, np.float32),
    )


def replayed_rate(items, users, log, n_items, k):
    above, below = replayed(items, users, log, n_items, [k])[k]
    return tuple(float(v[0]) for v in bootstrap_ratios(above[:, None], below[:, None], resamples=100))


def test_a_row_counts_by_the_inverse_of_its_propensity():
    # listed and shown: item 1 (p 0.5, clicked), item 2 (p 0.1, not); item 9 was shown but is on no list
    log = make_log([(0, 1, 0.5, True), (0, 2, 0.1, False), (0, 9, 0.01, True), (3, 1, np.nan, True)])
    value, low, high = replayed_rate(
        np.array([[1, 2, 5], [1, -1, -1]], np.int32), np.array([0, 3], np.int32), log, 10, 3
    )
    assert value == pytest.approx(2 / (2 + 10))
    assert np.isnan([low, high]).all()  # one user has no interval


def test_items_beyond_k_do_not_count_and_nothing_matched_is_unknown():
    log = make_log([(0, 1, 0.5, True), (0, 2, 0.5, False)])
    lists, users = np.array([[1, 2]], np.int32), np.array([0], np.int32)
    assert replayed_rate(lists, users, log, 10, 1)[0] == 1.0
    assert replayed_rate(lists, users, log, 10, 2)[0] == 0.5
    assert np.isnan(replayed_rate(lists + 5, users, log, 10, 2)[0])


def test_uniform_logging_finds_the_better_list_that_a_biased_log_hides():
    rng = np.random.default_rng(0)
    n, chance = 4000, np.array([0.2, 0.6])  # item 1 is liked more, and shown a tenth as often
    shown = (rng.random(n) < 1 / 11).astype(np.int32)
    click = rng.random(n) < chance[shown]
    log = make_log([(u, i, (10 / 11, 1 / 11)[i], c) for u, (i, c) in enumerate(zip(shown, click, strict=True))])
    users = np.arange(n, dtype=np.int32)
    both = np.tile(np.array([0, 1], np.int32), (n, 1))
    value = replayed_rate(both, users, log, 2, 2)[0]
    assert value == pytest.approx(0.4, abs=0.05)
    assert click.mean() < 0.27


def test_the_replay_of_a_list_is_the_off_policy_estimate_of_the_policy_that_shows_it():
    rng = np.random.default_rng(3)
    n, n_items, users = 3000, 12, np.arange(40, dtype=np.int32)
    user, item = rng.integers(0, 40, n), rng.integers(0, n_items, n)
    propensity, click = rng.uniform(0.02, 1, n), rng.random(n) < 0.3
    log = make_log(list(zip(user, item, propensity, click, strict=True)))
    lists = np.array([rng.permutation(n_items)[:5] for _ in users], np.int32)
    shown = np.zeros((40, n_items))
    np.put_along_axis(shown, lists[:, :3], 1.0, axis=1)
    w = importance(shown[user, item], log.propensity)
    above, below = replayed(lists, users, log, n_items, [3])[3]
    assert above.sum() / below.sum() == pytest.approx(self_normalised_ips(w, click).estimate, rel=1e-12)
    by_hand = (click / log.propensity.astype(float))[shown[user, item] > 0]
    assert above.sum() == pytest.approx(by_hand.sum(), rel=1e-12)
