"""Stages of `pipeline.stages`: each keeps the contract, stands where it should, and steps aside without its data."""

from dataclasses import replace

import numpy as np
import pytest
from rich_world import rich_bundle

from recsys_cli.config import validate
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError, UsageError
from recsys_cli.pipeline.added import KINDS, OWN
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.pipeline.rules.boost import RuleBoost
from recsys_cli.pipeline.rules.filter import RuleFilter
from recsys_cli.pipeline.rules.place import RulePlace
from recsys_cli.settings import Settings
from recsys_cli.testing import check_stage
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle

SOURCING = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
RULES = {
    "sold_out": {"if": "item.stock <= 0", "then": "filter"},
    "promotion": {"if": "item.promotion", "then": "boost", "by": 1.5},
    "new": {"if": "item.age_days < 25 and user.is_returning", "then": "boost", "by": 1.2},
    "films": {"if": "item.media_type == 'video'", "then": "bury"},
    "topic": {"if": "'t1' in item.topics", "then": "promote", "at_most": 2},
    "local": {"if": "item.language == 'de' and user.country in ['at', 'de']", "then": "pin", "position": 3},
}


@pytest.fixture(scope="module")
def bundle():
    return rich_bundle()


@pytest.mark.parametrize("stage", OWN, ids=lambda stage: stage.__name__)
def test_a_stage_keeps_the_contract(stage, bundle):
    check_stage(stage, bundle=bundle)


@pytest.mark.parametrize("stage", [RuleFilter, RuleBoost, RulePlace], ids=lambda stage: stage.__name__)
def test_a_stage_of_rules_keeps_the_contract(stage, bundle):
    check_stage(stage, stage.config_type.model_validate({"rules": RULES}), bundle)


@pytest.mark.parametrize("settings", [
    {"kind": "constraints", "max_count": {"author": 1}, "max_share": {"media_type": 0.4, "source": 0.5},
     "apart": {"topics": 2, "language": 2}},
    {"kind": "mix", "by": "network", "shares": "own"},
    {"kind": "mix", "by": "freshness", "shares": {"fresh": 0.5}, "fresh_hours": 600},
    {"kind": "mix", "by": "sentiment", "shares": {"positive": 0.6, "negative": 0.1}},
    {"kind": "mix", "by": "media_type", "shares": {"video": 0.5}},
    {"kind": "adventure", "level": -0.5},
    {"kind": "exposure", "by": "country", "shares": {"at": 0.5, "de": 0.2}},
    {"kind": "exposure", "bounds": [6], "horizon": 1000},
    {"kind": "minimum_exposure", "of": "authors", "share": 0.5},
    {"kind": "mmr", "embeddings": "topics", "diversity": 0.7},
    {"kind": "holdout", "of": "authors", "share": 0.3, "users": 1},
    {"kind": "language", "column": "country"},
    {"kind": "muted_keywords", "words": ["spoiler"]},
    {"kind": "source_weights", "weights": {"popularity": 0.2}},
], ids=lambda settings: f"{settings['kind']} {settings.get('by', settings.get('of', len(settings)))}")  # fmt: skip
def test_other_settings_keep_the_contract_too(settings, bundle):
    stage = KINDS[settings["kind"]]
    check_stage(stage, stage.config_type.model_validate(settings), bundle)


def pipeline_of(stages, bundle, rules=None):
    config = PipelineConfig.model_validate({"sourcing": SOURCING, "stages": stages, "rules": rules or {}})
    return build_pipeline(config, bundle, Order(FUSION, FUSION))


def engine_of(stages, bundle, rules=None):
    config = PipelineConfig.model_validate({"sourcing": SOURCING, "stages": stages, "rules": rules or {}})
    return RecommendationEngine(replace(bundle, order=Order(FUSION, FUSION)), config)


def test_added_stages_stand_where_they_act_and_none_is_there_by_default(bundle):
    stages = {name: {"kind": name} for name in ("constraints", "dpp", "served", "author_decay", "near_duplicates")}
    names = [stage.name for stage in pipeline_of(stages, bundle, RULES).stages]
    assert names.index("not_seen") < names.index("served") < names.index("rules_filter") < names.index("light")
    assert names.index("utility") < names.index("author_decay") < names.index("rules_boost") < names.index("dpp")
    last = ("dpp", "diversity", "constraints", "rules_place", "safety", "near_duplicates", "select")
    assert sorted(map(names.index, set(last) & set(names))) == [names.index(n) for n in last if n in names]
    assert not {stage.name for stage in pipeline_of({}, bundle).stages} & {*KINDS, "rules_filter", "rules_place"}


