"""Stages run in the order of the settings within the rules of their kinds; one that fails leaves the request alive."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError, UsageError
from recsys_cli.pipeline.added import STAGE_KINDS
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.pipeline.registry import STAGES
from recsys_cli.pipeline.sequence import check_sequence, usual_sequence
from recsys_cli.pipeline.stage import Filter, Hydrator, Scorer, Selector, SideEffect, Source, StageConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle
from recsys_cli.tracelog import TraceLog

SOURCING = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
USUAL = list(STAGES)
CLASSES = {name: entry.kind for name, entry in STAGES.items()}
USERS = np.arange(30, dtype=np.int32)


@pytest.fixture(scope="module")
def bundle():
    return planted_bundle()


@pytest.fixture
def engine(bundle, monkeypatch):
    """Makes an engine of the planted world; stages: name → class, added under that name."""

    def make(stages=None, trace=None, **settings):
        config = PipelineConfig.model_validate({"sourcing": SOURCING, **settings})
        for name, stage in (stages or {}).items():
            monkeypatch.setitem(STAGE_KINDS, name, stage)
        added = {name: StageConfig(kind=name) for name in stages or {}}
        more = {} if trace is None else {"trace": trace}
        return RecommendationEngine(bundle, config.model_copy(update={"stages": added}), **more)

    return make


class Even(Filter):
    """Leaves out items at odd positions."""

    def keep(self, query, candidates):
        return candidates.items % 2 == 0


class Broken(Hydrator):
    def scores(self, query, candidates):
        raise RuntimeError("no\nanswer")


class Told(SideEffect):
    def __init__(self, config):
        super().__init__(config)
        self.slates = []

    def act(self, query, slate):
        self.slates.append(slate.items)


def moved(name: str, before: str) -> list[str]:
    names = [n for n in USUAL if n != name]
    names.insert(names.index(before), name)
    return names


@pytest.mark.parametrize(
    ("sequence", "told", "hint"),
    [
        (["ligth", *USUAL[1:]], "there is no stage 'ligth'", "did you mean 'light'"),
        ([*USUAL, "light"], "'light' stands twice", "once"),
        (USUAL[:-2], "leaves out select, predictions", "switched off by its own settings"),
        (moved("published", "sources"), "'published' stands first and is no source", "begin with a source"),
        (moved("utility", "light"), "'utility' stands before 'light'", "put 'light' first"),
        (moved("hydrate", "fallback"), "'hydrate' stands before 'fallback'", "put 'fallback' first"),
        (moved("policy", "select"), "'utility' stands before 'policy', but it reads the scores safety_factor", ""),
        (moved("safety", "diversity"), "'safety' stands before 'diversity', but it checks what all others leave", ""),
        (moved("select", "safety"), "'select' stands before 'safety', but nothing is filtered", ""),
        (moved("fallback", "explore"), "'hydrate' stands before 'fallback', but it reads the scores rrf, rank_", ""),
        (moved("explore", "utility"), "'explore' stands before 'utility', but sources come before scorers", ""),
    ],
)
def test_an_order_that_cannot_be_is_refused_with_the_stages_and_the_reason(bundle, sequence, told, hint):
    with pytest.raises(ConfigError) as refused:
        build_pipeline(PipelineConfig(sourcing=SOURCING, sequence=sequence), bundle)
    assert told in refused.value.message and hint in refused.value.hint and "\n" not in refused.value.message


@given(st.lists(st.integers(0, len(USUAL) - 2), max_size=60))
def test_every_order_that_passes_keeps_what_slates_rest_on(swaps):
    names = list(USUAL)
    for i in swaps:  # neighbours change places wherever the rules let them
        tried = [*names[:i], names[i + 1], names[i], *names[i + 2 :]]
        try:
            check_sequence(tried, CLASSES)
        except ConfigError:
            continue
        names = tried
    at = {name: place for place, name in enumerate(names)}
    assert at["sources"] == 0 and at["fallback"] < at["hydrate"] < at["light"] < at["utility"] < at["explore"]
    assert max(at["light"], at["relevance"], at["heavy"], at["policy"]) < at["utility"]
    assert max(at["explore"], at["diversity"], at["utility"]) < at["safety"] < at["select"]


def test_the_settings_may_change_the_order_and_the_slates_follow_it(engine):
    usual = engine(diversity={"enabled": True}, exploration={"enabled": True, "epsilon": 0.5})
    sequence = moved("not_seen", "published")
    sequence.remove("explore")
    sequence.insert(sequence.index("diversity"), "explore")
    changed = usual.with_pipeline(usual.pipeline.model_copy(update={"sequence": sequence}))
    first, second = usual.slates(USERS), changed.slates(USERS)
    assert [r.name for r in second.funnel] == [n for n in sequence if n in {r.name for r in first.funnel}]
    assert not np.array_equal(first.items, second.items)  # caps after exploration are not exploration after caps
    assert (first.scores["propensity"] > 0).all()
    assert not second.scores["propensity"].any()  # what stands behind changes slates: nobody knows their probability
    assert any("diversity stands behind explore" in note for note in changed.notes)


@pytest.mark.parametrize(
    ("kind", "behind", "before"),
    [
        (Source, "sources", "promoted_items"), (Filter, "not_seen", "fallback"), (Hydrator, "hydrate", "light"),
        (Scorer, "newcomers", "diversity"), (Selector, "diversity", "explore"), (SideEffect, "predictions", None),
    ],
)
def test_an_added_stage_stands_where_its_kind_belongs(kind, behind, before):
    names = usual_sequence(CLASSES, {"new": kind})
    at = names.index("new")
    assert names[at - 1] == behind and (names[at + 1] if at + 1 < len(names) else None) == before
    check_sequence(names, CLASSES | {"new": kind})


def test_a_source_that_fails_is_left_out_and_told(engine, bundle, monkeypatch, tmp_path):
    served = engine(trace=TraceLog(tmp_path))
    whole = served.slates(USERS)

    def fail(*given):
        raise ValueError("index is gone")

    monkeypatch.setattr(bundle.retrievers["item_neighbours"], "retrieve", fail)
    answer = served.recommend(3)
    told = "source item_neighbours failed and is left out: ValueError: index is gone"
    assert len(answer.items) == 10 and answer.failures == [told] and told in answer.notes
    assert {s for item in answer.items for s in item.sources} == {"popularity"}
    event = json.loads((next(tmp_path.glob("*.jsonl")).read_text()).splitlines()[-1])
    assert event["failures"] == [{"part": "source item_neighbours", "error": "ValueError: index is gone"}]
    with pytest.raises(ValueError, match="index is gone"):  # what measures must not measure the rest
        served.slates(USERS, keep_sourced=True)
    assert not whole.failures


def test_slates_are_filled_up_where_every_source_fails(engine, bundle, monkeypatch):
    real = bundle.retrievers["popularity"].retrieve
    calls = []

    def once(*given):
        calls.append(given)
        if len(calls) == 1:
            raise ValueError("busy")
        return real(*given)

    monkeypatch.setattr(bundle.retrievers["popularity"], "retrieve", once)
    batch = engine(sourcing={"shares": {"popularity": 1.0}, "fallback": ["popularity"]}).slates(USERS)
    assert (batch.items >= 0).all() and set(batch.fallback) == {"too few candidates"}
    assert [f.part for f in batch.failures] == ["source popularity"]


def test_what_fails_for_some_users_of_many_leaves_the_others_their_scores(engine):
    class Sometimes(Hydrator):
        def scores(self, query, candidates):
            if 3 in query.users:
                raise RuntimeError("busy")
            return {"extra": np.ones(candidates.items.shape, np.float32)}

    batch = engine({"extra": Sometimes}, batch_size=10).slates(USERS)
    assert batch.scores["extra"].tolist() == [[0.0] * 10] * 10 + [[1.0] * 10] * 20
    assert [r.name for r in batch.funnel].count("extra") == 1 and len(batch.failures) == 1


def test_a_hydrator_that_fails_changes_nothing_and_is_told_once(engine):
    plain, broken = engine(batch_size=8), engine({"extra": Broken}, batch_size=8)
    batch = broken.slates(USERS)
    assert np.array_equal(batch.items, plain.slates(USERS).items)
    assert [str(f) for f in batch.failures] == ["extra failed and is left out: RuntimeError: no answer"]


def test_a_filter_that_fails_stops_the_request(engine):
    class Unsure(Filter):
        def keep(self, query, candidates):
            raise RuntimeError("unsure")

    with pytest.raises(RuntimeError, match="unsure"):
        engine({"unsure": Unsure}).slates(USERS)


def test_an_added_filter_holds_for_what_fills_short_lists_and_for_the_slate(engine):
    class Odd(Scorer):
        """Brings odd items back, as a stage with a mistake might."""

        def __call__(self, query, candidates):
            return replace(candidates, items=np.where(candidates.filled, candidates.items + 1, -1))

    few = {"shares": {"popularity": 1.0}, "fallback": ["popularity"], "candidates": 3}
    batch = engine({"even": Even}, sourcing=few).slates(USERS)
    filled = batch.items >= 0
    assert filled.all() and (batch.items % 2 == 0)[filled].all()
    assert set(batch.fallback) == {"too few candidates"}
    spoiled = engine({"even": Even, "odd": Odd}).slates(USERS)
    assert not (spoiled.items >= 0).any()


def test_a_request_leaves_stages_out_and_filters_then_hold_nowhere(engine):
    served = engine({"even": Even})
    assert (served.slates(USERS).items % 2 == 0).all()
    batch = served.slates(USERS, without=["even"])
    assert (batch.items % 2 == 1).any() and "even" not in [r.name for r in batch.funnel]
    assert np.array_equal(batch.items, engine().slates(USERS).items)
    assert len(served.recommend(1, without=["light", "hydrate", "fallback"]).items) == 10


@pytest.mark.parametrize(
    ("name", "told", "hint"),
    [("ligth", "not in this pipeline", "'light'"), ("safety", "needed for every slate", "fresh"),
     ("utility", "needed for every slate", "fresh"), ("explore", "not in this pipeline", "fresh")],
)
def test_what_cannot_be_left_out_is_refused(engine, name, told, hint):
    with pytest.raises(UsageError) as refused:
        engine().slates(USERS, without=[name])
    assert told in refused.value.message and hint in refused.value.hint


def test_a_stage_may_step_aside_for_a_request(engine):
    class Unwanted(Even):
        def enabled(self, query):
            return query.size < 5

    served = engine({"even": Unwanted})
    assert np.array_equal(served.slates(USERS).items, engine().slates(USERS).items)
    assert (served.slates(USERS, 4).items % 2 == 0).all()


def test_a_side_effect_sees_the_slates_and_its_failure_leaves_them(engine):
    class Late(Told):
        def act(self, query, slate):
            raise OSError("disk full")

    served = engine({"told": Told, "late": Late}, batch_size=64)
    batch = served.slates(USERS)
    told = next(stage for stage in served.stages.stages if stage.name == "told")
    assert np.array_equal(told.slates[0], batch.items)
    assert [str(f) for f in batch.failures] == ["late failed and is left out: OSError: disk full"]


def test_the_runner_counts_what_comes_in_and_goes_out_over_all_batches(engine):
    one, many = engine(batch_size=64).slates(USERS), engine(batch_size=7).slates(USERS)
    assert [r.name for r in one.funnel] == [r.name for r in many.funnel]
    for a, b in zip(one.funnel, many.funnel, strict=True):
        assert (a.before, a.after) == (pytest.approx(b.before), pytest.approx(b.after)) and b.ms > 0
    assert one.funnel[0].before == 0 and one.funnel[-1].after == 10
    assert all(a.after == b.before for a, b in zip(one.funnel, one.funnel[1:], strict=False))


def test_candidates_are_gathered_up_to_hydration_and_no_further(bundle):
    pipeline = build_pipeline(PipelineConfig(sourcing=SOURCING), bundle, Order(FUSION, FUSION))
    assert [s.name for s in pipeline.gathering][-2:] == ["fallback", "hydrate"]
    assert [s.name for s in pipeline.sourcing] == ["sources"] and pipeline.filtering[-1].name == "not_seen"
    assert [s.name for s in pipeline.ranking] == ["light", "utility"]
    assert pipeline.stages == pipeline.gathering + pipeline.ranking + pipeline.selection


def test_settings_of_a_stage_that_nobody_installed_are_refused():
    with pytest.raises(ValueError, match="no kind of stage 'bost'; known are: mmr, dpp"):
        PipelineConfig.model_validate({"stages": {"mine": {"kind": "bost", "factor": 2}}})
