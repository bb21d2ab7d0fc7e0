"""What orders the lists: chosen by figures, told in words, and followed by the stages."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError
from recsys_cli.metrics import list_ndcg
from recsys_cli.pipeline.choose import caps_pay, choose
from recsys_cli.pipeline.config import OrderConfig, PipelineConfig
from recsys_cli.pipeline.order import Order, below_best_part, best_part, check_named, order_in_words
from recsys_cli.pipeline.order_scores import by_sources, resolve_order
from recsys_cli.pipeline.request_features import request_features, standardised


def measured(rng, users, **means):
    """Order → figures of each user around a mean with noise that all orders share."""
    shared = rng.normal(0, 0.1, users)
    return {name: (shared + mean + rng.normal(0, 0.02, users), np.ones(users)) for name, mean in means.items()}


@pytest.mark.parametrize("seed", range(5))
def test_the_best_order_is_chosen_over_all_seeds_where_the_difference_is_beyond_noise(seed):
    figures = measured(np.random.default_rng(seed), 300, als=0.2, fusion=0.25, relevance=0.3, heavy=0.1)
    order, account = choose(figures, np.ones(300, bool), "NDCG@10", seed=seed)
    assert order.known == "relevance" and account["known"]["best"] == "relevance"
    assert account["known"]["figures"]["als"]["to_best"] < -0.05
    assert any("relevance" in line and "300 users" in line for line in order_in_words(account))
    name, part, chosen = best_part(account)
    assert name == "als" and chosen > part


def test_within_noise_the_simpler_order_wins():
    rng = np.random.default_rng(1)
    base = rng.normal(0.3, 0.1, 400)
    same = base + rng.normal(0, 0.05, 400)
    same += base.mean() - same.mean() + 1e-5  # a hair ahead, far within noise
    figures = {"fusion": (base, np.ones(400)), "relevance": (same, np.ones(400))}
    order, account = choose(figures, np.ones(400, bool), "NDCG@10", seed=0)
    assert account["known"]["best"] == "relevance" and order.known == "fusion"


def test_people_without_a_history_are_decided_apart_and_few_of_them_get_the_fallback():
    rng = np.random.default_rng(2)
    known = np.arange(200) < 100
    figures = measured(rng, 200, popularity=0.1, als=0.1)
    figures["als"][0][known] += 0.3
    figures["popularity"][0][~known] += 0.3
    order, _ = choose(figures, known, "NDCG@10", seed=0, fallback="trending")
    assert (order.known, order.new) == ("als", "popularity")
    few, account = choose(figures, np.arange(200) < 195, "NDCG@10", seed=0, fallback="trending")
    assert few.new == "trending" and "too few" in account["new"]["why"]


def test_an_order_that_the_settings_name_is_kept_and_a_power_of_relevance_comes_along():
    figures = measured(np.random.default_rng(3), 100, **{"als": 0.5, "heavy × relevance^0.5": 0.1})
    order, account = choose(figures, np.ones(100, bool), "NDCG@10", seed=0, wanted="heavy")
    assert order.known == "heavy" and account["known"]["best"] == "als"
    figures["heavy × relevance^0.5"][0][:] += 1
    order, _ = choose(figures, np.ones(100, bool), "NDCG@10", seed=0)
    assert (order.known, order.exponent) == ("heavy", 0.5)


@pytest.mark.parametrize("named", [{"known": "popularity"}, {}])
def test_an_order_below_the_best_source_is_warned_of_whoever_named_it(named):
    figures = measured(np.random.default_rng(4), 100, popularity=0.1, als=0.3, fusion=0.4)
    wanted = "auto" if named else "popularity"  # by pipeline.order, or by ranking.choose
    _, account = choose(figures, np.ones(100, bool), "NDCG@10", seed=0, wanted=wanted)
    (line,) = below_best_part(account, **named)
    best, worse = (account["known"]["figures"][n]["value"] for n in ("als", "popularity"))
    assert line == (
        f"lists of people with a history are ordered by popularity, which has {worse:.4f} on the validation window, "
        f"below als alone with {best:.4f}"
    )


def test_nothing_is_warned_of_where_the_order_is_no_worse_or_was_not_compared():
    figures = measured(np.random.default_rng(4), 100, popularity=0.1, als=0.3, fusion=0.4)
    _, account = choose(figures, np.ones(100, bool), "NDCG@10", seed=0)
    assert below_best_part(account) == [] == below_best_part(account, known="als")
    assert below_best_part(account, known="heavy") == [] == below_best_part({})


def test_new_people_are_warned_of_apart():
    figures = measured(np.random.default_rng(4), 100, popularity=0.3, als=0.1)
    _, account = choose(figures, np.zeros(100, bool), "NDCG@10", seed=0, wanted="als")
    (line,) = below_best_part(account)
    assert line.startswith("lists of new people are ordered by als")


def test_an_order_to_choose_that_is_none_is_refused_by_its_own_key():
    with pytest.raises(ConfigError, match=r"ranking\.choose: 'fusoin'.*\n?.*'fusion'"):
        check_named("fusoin", ["als"])
    for name in ("auto", "weighted_fusion", "heavy", "als"):
        check_named(name, ["als"])


@pytest.mark.parametrize(("wanted", "known", "new"), [("auto", "fusion", "trending"), ("als", "als", "als")])
def test_with_nothing_to_compare_by_the_fusion_is_taken_unless_the_settings_name_an_order(wanted, known, new):
    order, account = choose({}, np.zeros(0, bool), "NDCG@10", seed=0, wanted=wanted, fallback="trending")
    assert (order.known, order.new) == (known, new)
    words = "the settings name it" if wanted != "auto" else "too few to choose by"
    lines = order_in_words(account)
    assert len(lines) == 2 and all(words in line for line in lines)


@pytest.mark.parametrize("seed", range(4))
def test_a_choice_beyond_noise_is_the_same_whatever_is_resampled_and_within_noise_the_simpler_stays(seed):
    figures = measured(np.random.default_rng(0), 400, als=0.2, fusion=0.203, relevance=0.26, heavy=0.261)
    # the two best are told apart by less than half a standard error of noise
    figures["heavy"] = (figures["relevance"][0] + np.random.default_rng(1).normal(1e-4, 0.1, 400), np.ones(400))
    gap = figures["heavy"][0] - figures["relevance"][0]
    figures["heavy"] = (figures["heavy"][0] - gap.mean() + 1e-4, np.ones(400))
    order, account = choose(figures, np.ones(400, bool), "NDCG@10", seed=seed)
    assert account["known"]["best"] == "heavy" and order.known == "relevance"


def test_an_order_that_the_settings_name_and_the_run_lacks_is_said_to_be_absent():
    figures = measured(np.random.default_rng(5), 100, **{"als": 0.3, "heavy × relevance^1": 0.4})
    for wanted, absent in (("relevance", True), ("als", False), ("heavy", False)):
        _, account = choose(figures, np.ones(100, bool), "NDCG@10", seed=0, wanted=wanted)
        for side in ("known", "new"):
            assert account[side]["why"].startswith("the settings name it")
            assert ("this run has none" in account[side]["why"]) == absent


def test_caps_are_kept_only_where_they_cost_next_to_nothing():
    wanted = Ragged.group(np.array([0, 1]), np.array([1, 2], np.int32), 2)
    def criterion(items):
        return list_ndcg(items, wanted), np.ones(2)

    plain, worse = np.array([[1, 5], [2, 5]]), np.array([[5, 1], [2, 5]])
    assert caps_pay(criterion, plain, plain)["kept"] and not caps_pay(criterion, plain, worse)["kept"]
    # of few people too, where three in a hundred lie within the noise of so few
    found = {0: [1.0, 0.0, 1.0, 0.9], 1: [0.0, 1.0, 1.0, 0.8]}
    few = caps_pay(lambda lists: (np.array(found[lists[0, 0]]), np.ones(4)), np.zeros((4, 1)), np.ones((4, 1)))
    assert few["before"] - few["after"] == pytest.approx(0.025) and few["noise"] > 0.1 and not few["kept"]


def test_ndcg_of_lists_is_that_of_the_textbook():
    wanted = Ragged.group(np.array([0, 0, 1]), np.array([3, 7, 4], np.int32), 3)
    lists = np.array([[7, 1, 3], [1, 2, -1], [1, 2, 3]])
    expected = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(list_ndcg(lists, wanted, 3), [expected, 0, 0])


def bundle(**more):
    retrievers = {name: SimpleNamespace(learns=True) for name in ("als", "popularity")}
    defaults = {
        "order": Order("relevance", "popularity"), "light": object(), "relevance": None, "heavy": None,
        "configured": tuple(retrievers), "retrievers": retrievers,
    }
    return SimpleNamespace(**{**defaults, **more})


def test_what_a_run_lacks_passes_to_the_next_simpler_order():
    assert resolve_order(PipelineConfig(), bundle()).known == "light"
    assert resolve_order(PipelineConfig(), bundle(light=None)).known == "fusion"
    assert resolve_order(PipelineConfig(), bundle(relevance=object())).known == "relevance"
    named = PipelineConfig(order=OrderConfig(known="als"))
    assert resolve_order(named, bundle()).known == "als"


def test_an_unknown_order_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"pipeline\.order\.known: 'fusoin'.*\n?.*'fusion'"):
        resolve_order(PipelineConfig(order=OrderConfig(known="fusoin")), bundle())


def test_a_source_alone_leads_with_its_list_and_the_others_come_behind(make):
    candidates = make.candidates([[4, 5, 6, 7]], rrf=[[0.1, 0.4, 0.2, 0.3]], rank_als=[[2, 0, 1, 0]])
    scores = by_sources(candidates, "als")
    assert candidates.items[0, np.argsort(-scores[0])].tolist() == [6, 4, 5, 7]


def test_standardised_scores_have_mean_0_and_spread_1_and_say_nothing_of_the_unknown(make):
    state = make.state(make.catalogue([0, 1, 2, 3]), shown=[(0, 0, True)])
    query = make.query(state, [0, 1])
    query.bundle.retrievers = {"als": SimpleNamespace(learns=True), "popularity": SimpleNamespace(learns=False)}
    candidates = make.candidates(
        [[1, 2, 3], [1, 2, 3]], sim_als=[[5, 1, 3], [5, 1, 3]], rank_popularity=[[1, 2, 0], [1, 2, 0]],
        rrf=[[1, 1, 1], [1, 1, 1]],
    )
    z = standardised(query, candidates, ("als", "popularity"))
    np.testing.assert_allclose(z["z_als"][0], [1.2247, -1.2247, 0], atol=1e-3)
    assert (z["z_als"][1] == 0).all() and (z["z_popularity"][1] != 0).any()
    assert z["z_popularity"][0].argmax() == 0 and z["z_popularity"][0].argmin() == 2
    together = request_features(candidates.with_scores(**z), ("z_mean", "sources_proposing", "rank_popularity"))
    np.testing.assert_allclose(together["z_mean"], z["z_als"])
    assert together["rank_popularity"][0].argmax() == 2
