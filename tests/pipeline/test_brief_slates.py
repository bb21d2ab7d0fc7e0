"""What nobody looks at is not measured: of lists in the order of sources the slate alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import HeavyStageConfig, LightStageConfig, UtilityConfig
from recsys_cli.pipeline.order import Order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.scoring import Hydrate, LightRanking, Predictions, Utility
from recsys_cli.pipeline.stage import Scorer

ITEMS = np.array([[4, 7, 1]], np.int32)


class Source:
    """Measures an item by its position."""

    learns = True

    def __init__(self):
        self.asked = []

    def score(self, state, users, items):
        self.asked.append(items.size)
        return items.astype(np.float32)


class ReadsASimilarity(Scorer):
    name = "mine"
    reads = ("sim_near",)


def query(brief=True):
    sources = {"near": Source(), "far": Source()}
    bundle = SimpleNamespace(measuring=sources, retrievers=sources, proposing=("near",), fusion={}, heavy=None)
    state = SimpleNamespace(history=Ragged(np.array([0, 1]), np.array([3])))
    return Query(np.array([0], np.int32), 3, bundle, state, None, None, 0, brief=brief)


def candidates():
    none = np.zeros(ITEMS.shape, np.float32)
    return Candidates(ITEMS, none.astype(np.uint32), {"rrf": none, "rank_near": np.array([[1, 2, 3]], np.float32)})


def hydrated_before(order, asked, *more):
    """What `Hydrate` gives before the stages of an order."""
    hydrate = Hydrate()
    hydrate.followed_by([
        LightRanking(LightStageConfig(), order), Utility(UtilityConfig(), HeavyStageConfig(), order=order), *more,
        Predictions(HeavyStageConfig()),
    ])
    return hydrate(asked, candidates()).scores.keys() - candidates().scores.keys()


@pytest.mark.parametrize("order", [Order("near", "far"), Order("merge", "merge")])
def test_an_order_of_sources_has_no_candidate_measured(order):
    asked = query()
    assert not hydrated_before(order, asked)
    assert not any(source.asked for source in asked.bundle.measuring.values())


@pytest.mark.parametrize(
    "order", [Order("near", "fusion"), Order("weighted_fusion", "near"), Order(), Order("light", "near")]
)
def test_an_order_that_reads_measures_has_them(order):
    assert {"sim_near", "sim_far", "z_near"} <= hydrated_before(order, query())


def test_a_stage_that_says_it_reads_a_measure_has_it():
    assert "sim_near" in hydrated_before(Order("near", "near"), query(), ReadsASimilarity())


def test_whoever_looks_at_the_candidates_has_them_measured():
    assert "sim_near" in hydrated_before(Order("near", "near"), query(brief=False))


def test_the_slate_is_measured_by_the_sources_that_were_asked():
    told = Predictions(HeavyStageConfig(), frozenset({"near"}))(query(), candidates())
    assert told.scores["sim_near"].tolist() == [[4, 7, 1]]
    assert "sim_far" not in told.scores
    assert {"sim_near", "sim_far"} <= Predictions(HeavyStageConfig())(query(), candidates()).scores.keys()


def test_what_was_measured_before_is_not_measured_again():
    asked = query()
    before = candidates().with_scores(sim_near=np.zeros(ITEMS.shape, np.float32))
    assert Predictions(HeavyStageConfig())(asked, before).scores["sim_near"].tolist() == [[0, 0, 0]]
    assert not asked.bundle.measuring["near"].asked
