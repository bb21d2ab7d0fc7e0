"""Off-policy estimators: hand-worked values, and unbiasedness by the exact expectation over enumerable worlds."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.off_policy_estimates import diagnose, single, slates
from recsys_cli.off_policy_estimates.intervals import bootstrap, empirical_bernstein, slope, standard_error, sums
from recsys_cli.off_policy_estimates.learn import action_values, learned_policy
from recsys_cli.off_policy_estimates.reward_model import Foretold, cross_fitted, fit_rewards
from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable
from recsys_cli.off_policy_estimates.single import Contributions


def logged(action, reward, propensity, cell=None, position=None, unit=None) -> LoggedRows:
    n = len(action)
    zeros = np.zeros(n, np.int32)
    return LoggedRows(
        np.asarray(action, np.int32), np.asarray(reward, float), np.asarray(propensity, float),
        zeros if cell is None else np.asarray(cell, np.int32),
        zeros.astype(np.int16) if position is None else np.asarray(position, np.int16),
        np.arange(n) if unit is None else np.asarray(unit, np.int64),
    )


def test_estimates_of_three_rows_by_hand():
    w, r = np.array([2.0, 0.5, 4.0]), np.array([1.0, 0.0, 3.0])
    q = Foretold(logged=np.array([0.5, 0.5, 2.0]), of_policy=np.array([1.0, 1.0, 1.0]))
    assert single.ips(w, r).estimate == pytest.approx((2 + 0 + 12) / 3)
    assert single.clipped_ips(w, r, 2.5).estimate == pytest.approx((2 + 0 + 7.5) / 3)
    assert single.self_normalised_ips(w, r).estimate == pytest.approx(14 / 6.5)
    assert single.direct_method(q).estimate == 1
    # 1 + 2·0.5, 1 + 0.5·(−0.5), 1 + 4·1
    assert single.doubly_robust(w, r, q).estimate == pytest.approx((2 + 0.75 + 5) / 3)
    assert single.switch_doubly_robust(w, r, q, 3).estimate == pytest.approx((2 + 0.75 + 1) / 3)


def test_slate_estimates_of_one_slate_by_hand():
    ratio, reward = np.array([[2.0, 0.5]]), np.array([[1.0, 4.0]])
    assert slates.standard_ips(ratio, reward).estimate == 1 * 5
    assert slates.independent_ips(ratio, reward).estimate == 2 * 1 + 0.5 * 4
    assert slates.reward_interaction_ips(ratio, reward).estimate == 2 * 1 + 1 * 4
    assert slates.pseudo_inverse(ratio, reward).estimate == (1 + 1 - 0.5) * 5
    q, v = np.array([[3.0, 2.0]]), np.array([[4.0, 3.0]])
    # 2·(1−3) + 1·4  +  1·(4−2) + 2·3
    assert slates.cascade_doubly_robust(ratio, reward, q, v).estimate == 8


@pytest.mark.parametrize("seed", range(3))
def test_ips_and_doubly_robust_are_unbiased_whatever_the_model(seed):
    rng = np.random.default_rng(seed)
    mu, pi, mean, q = (rng.random((2, 4)) for _ in range(4))
    mu, pi = mu / mu.sum(1, keepdims=True), pi / pi.sum(1, keepdims=True)
    chance = np.array([0.3, 0.7])
    truth = (chance[:, None] * pi * mean).sum()
    x, a = (v.ravel() for v in np.indices((2, 4)))
    weight = chance[x] * mu[x, a]  # how probable each pair is in the log
    w = pi[x, a] / mu[x, a]
    foretold = Foretold(q[x, a], (pi * q).sum(1)[x])
    for parts in (single.ips(w, mean[x, a]), single.doubly_robust(w, mean[x, a], foretold)):
        assert weight @ parts.value == pytest.approx(truth, abs=1e-12)
    clipped = weight @ single.clipped_ips(w, mean[x, a], 1.0).value
    assert clipped < truth  # what clipping costs


def every_slate(m: int, places: int, repeats: bool):
    kind = itertools.product if repeats else itertools.permutations
    return np.array(list(kind(range(m), repeat=places) if repeats else kind(range(m), places)))


@pytest.mark.parametrize("seed", range(3))
def test_slate_estimators_are_unbiased_where_what_they_assume_holds(seed):
    rng = np.random.default_rng(seed)
    m, places = 3, 3
    items = every_slate(m, places, repeats=True)
    mu, pi = (p / p.sum(1, keepdims=True) for p in rng.random((2, places, m)) + 0.1)
    k = np.arange(places)
    chance, wanted = mu[k, items].prod(1), pi[k, items].prod(1)
    ratio = pi[k, items] / mu[k, items]
    own = rng.random((places, m))[k, items]
    cascade = own * (1 + np.cumsum(items, axis=1) / 10)  # looks at what stands above
    free = own * (1 + items.sum(1, keepdims=True) / 10)  # looks at the whole slate
    def expected(parts: Contributions) -> float:
        return float(chance @ parts.value)

    def truth(reward) -> float:
        return float(wanted @ reward.sum(1))

    for reward in (own, cascade, free):
        assert expected(slates.standard_ips(ratio, reward)) == pytest.approx(truth(reward))
    for reward in (own, cascade):
        assert expected(slates.reward_interaction_ips(ratio, reward)) == pytest.approx(truth(reward))
    assert expected(slates.independent_ips(ratio, own)) == pytest.approx(truth(own))
    assert expected(slates.pseudo_inverse(ratio, own)) == pytest.approx(truth(own))
    for estimator in (slates.independent_ips, slates.pseudo_inverse):
        assert expected(estimator(ratio, free)) != pytest.approx(truth(free), rel=1e-4)
    # a model that looks at nothing below its place corrects itself
    table, q = {}, np.zeros(items.shape)
    for s, row in enumerate(items):
        for j in range(places):
            q[s, j] = table.setdefault((j, *row[: j + 1]), rng.random())
    v = np.array([[sum(pi[j, b] * table[(j, *row[:j], b)] for b in range(m)) for j in range(places)] for row in items])
    assert expected(slates.cascade_doubly_robust(ratio, cascade, q, v)) == pytest.approx(truth(cascade))


def test_the_pseudo_inverse_holds_for_logs_without_repeats_where_ratios_alone_do_not():
    rng = np.random.default_rng(0)
    m, places = 4, 2
    items = every_slate(m, places, repeats=False)
    worth = rng.random((places, m))
    reward = worth[np.arange(places), items]
    # the judged policy: two rankings, one as probable as 0.7
    marginal = np.zeros((places, m))
    for p, ranking in ((0.7, (2, 0)), (0.3, (1, 2))):
        marginal[np.arange(places), ranking] += p
    truth = (marginal * worth).sum()
    cell = np.broadcast_to(np.arange(places), items.shape)
    gamma = slates.uniform_without_repeats(places, m)
    ones = (items[:, :, None] == np.arange(m)).reshape(len(items), -1).astype(float)
    np.testing.assert_allclose(gamma, ones.T @ ones / len(items), atol=1e-12)
    weight = slates.pseudo_inverse_weights(gamma, marginal, np.arange(places), cell, items)
    assert slates.pseudo_inverse(None, reward, weight).estimate == pytest.approx(truth)
    ratio = marginal[np.arange(places), items] * m
    assert slates.pseudo_inverse(ratio, reward).estimate != pytest.approx(truth, rel=1e-3)


def test_the_pseudo_inverse_varies_less_than_the_product_of_ratios():
    rng = np.random.default_rng(1)
    n, m, places = 20_000, 5, 4
    pi = rng.dirichlet(np.ones(m), places)
    items = rng.integers(0, m, (n, places))
    ratio = pi[np.arange(places), items] * m
    reward = (rng.random((n, places)) < 0.1 + 0.1 * items).astype(float)
    spread = [f(ratio, reward).value.std() for f in (slates.pseudo_inverse, slates.standard_ips)]
    assert spread[0] < 0.7 * spread[1]


def test_a_reward_model_shrinks_to_coarser_means_and_is_exact_with_many_rows():
    rng = np.random.default_rng(0)
    mean = rng.random((3, 2))
    action, position = rng.integers(0, 3, 60_000), rng.integers(0, 2, 60_000)
    rows = logged(action, mean[action, position], np.ones(60_000) / 3, cell=position, position=position)
    model = fit_rewards(rows, 4, 2, by_cell=False)
    np.testing.assert_allclose(model.by_position[:3], mean, atol=2e-3)
    # an action without rows is worth what all are at that position
    np.testing.assert_allclose(model.by_position[3], mean.mean(0), atol=2e-2)


def test_a_cross_fitted_model_never_saw_the_units_it_is_asked_about():
    # every unit has an item of its own that it alone took: nothing of it may be known
    n = 300
    rows = logged(np.arange(n), np.ones(n), np.full(n, 1 / n))
    policy = PolicyTable.dense(np.full((1, n), 1 / n), np.zeros(1, np.int16))
    rows.reward[::2] = 0
    found = cross_fitted(rows, policy, 3)
    assert np.ptp(found.logged) < 0.2 and abs(np.corrcoef(found.logged, rows.reward)[0, 1]) < 0.5


def test_a_sparse_policy_answers_as_the_dense_one():
    rng = np.random.default_rng(0)
    p = rng.random((5, 7)) * (rng.random((5, 7)) < 0.5)
    table = PolicyTable.dense(p, np.zeros(5, np.int16))
    cell, action = (v.ravel() for v in np.indices(p.shape))
    np.testing.assert_array_equal(table.of(cell, action), p.ravel())
    values = rng.random((5, 7))
    np.testing.assert_allclose(table.expected(values[table.cell, table.action]), (p * values).sum(1))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50))
def test_effective_rows_are_at_most_the_rows_and_equal_where_weights_are(weights):
    w = np.array(weights)
    assert 0.99 <= diagnose.effective_sample_size(w) <= len(w) + 1e-6
    assert diagnose.effective_sample_size(np.full(len(w), w[0])) == pytest.approx(len(w))


def test_support_that_the_log_lacks_is_told_as_a_share_of_what_the_policy_shows():
    rows = logged([0, 0, 1, 1], np.zeros(4), np.full(4, 0.5))
    policy = PolicyTable.dense(np.array([[0.25, 0.5, 0.25]]), np.zeros(1, np.int16))
    assert diagnose.unsupported(rows, policy) == pytest.approx(0.25)
    found = diagnose.figures(rows, policy.of(rows.cell, rows.action) / rows.propensity, policy)
    assert any("never shown" in text for text in diagnose.warnings_of(found, 4, 0.1))


def test_slope_stops_where_an_interval_no_longer_meets_the_others():
    assert slope([5.0, 4.0, 1.0, 0.9], [3.0, 1.0, 0.5, 0.1]) == 1
    assert slope([5.0, 5.1], [3.0, 0.1]) == 1


def test_the_standard_error_of_a_mean_is_the_textbooks():
    x = np.random.default_rng(0).random(400)
    parts = sums(Contributions(x, np.ones(400)), np.arange(400), 400)
    assert standard_error(parts) == pytest.approx(x.std(ddof=1) / 20)


def test_intervals_over_whole_units_are_wider_where_rows_of_a_unit_are_alike():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(200), 10)
    x = rng.random(200)[user]
    ones = np.ones(2000)
    by_user, by_row = (sums(Contributions(x, ones), g, n) for g, n in ((user, 200), (np.arange(2000), 2000)))
    assert bootstrap(by_user, 0.05, 0).width > 2.5 * bootstrap(by_row, 0.05, 0).width


def test_bernsteins_interval_holds_the_bootstraps():
    rng = np.random.default_rng(0)
    x = rng.exponential(size=500)
    parts = sums(Contributions(x, np.ones(500)), np.arange(500), 500)
    inner, outer = bootstrap(parts, 0.05, 0), empirical_bernstein(parts, 0.05)
    assert outer.low < inner.low < x.mean() < inner.high < outer.high


@pytest.mark.slow
def test_bootstrap_intervals_cover_the_truth_as_often_as_they_say_and_doubly_robust_errs_less():
    rng = np.random.default_rng(3)
    m, n, worlds = 10, 3000, 300
    mu, pi, mean = rng.dirichlet(np.full(m, 2.0)), rng.dirichlet(np.full(m, 2.0)), rng.uniform(0.05, 0.3, m)
    mu = 0.5 * mu + 0.5 / m
    truth, covered, errors = pi @ mean, np.zeros(3), np.zeros((worlds, 3))
    policy = PolicyTable.dense(pi[None], np.zeros(1, np.int16))
    for world in range(worlds):
        action = rng.choice(m, n, p=mu)
        rows = logged(action, rng.random(n) < mean[action], mu[action])
        w = policy.of(rows.cell, rows.action) / rows.propensity
        q = cross_fitted(rows, policy, 3)
        made = single.ips(w, rows.reward), single.self_normalised_ips(w, rows.reward), single.doubly_robust(
            w, rows.reward, q
        )
        for k, parts in enumerate(made):
            low, high = bootstrap(sums(parts, rows.unit, n), 0.05, world)
            covered[k] += low <= truth <= high
            errors[world, k] = parts.estimate - truth
    assert ((covered / worlds > 0.925) & (covered / worlds < 0.98)).all(), covered / worlds
    ips, _, doubly_robust = np.sqrt((errors**2).mean(axis=0))
    assert doubly_robust < ips


@pytest.mark.parametrize("method", ["ips", "dr"])
def test_a_learned_policy_earns_more_than_the_one_that_wrote_the_log(method):
    rng = np.random.default_rng(0)
    m, n = 6, 20_000
    mean = rng.uniform(0.02, 0.4, (2, m))
    cell, action = rng.integers(0, 2, n), rng.integers(0, m, n)
    rows = logged(action, rng.random(n) < mean[cell, action], np.full(n, 1 / m), cell=cell)
    value, error = action_values(rows, 2, m, np.zeros(2, np.int16), method)
    np.testing.assert_allclose(value, mean, atol=0.1)
    chance = learned_policy(value, error, np.full((2, m), 1 / m), 0.02, 1.0)
    np.testing.assert_allclose(chance.sum(1), 1)
    assert (chance * mean).sum(1).mean() > 0.9 * mean.max(1).mean()
    careful = learned_policy(value, error, np.full((2, m), 1 / m), 1e6, 1.0)
    np.testing.assert_allclose(careful, 1 / m, atol=1e-4)
