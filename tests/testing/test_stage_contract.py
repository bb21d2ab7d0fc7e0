"""The contract of stages holds for one of each kind, and fails for what breaks a promise."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.sourcing import add_candidates
from recsys_cli.pipeline.stage import Filter, Hydrator, Scorer, Selector, SideEffect, Source, Stage, StageConfig
from recsys_cli.testing import check_stage


class MineConfig(StageConfig):
    kind: Literal["mine"] = "mine"


class First(Source):
    """Adds the first two items of the catalogue for everybody."""

    config_type = MineConfig

    def __call__(self, query, candidates):
        rows = np.arange(len(query))
        items = np.tile(np.arange(2, dtype=np.int32), (len(query), 1))
        rrf = np.full(items.shape, 0.01, np.float32)
        return add_candidates(candidates, rows, Candidates(items, np.zeros(items.shape, np.uint32), {"rrf": rrf}))


class Popular(Hydrator):
    config_type = MineConfig
    gives = ("popularity",)

    def scores(self, query, candidates):
        return {"popularity": query.state.interactions[candidates.items].astype(np.float32)}


class Even(Filter):
    config_type = MineConfig

    def keep(self, query, candidates):
        return candidates.items % 2 == 0


class Best(Filter):
    """Keeps the best half of each user's candidates, which depends on the others."""

    config_type = MineConfig
    again = False

    def keep(self, query, candidates):
        return np.arange(candidates.items.shape[1]) < -(-candidates.counts // 2)[:, None]


class Reverse(Scorer):
    config_type = MineConfig
    reads = gives = ("utility",)

    def __call__(self, query, candidates):
        return candidates.with_scores(utility=-candidates.scores["utility"]).best("utility", candidates.items.shape[1])


class Shuffle(Selector):
    config_type = MineConfig

    def __call__(self, query, candidates):
        draws = np.where(candidates.filled, query.uniform(candidates.items.shape[1], purpose=9), 2)
        return candidates.take(np.where(np.sort(draws) < 2, np.argsort(draws, axis=1), -1))


class Nothing(SideEffect):
    config_type = MineConfig

    def act(self, query, slate):
        assert slate.items.shape == (len(query), query.size) or not slate.items.size


@pytest.mark.parametrize("stage", [First, Popular, Even, Best, Reverse, Shuffle, Nothing])
def test_a_stage_of_each_kind_keeps_the_contract(stage):
    check_stage(stage)


class NoKind(Stage):
    config_type = MineConfig


class Forgetful(First):
    def __call__(self, query, candidates):
        return super().__call__(query, candidates.take(np.zeros((len(query), 0), np.int64)))


class Untold(Popular):
    gives = ()


class Moody(Even):
    """Judges a candidate by how many there are."""

    def keep(self, query, candidates):
        return np.broadcast_to(candidates.counts[:, None] > 40, candidates.items.shape)


class InPlace(Reverse):
    def __call__(self, query, candidates):
        candidates.scores["utility"] *= -1
        return candidates


class Company(Reverse):
    """Looks at the other users of a batch."""

    def __call__(self, query, candidates):
        return candidates.take(np.roll(np.tile(np.arange(candidates.items.shape[1]), (len(query), 1)), len(query), 1))


class Lucky(Reverse):
    def __call__(self, query, candidates):
        drawn = np.random.default_rng().random(candidates.items.shape).astype(np.float32)
        return candidates.with_scores(utility=drawn).best("utility", candidates.items.shape[1])


class Inventive(Reverse):
    def __call__(self, query, candidates):
        return replace(candidates, items=np.where(candidates.filled, candidates.items + 1, -1))


class Greedy(Shuffle):
    def __call__(self, query, candidates):
        return candidates.take(np.tile(np.arange(min(3, candidates.items.shape[1])), (len(query), 1)))


class Twice(Shuffle):
    def __call__(self, query, candidates):
        return candidates.take(np.zeros(candidates.items.shape, np.int64))


class Double(Popular):
    def scores(self, query, candidates):
        return {"popularity": query.state.interactions[candidates.items].astype(np.float64)}


@pytest.mark.parametrize(
    ("stage", "told"),
    [
        (NoKind, "a stage is of one of the kinds Source, Hydrator"),
        (Forgetful, "a source keeps what it gets"),
        (Untold, "`gives` names the scores that it adds, which are popularity"),
        (Double, "score 'popularity' is float32"),
        (Moody, "whether a candidate passes depends on no other"),
        (InPlace, "the arrays that a stage is given stay as they are"),
        (Company, "a user gets the same alone"),
        (Lucky, "the same query and candidates give the same"),
        (Inventive, "a scorer adds no candidates"),
        (Greedy, "a selector leaves enough for a slate"),
        (Twice, "each item stands once a user"),
    ],
)
def test_what_breaks_a_promise_is_found_out(stage, told):
    with pytest.raises(AssertionError, match=told):
        check_stage(stage)