def test_a_stage_whose_data_is_lacking_steps_aside_and_says_which():
    plain = planted_bundle()
    found = engine_of({"lang": {"kind": "language"}, "threads": {"kind": "conversation"}}, plain)
    assert found.notes == [
        "stage lang steps aside: it needs items with a language",
        "stage threads steps aside: it needs items with a column 'conversation_id'",
    ]
    answer = found.recommend(3)
    assert len(answer.items) == 10 and not {"lang", "threads"} & {row["stage"] for row in answer.funnel}
    assert found.recommend(3, without=["lang"]).items[0].item_id == answer.items[0].item_id


def test_a_request_leaves_an_added_stage_out_and_every_filter_is_counted(bundle):
    found = engine_of({"mine": {"kind": "language"}}, bundle)
    rows = {row["stage"]: row for row in found.recommend(1).funnel}
    assert rows["mine"]["out"] < rows["mine"]["in"]
    assert "mine" not in {row["stage"] for row in found.recommend(1, without=["mine"]).funnel}


def test_what_was_served_does_not_come_again_though_it_was_not_seen(bundle):
    found = engine_of({"served": {"kind": "served"}}, bundle)
    first = [item.item_id for item in found.recommend(1).items]
    second = [item.item_id for item in found.recommend(1, served=[*first, "nobody's"]).items]
    assert len(second) == 10 and not set(first) & set(second)
    assert [item.item_id for item in found.recommend(1).items] == first


def test_a_request_cannot_ask_for_what_no_stage_reads(bundle):
    found = engine_of({}, bundle)
    for asked in ({"adventure": 0.5}, {"served": [1]}):
        with pytest.raises(UsageError, match=f"no stage of this pipeline reads '{next(iter(asked))}'"):
            found.recommend(1, **asked)
    with pytest.raises(UsageError, match="out of bounds"):
        engine_of({"adventure": {"kind": "adventure"}}, bundle).recommend(1, adventure=2)


@pytest.mark.parametrize(("stages", "told"), [
    ({"a": {"kind": "mmr", "embeddings": "topic"}}, "pipeline.stages.a.embeddings: 'topic' has no vectors"),
    ({"a": {"kind": "constraints", "max_count": {"medai_type": 1}}}, "pipeline.stages.a: items have no category"),
    ({"a": {"kind": "mix", "by": "media_type", "shares": {"viedo": 0.5}}}, "no item has media_type 'viedo'"),
    ({"a": {"kind": "mix", "by": "author", "shares": {"x": 0.5}}}, "author is no category"),
    ({"a": {"kind": "exposure", "by": "contry"}}, "users have no category 'contry'"),
    ({"a": {"kind": "exposure", "by": "country", "shares": {"dee": 0.5}}}, "no group 'dee'"),
    ({"a": {"kind": "source_weights", "weights": {"popular": 1}}}, "there is no source 'popular'"),
])  # fmt: skip
def test_names_that_are_not_there_are_refused_as_the_pipeline_is_built(stages, told, bundle):
    with pytest.raises(ConfigError) as refused:
        pipeline_of(stages, bundle)
    assert told in refused.value.message and refused.value.hint


@pytest.mark.parametrize(("stage", "told"), [
    ({"kind": "mmrr"}, "no kind of stage 'mmrr'; did you mean 'mmr'?"),
    ({"kind": "mix", "shares": {"in_network": 0.8, "out_of_network": 0.5}}, "they sum to 1.3"),
    ({"kind": "mix", "by": "freshness", "shares": {"new": 0.5}}, "freshness has no group 'new'; old, fresh"),
    ({"kind": "mix", "by": "freshness", "shares": "own"}, "belongs to by: network"),
    ({"kind": "exposure", "shares": {"0": 0.8, "100": 0.5}}, "they sum to 1.3"),
    ({"kind": "exposure", "bounds": [100, 10]}, "they rise"),
    ({"kind": "dpp", "diversity": 1}, "pipeline.stages.a.diversity"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_their_key(stage, told):
    with pytest.raises(ConfigError) as refused:
        validate(Settings, {"pipeline": {"stages": {"a": stage}}})
    assert told in refused.value.message


def test_no_rows_of_the_batch_share_a_draw(bundle):
    found = engine_of({"set": {"kind": "k_dpp", "embeddings": "topics", "diversity": 0.9}}, bundle)
    a, b = (found.slates(np.array([1, 2], np.int32), 10, request=r).items for r in (0, 1))
    assert (a != b).any() and (np.sort(a, axis=1)[:, 1:] != np.sort(a, axis=1)[:, :-1]).all()
