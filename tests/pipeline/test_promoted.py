"""Promoted items stand in their places and nowhere else, seldom enough for each user."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.promoted import Promote, PromotedItems
from recsys_cli.pipeline.promoted_config import PromotedConfig
from recsys_cli.pipeline.stage import StageConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle
from recsys_cli.testing.stage import check_stage

PAID = np.arange(400) % 7 == 0


def by_hand(order, paid, positions, allowed):
    ads, others = [i for i in order if i in paid], [i for i in order if i not in paid]
    used, out = 0, []
    while others:
        if used < min(allowed, len(ads)) and used < len(positions) and len(out) == positions[used] - 1:
            out.append(ads[used])
            used += 1
        else:
            out.append(others.pop(0))
    return out + ads[used:]


@given(st.data())
def test_the_places_are_those_of_a_walk_by_hand(make, data):
    n = data.draw(st.integers(1, 14))
    paid = data.draw(st.sets(st.integers(0, n - 1)))
    order = data.draw(st.permutations(range(n)))
    gaps = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    positions = np.cumsum(gaps).tolist()
    catalogue = make.catalogue([-1] * n)
    numbers = {"paid": np.isin(np.arange(n), list(paid)).astype(np.float32)}
    catalogue = replace(catalogue, item_numbers=numbers)
    config = PromotedConfig(attribute="paid", positions=positions, spacing=0)
    out = Promote(config, catalogue)(make.query(make.state(catalogue), [0], size=20), make.candidates([list(order)]))
    # where others run out, what is promoted and still has a place follows in its order
    assert out.items[0].tolist() == by_hand(order, paid, positions, len(positions))


def test_a_user_who_had_enough_sees_no_more(make):
    catalogue = replace(make.catalogue([-1] * 8), item_numbers={"paid": np.float32([1, 1, 1, 0, 0, 0, 0, 0])})
    state = make.state(catalogue, [(1, 0, False), (1, 1, False), (2, 0, False)])
    stage = Promote(PromotedConfig(attribute="paid", positions=[1, 3], spacing=1, per_user=2), catalogue)
    rows = [[2, 3, 4, 5, 6, 1, 7, 0]] * 3
    out = stage(make.query(state, [0, 1, 2], size=4), make.candidates(rows))
    assert out.items[:, :4].tolist() == [[2, 3, 1, 4], [3, 4, 5, 6], [2, 3, 4, 5]]
    assert out.scores["promoted"][:, :4].tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


@pytest.fixture(scope="module")
def bundle():
    made = planted_bundle()
    catalogue = replace(made.catalogue, item_numbers={**made.catalogue.item_numbers, "paid": PAID.astype(np.float32)})
    return replace(made, catalogue=catalogue, state=replace(made.state, catalogue=catalogue))


def settings(**promoted):
    sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    filters = {"max_age_days": None}
    given = {"sourcing": sourcing, "promoted": promoted, "filters": filters, "heavy": {"keep": 200}}
    return PipelineConfig.model_validate(given)


def test_slates_have_promoted_items_in_their_places_alone_and_say_so(bundle):
    engine = RecommendationEngine(bundle, settings(attribute="paid", positions=[2, 7]))
    items = engine.slates(np.arange(60, dtype=np.int32)).items
    assert (PAID[items].sum(axis=0) == [0, 60, 0, 0, 0, 0, 60, 0, 0, 0]).all()
    answer = engine.recommend(3)
    assert [i.promoted for i in answer.items] == [n in (1, 6) for n in range(10)]
    assert answer.items[1].reason == "promoted"
    seen = engine.state.seen.contains(np.arange(60), items)
    assert not seen.any(), "promoted items pass the filters as well"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"attribute": "payed"}, "items have no 'payed'"),
        ({"attribute": "media_type", "value": "ad"}, "media_type never is 'ad'"),
    ],
)
def test_what_the_catalogue_does_not_have_is_refused(bundle, given, told):
    with pytest.raises(ConfigError, match=told):
        RecommendationEngine(bundle, settings(**given))


def test_places_that_contradict_the_spacing_are_refused():
    with pytest.raises(ValidationError, match="positions 3 and 5 have 1 between them, spacing asks for 3"):
        PromotedConfig(positions=[3, 5])
    with pytest.raises(ValidationError, match="ascending"):
        PromotedConfig(positions=[5, 3])


class CheckedConfig(StageConfig):
    kind: Literal["checked"] = "checked"


class CheckedSource(PromotedItems):
    config_type = CheckedConfig

    def __init__(self, config):
        super().__init__(PromotedConfig(attribute="length"), planted_bundle().catalogue)


class CheckedPromote(Promote):
    config_type = CheckedConfig

    def __init__(self, config):
        super().__init__(PromotedConfig(attribute="length"), planted_bundle().catalogue)


@pytest.mark.parametrize("stage", [CheckedSource, CheckedPromote])
def test_both_keep_what_their_kinds_promise(stage):
    check_stage(stage)
