"""Diversity: each stage against its definition, worked out another way."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from planted_states import follows_of

from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.pipeline.added import KINDS
from recsys_cli.pipeline.diversity.author_decay import AuthorDecay, AuthorDecayConfig
from recsys_cli.pipeline.diversity.calibration import SMOOTHING, calibrated
from recsys_cli.pipeline.diversity.constraints import Constraints, ConstraintsConfig
from recsys_cli.pipeline.diversity.dpp import greedy_map
from recsys_cli.pipeline.diversity.kdpp import sample_k_dpp
from recsys_cli.pipeline.diversity.mix import Mix, MixConfig
from recsys_cli.pipeline.diversity.mmr import mmr
from recsys_cli.pipeline.diversity.out_of_network import OutOfNetwork, OutOfNetworkConfig
from recsys_cli.pipeline.rescale import slot_relevance

NOW = 100 * DAY


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


@st.composite
def choices(draw, most=9):
    """(relevance falling from 1 to 0, unit vectors) of a few candidates in general position."""
    n, d = draw(st.integers(2, most)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return -np.sort(-rng.random(n)), unit(rng.normal(size=(n, d)))


@settings(deadline=None, max_examples=60)
@given(choices(), st.floats(0, 0.99))
def test_mmr_agrees_with_its_formula(drawn, diversity):
    relevance, vectors = drawn
    left, expected = list(range(len(relevance))), []
    while left:
        def worth(i):
            alike = max((vectors[i] @ vectors[j] for j in expected), default=0)
            return (1 - diversity) * relevance[i] - diversity * alike
        best = sorted((worth(i) for i in left), reverse=True)
        assume(len(best) == 1 or best[0] - best[1] > 1e-9)
        expected.append(max(left, key=worth))
        left.remove(expected[-1])
    assert mmr(relevance, vectors, len(relevance), diversity).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(choices(), st.floats(0.05, 0.95))
def test_the_greedy_dpp_is_that_of_whole_determinants(drawn, diversity):
    """Each step by the determinant of the whole kernel, O(n³) a candidate, not by an incremental factorisation."""
    relevance, vectors = drawn
    quality = np.exp((1 - diversity) / (2 * diversity) * relevance)
    kernel = quality[:, None] * (vectors @ vectors.T) * quality
    picks = min(vectors.shape)  # beyond the rank every determinant is 0
    expected, left = [], list(range(len(relevance)))
    for _ in range(picks):
        def worth(i):
            sign, log = np.linalg.slogdet(kernel[np.ix_([*expected, i], [*expected, i])])
            return log if sign > 0 else -np.inf
        found = sorted(((worth(i), i) for i in left), reverse=True)
        assume(len(found) == 1 or found[0][0] - found[1][0] > 1e-6)
        chosen = found[0][1]
        before = np.linalg.slogdet(kernel[np.ix_(expected, expected)])[1] if expected else 0.0
        # what is nearly within the span of those chosen is cut off
        assume(found[0][0] - before - np.log(quality[chosen] ** 2) > np.log(1e-3))
        expected.append(chosen)
        left.remove(chosen)
    assert greedy_map(relevance, vectors, picks, diversity).tolist() == expected


def test_a_copy_comes_behind_everything_else():
    vectors = unit([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).astype(np.float32)
    relevance = np.array([1.0, 0.99, 0.1, 0.0])
    assert greedy_map(relevance, vectors, 4, 0.3).tolist() == [0, 2, 3, 1]
    assert mmr(relevance, vectors, 4, 0.9).tolist() == [0, 2, 3, 1]


def test_items_of_unknown_vectors_are_like_none():
    vectors = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32)
    relevance = np.array([1.0, 0.9, 0.2, 0.1])
    assert greedy_map(relevance, vectors, 4, 0.5).tolist() == [0, 2, 3, 1]
    assert mmr(relevance, vectors, 4, 0.5).tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("shape", [(5, 3), (5, 8)])
def test_a_k_dpp_draws_sets_as_often_as_their_determinants_say(shape):
    rng = np.random.default_rng(4)
    features = rng.normal(size=shape)
    kernel = features @ features.T
    sets = list(combinations(range(5), 2))
    expected = np.array([np.linalg.det(kernel[np.ix_(s, s)]) for s in sets])
    expected /= expected.sum()
    drawn = [tuple(sorted(sample_k_dpp(features, 2, rng.random(12)))) for _ in range(6000)]
    seen = np.array([drawn.count(s) for s in sets]) / len(drawn)
    assert np.abs(seen - expected).max() < 4.5 * np.sqrt(0.25 / len(drawn))


def test_a_k_dpp_gives_no_more_than_the_vectors_span():
    assert len(sample_k_dpp(np.array([[1.0, 0], [2.0, 0], [0, 1.0]]), 3, np.random.default_rng(0).random(9))) == 2
    assert len(sample_k_dpp(np.zeros((3, 2)), 2, np.full(9, 0.5))) == 0


def made(make, kind, n=20, rows=1, **settings):
    """(stage, query, candidates) over items with random vectors."""
    rng = np.random.default_rng(n)
    index = SimpleNamespace(vectors=rng.normal(size=(n, 4)).astype(np.float32), known=np.ones(n, bool))
    catalogue = make.catalogue([i % 4 for i in range(n)], topics=[[i % 3] for i in range(n)])
    state = make.state(catalogue)
    bundle = SimpleNamespace(retrievers={"als": SimpleNamespace(index=index)}, catalogue=catalogue, state=state)
    stage = KINDS[kind](KINDS[kind].config_type(**settings))
    stage.name = kind
    assert stage.prepare(bundle) is None
    order = [rng.permutation(n).tolist() for _ in range(rows)]
    utility = -np.sort(-rng.normal(size=(rows, n)), axis=1)
    return stage, make.query(state, list(range(rows)), size=5), make.candidates(order, utility=utility)


@pytest.mark.parametrize("kind", ["mmr", "dpp", "k_dpp"])
def test_no_weight_of_diversity_is_pure_relevance(make, kind):
    stage, query, candidates = made(make, kind, rows=3, diversity=0)
    assert not stage.enabled(query)
    assert stage(query, candidates).items.tolist() == candidates.items.tolist()


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000))
def test_a_vanishing_weight_of_diversity_changes_nothing(make, kind, seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    stage, query, candidates = made(make, kind, n=n, diversity=1e-9)
    utility = np.linspace(1, -1, n)[None] * rng.choice([0.01, 1, 100])
    candidates = candidates.with_scores(utility=utility.astype(np.float32))
    assert stage(query, candidates).items.tolist() == candidates.items.tolist()


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_more_weight_makes_the_slate_more_varied(make, kind):
    def alike(diversity):
        """What each weighs: the most alike pair of a slate, and the volume that it spans, as a length."""
        stage, query, candidates = made(make, kind, n=60, rows=30, diversity=diversity)
        vectors = stage._vectors(query, np.arange(60))
        slates = vectors[stage(query, candidates).items[:, :4]]
        if kind == "mmr":
            return np.mean([(rows @ rows.T - 2 * np.eye(4)).max() for rows in slates])
        return -np.mean([np.linalg.slogdet(rows @ rows.T + 0.01 * np.eye(4))[1] for rows in slates])

    assert alike(0.01) > alike(0.3) + 0.1 > alike(0.9) + 0.1


def test_relevance_follows_the_order_as_it_stands(make):
    """What exploration has lifted is not put back: utilities go to the slots, highest first."""
    candidates = make.candidates([[5, 3, 4, -1]], utility=[[1.0, 9.0, 5.0, 99.0]])
    assert slot_relevance(candidates).tolist() == [[1.0, 0.5, 0.0, 0.0]]
    flat = make.candidates([[1, 2], [-1, -1]], utility=[[3.0, 3.0], [0, 0]])
    assert slot_relevance(flat).tolist() == [[0.0, 0.0], [0.0, 0.0]]


# --- caps and distances -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_constraints_agree_with_a_walk_by_hand(make, data):
    n = data.draw(st.integers(1, 14))
    author = data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    topics = data.draw(st.lists(st.lists(st.integers(0, 3), max_size=2, unique=True), min_size=n, max_size=n))
    most, apart, size = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 4)), data.draw(st.integers(1, 6))
    assume(any(a >= 0 for a in author) and any(topics))
    order = data.draw(st.permutations(range(n)))
    catalogue = make.catalogue(author, topics=topics)
    config = ConstraintsConfig(max_count={"author": most}, apart={"author": apart, "topics": 2}, adapt=False)
    stage = Constraints(config)
    out = stage(make.query(make.state(catalogue), [0], size=size), make.candidates([order]))
    left, expected = list(order), []
    for _ in range(min(size + 10, n)):
        def within(i):
            return author[i] < 0 or sum(author[j] == author[i] for j in expected) < most
        def near(i):
            return any(author[i] == author[j] >= 0 for j in expected[-apart + 1 :]) or any(
                set(topics[i]) & set(topics[j]) for j in expected[-1:]
            )
        pick = next((i for i in left if within(i) and not near(i)), next((i for i in left if within(i)), left[0]))
        expected.append(pick)
        left.remove(pick)
    assert out.items[0].tolist() == expected + left


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 30), min_size=40, max_size=40), st.integers(1, 4))
def test_a_cap_is_never_broken_where_it_can_be_kept(make, author, most):
    stage = Constraints(ConstraintsConfig(max_count={"author": most}, adapt=False))
    catalogue = make.catalogue([a % 4 for a in author])
    catalogue = replace(catalogue, item_author=np.array(author, np.int32))
    out = stage(make.query(make.state(catalogue), [0], size=10), make.candidates([list(range(40))]))
    shown = np.array(author)[out.items[0, :10]]
    possible = sum(min(author.count(a), most) for a in set(author)) >= 10
    assert not possible or np.bincount(shown).max() <= most
    assert sorted(out.items[0].tolist()) == list(range(40))


def test_a_shop_of_four_kinds_is_not_held_to_a_third_of_each_unless_asked(make):
    catalogue = make.catalogue([-1] * 80, topics=[[i % 4] for i in range(80)])
    best = [i for i in range(80) if i % 4 == 0] + [i for i in range(80) if i % 4]

    def of_one_kind(adapt):
        stage = Constraints(ConstraintsConfig(max_share={"topics": 0.3}, adapt=adapt))
        out = stage(make.query(make.state(catalogue), [0], size=10), make.candidates([best]))
        return int((out.items[0, :10] % 4 == 0).sum())

    assert (of_one_kind(True), of_one_kind(False)) == (5, 3)


def test_an_item_of_several_sources_counts_for_its_first(make):
    stage = Constraints(ConstraintsConfig(max_share={"source": 0.5}))
    candidates = replace(make.candidates([[0, 1, 2, 3]]), sources=np.array([[0b10, 0b110, 0b10, 0b100]], np.uint32))
    out = stage(make.query(make.state(make.catalogue([-1] * 4)), [0], size=4), candidates)
    assert out.items.tolist() == [[0, 1, 3, 2]]


# --- factors ----------------------------------------------------------------------------------------------


def test_the_items_of_an_author_count_less_and_less_down_to_the_floor(make):
    catalogue = make.catalogue([0, 0, 0, 1, -1, -1])
    candidates = make.candidates([[3, 0, 1, 4, 2, 5]], utility=[[9, 8, 8, -2, 4, -2]])
    out = AuthorDecay(AuthorDecayConfig(decay=0.5, floor=0.25))(make.query(make.state(catalogue), [0]), candidates)
    found = dict(zip(out.items[0].tolist(), out.scores["utility"][0].tolist(), strict=True))
    assert found == pytest.approx({3: 9, 0: 8, 1: 8 * 0.625, 2: 4 * (0.75 * 0.25 + 0.25), 4: -2, 5: -2})
    assert out.items[0].tolist() == [3, 0, 1, 2, 4, 5]


def test_what_is_out_of_network_counts_less_also_below_zero(make):
    catalogue = make.catalogue([0, 1, 1, -1])
    state = replace(make.state(catalogue), follows=follows_of({2: [0]}, 4))
    candidates = make.candidates([[0, 1, 2, 3]] * 2, utility=[[4, 4, -3, 4]] * 2)
    out = OutOfNetwork(OutOfNetworkConfig())(make.query(state, [2, 0]), candidates)
    first = dict(zip(out.items[0].tolist(), out.scores["utility"][0].tolist(), strict=True))
    assert first == pytest.approx({0: 4, 1: 3, 2: -4, 3: 4})
    assert sorted(out.scores["utility"][1].tolist()) == [-3, 4, 4, 4]  # somebody who follows nobody has no network


# --- shares -----------------------------------------------------------------------------------------------


def mixed(make, config, groups, size=10, **state):
    """Groups of the slate that a mix by a category leaves."""
    codes = np.array(groups, np.int32)
    catalogue = make.catalogue([-1] * len(groups))
    names = {**catalogue.names, "item.media_type": ["text", "photo", "video"]}
    catalogue = replace(catalogue, item_codes={"media_type": codes}, names=names)
    stage, given_state = Mix(MixConfig(by="media_type", shares=config)), make.state(catalogue)
    assert stage.prepare(SimpleNamespace(catalogue=catalogue, state=given_state)) is None
    out = stage(make.query(given_state, [0], size=size), make.candidates([list(range(len(groups)))]))
    return codes[out.items[0, :size]], out.items[0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-1, 2), min_size=60, max_size=60), st.integers(0, 10), st.integers(0, 10))
def test_a_mix_keeps_its_shares_as_far_as_there_are_candidates(make, groups, a, b):
    shares = {"text": a / 10, "video": min(b, 10 - a) / 10}
    shown, order = mixed(make, shares, groups)
    assert sorted(order.tolist()) == list(range(60))
    for name, code in (("text", 0), ("video", 2)):
        enough = groups.count(code) >= 10 and groups.count(1) + groups.count(-1) >= 10
        assert not enough or abs((shown == code).sum() - shares[name] * 10) <= 1
    for code in (0, 2):  # within a group the ranking stands
        own = [i for i in order if groups[i] == code]
        slate = [i for i in order[:10] if groups[i] == code]
        assert slate == sorted(own)[: len(slate)]


def test_half_of_a_slate_comes_from_the_network(make):
    catalogue = make.catalogue([0] * 10 + [1] * 10)
    state = replace(make.state(catalogue), follows=follows_of({2: [0]}, 4))
    stage = Mix(MixConfig())
    assert stage.prepare(SimpleNamespace(catalogue=catalogue, state=state)) is None
    out = stage(make.query(state, [2], size=6), make.candidates([list(range(20))]))
    assert (out.items[0, :6] < 10).tolist().count(True) == 3


def test_own_shares_are_those_of_the_history(make):
    """Five of six interactions are with an author who is followed; the mean of all people steadies it."""
    catalogue = make.catalogue([0] * 10 + [1] * 10)
    shown = [(2, i, True) for i in (0, 1, 2, 3, 4, 10)] + [(3, i, True) for i in (11, 12)]
    state = replace(make.state(catalogue, shown=shown), follows=follows_of({2: [0]}, 4))
    stage = Mix(MixConfig(shares="own"))
    stage.prepare(SimpleNamespace(catalogue=catalogue, state=state))
    overall = 5 / 8
    found = stage._targets(make.query(state, [2, 3, 0, -1]))[:, 1]
    assert found == pytest.approx([(5 + 5 * overall) / 11, 5 * overall / 7, overall, overall])


def test_freshness_is_by_age(make):
    created = [NOW - HOUR] * 5 + [NOW - 3 * DAY] * 5 + [0] * 5
    catalogue = make.catalogue([-1] * 15, created=created)
    stage = Mix(MixConfig(by="freshness", shares={"fresh": 0.25}, fresh_hours=2))
    state = make.state(catalogue)
    stage.prepare(SimpleNamespace(catalogue=catalogue, state=state))
    out = stage(make.query(state, [0], size=8), make.candidates([list(range(14, -1, -1))]))
    assert (out.items[0, :8] < 5).sum() == 2


# --- calibration ------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.floats(0.05, 0.95))
def test_calibration_agrees_with_its_formula(seed, weight):
    rng = np.random.default_rng(seed)
    n, t = int(rng.integers(2, 8)), int(rng.integers(1, 4))
    relevance, own = -np.sort(-rng.random(n)), rng.dirichlet(np.ones(t))
    topics = rng.dirichlet(np.ones(t), n).astype(np.float32)

    def worth(chosen):
        slate = topics[chosen].mean(axis=0)
        divergence = (own * np.log(own / ((1 - SMOOTHING) * slate + SMOOTHING * own))).sum()
        return (1 - weight) * relevance[chosen].mean() - weight * divergence

    expected, left = [], list(range(n))
    while left:
        found = sorted((worth([*expected, i]) for i in left), reverse=True)
        assume(len(found) == 1 or found[0] - found[1] > 1e-4)
        expected.append(max(left, key=lambda i: worth([*expected, i])))
        left.remove(expected[-1])
    assert calibrated(relevance, topics, own, n, weight).tolist() == expected


def test_a_slate_takes_the_topics_of_the_history_and_strangers_keep_their_order(make):
    topics = [[0]] * 20 + [[1]] * 20
    shown = [(1, i, True) for i in (0, 1, 2, 20)]
    catalogue = make.catalogue([-1] * 40, topics=topics)
    stage = KINDS["calibration"](KINDS["calibration"].config_type(calibration=0.9))
    order = list(range(20, 40)) + list(range(20))
    candidates = make.candidates([order] * 2, utility=[np.linspace(1, 0, 40)] * 2)
    out = stage(make.query(make.state(catalogue, shown=shown), [1, 2], size=8), candidates)
    assert (out.items[0, :8] < 20).sum() == 6 and out.items[1].tolist() == order


def test_adventure_lifts_what_is_new_to_somebody_and_familiarity_what_is_known(make):
    catalogue = make.catalogue([0, 1, 2, 3], topics=[[0], [0], [1], [1]])
    state = make.state(catalogue, shown=[(1, 0, True)])
    stage = KINDS["adventure"](KINDS["adventure"].config_type())
    candidates = make.candidates([[0, 1, 2, 3]], utility=[[1.0, 1.0, 1.0, 1.0]])
    query = make.query(state, [1])
    assert not stage.enabled(query)
    away = stage(replace(query, adventure=1.0), candidates)
    assert away.items[0].tolist() == [2, 3, 0, 1]
    assert away.scores["utility"][0].tolist() == pytest.approx([np.e, np.e, 1 / np.e, 1 / np.e])
    home = stage(replace(query, adventure=-0.5), candidates)
    assert home.items[0].tolist() == [0, 1, 2, 3] and home.scores["utility"][0, 0] == pytest.approx(np.e**0.5)
    told = replace(catalogue, user_numbers={"adventure": np.array([np.nan, 1.0, 0, 0], np.float32)})
    assert stage(make.query(make.state(told, shown=[(1, 0, True)]), [1]), candidates).items[0].tolist() == [2, 3, 0, 1]
