"""What every stage promises, by its kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recsys_cli.features.context import Context
from recsys_cli.pipeline.build import Pipeline, build_pipeline
from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.stage import Filter, Hydrator, Scorer, Selector, SideEffect, Source, Stage, StageConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle

KINDS = (Source, Hydrator, Filter, Scorer, Selector, SideEffect)
NAME = "checked"
USERS = np.r_[-1, np.arange(40)].astype(np.int32)
"""Somebody unknown and some of the planted world."""
SIZE = 10


def check_stage(stage: type[Stage], config: StageConfig | None = None, bundle: Bundle | None = None) -> None:
    """Run a stage of `pipeline.stages` where its kind stands in a pipeline of a small world; AssertionError names the
    promise that it breaks.

    config: settings, by default those of the kind. bundle: in place of the world's own, where its data lacks what the
    stage needs: `planted_bundle()` with further columns. Users of the world click nine times of ten on items of their
    own community; item neighbours and popularity propose, and their fusion orders the candidates.
    """
    config = stage.config_type() if config is None else config
    _check_settings(stage, config)
    held = [kind for kind in KINDS if issubclass(stage, kind)]
    assert len(held) == 1, f"a stage is of one of the kinds {', '.join(k.__name__ for k in KINDS)}"
    bundle = planted_bundle() if bundle is None else bundle
    sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    settings = PipelineConfig.model_validate({"sourcing": sourcing}).model_copy(update={"stages": {NAME: config}})
    pipeline = build_pipeline(settings, bundle, Order(FUSION, FUSION), {config.kind: stage})
    query = Query(
        users=USERS, size=SIZE, bundle=bundle, state=bundle.state, snapshot=bundle.snapshot,
        context=Context(now=bundle.state.now), seed=1,
    )
    made = next(each for each in pipeline.stages if each.name == NAME)
    assert not made.aside, f"the data here lacks what the stage needs: {'; '.join(made.notes)}"
    assert isinstance(made.enabled(query), bool), "enabled gives True or False"
    given = Runner(query).run(pipeline.stages[: pipeline.stages.index(made)])
    out = _called(made, query, given)
    assert isinstance(out, Candidates), "a stage gives Candidates"
    _check_shapes(out, len(query))
    _same(out, _called(made, query, given), "the same query and candidates give the same")
    _CHECKS[held[0]](made, query, given, out)
    _check_alone(made, query, given, out)
    _check_nothing(made, query, given)
    _check_slates(pipeline, query)


def _check_settings(stage: type[Stage], config: StageConfig) -> None:
    assert isinstance(config, stage.config_type), "settings are those of the kind"
    kind = stage.config_type.model_fields["kind"].default
    assert kind == config.kind, "the name of the kind is the default of `kind`"
    assert stage.config_type.model_validate(config.model_dump(mode="json")) == config, "settings come back as written"


def _called(stage: Stage, query: Query, given: Candidates) -> Candidates:
    """What it gives, having left its input as it was."""
    before = Candidates(given.items.copy(), given.sources.copy(), {n: s.copy() for n, s in given.scores.items()})
    out = stage(query, given)
    _same(given, before, "the arrays that a stage is given stay as they are")
    return out


def _same(a: Candidates, b: Candidates, what: str) -> None:
    assert np.array_equal(a.items, b.items) and np.array_equal(a.sources, b.sources), what
    assert a.scores.keys() == b.scores.keys(), what
    assert all(np.array_equal(a.scores[name], b.scores[name], equal_nan=True) for name in a.scores), what


def _check_shapes(out: Candidates, users: int) -> None:
    shape = out.items.shape
    assert out.items.dtype == np.int32 and out.sources.dtype == np.uint32, "items are int32, sources uint32"
    assert shape[0] == users and out.sources.shape == shape, "items and sources are [B, K]"
    for name, score in out.scores.items():
        assert score.shape == shape and score.dtype == np.float32, f"score {name!r} is float32[B, K]"
    for row in out.items:
        listed = row[row >= 0]
        assert len(set(listed.tolist())) == len(listed), "each item stands once a user"


def _rows(candidates: Candidates) -> list[set[int]]:
    return [set(row[row >= 0].tolist()) for row in candidates.items]


def _check_source(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    assert all(a <= b for a, b in zip(_rows(given), _rows(out), strict=True)), "a source keeps what it gets"
    assert out.items.max() < query.state.catalogue.n_items, "items are positions in the catalogue"
    assert "rrf" in out.scores, 'a source gives what it adds the score "rrf"'


def _check_hydrator(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    assert np.array_equal(given.items, out.items), "a hydrator leaves candidates in their slots"
    assert all(out.scores[name] is given.scores[name] for name in given.scores), "a hydrator changes no score"
    _check_gives(stage, given, out)


def _check_filter(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    _check_subset(given, out, "a filter adds no candidates")
    for before, after in zip(given.items, out.items, strict=True):
        kept = before[np.isin(before, after[after >= 0]) & (before >= 0)]
        assert np.array_equal(kept, after[after >= 0]), "a filter keeps the order"
    if not stage.again:
        return
    every_other = np.arange(0, given.items.shape[1], 2)
    half = given.take(np.broadcast_to(every_other, (len(query), len(every_other))))
    alone, whole = _rows(stage(query, half)), _rows(out)
    expected = [a & b for a, b in zip(_rows(half), whole, strict=True)]
    assert alone == expected, "whether a candidate passes depends on no other (set `again = False` where it does)"


def _check_scorer(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    _check_subset(given, out, "a scorer adds no candidates")
    _check_gives(stage, given, out)
    assert any(_rows(out)), "a scorer leaves somebody something"


def _check_selector(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    _check_subset(given, out, "a selector adds no candidates")
    short = np.minimum(given.counts, query.size) > out.counts
    assert not short.any(), "a selector leaves enough for a slate"


def _check_side_effect(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    _same(given, out, "a side effect changes nothing of the slate")


_CHECKS: dict[type[Stage], Callable[[Stage, Query, Candidates, Candidates], None]] = {
    Source: _check_source, Hydrator: _check_hydrator, Filter: _check_filter, Scorer: _check_scorer,
    Selector: _check_selector, SideEffect: _check_side_effect,
}


def _check_subset(given: Candidates, out: Candidates, what: str) -> None:
    assert all(b <= a for a, b in zip(_rows(given), _rows(out), strict=True)), what


def _check_gives(stage: Stage, given: Candidates, out: Candidates) -> None:
    new = [name for name in out.scores if name not in given.scores]
    families = tuple(name for name in stage.gives if name.endswith("_"))
    untold = [name for name in new if name not in stage.gives and not name.startswith(families)]
    assert not untold, f"`gives` names the scores that it adds, which are {', '.join(new)}"
    for name in new:
        assert np.isfinite(out.scores[name][out.filled]).all(), f"score {name!r} is finite"


def _check_alone(stage: Stage, query: Query, given: Candidates, out: Candidates) -> None:
    for row in (0, 1, len(query) - 1):
        part = slice(row, row + 1)
        alone = stage(replace(query, users=query.users[part]), given.rows(part)).items[0]
        assert np.array_equal(alone[alone >= 0], out.items[row][out.items[row] >= 0]), "a user gets the same alone"


def _check_nothing(stage: Stage, query: Query, given: Candidates) -> None:
    nobody = stage(replace(query, users=query.users[:0]), given.rows(slice(0, 0)))
    assert nobody.items.shape[0] == 0, "a query of nobody is no error"
    out = stage(query, given.take(np.zeros((len(query), 0), np.int64)))
    assert out.items.shape[0] == len(query), "users without candidates are no error"


def _check_slates(pipeline: Pipeline, query: Query) -> None:
    slates = Runner(query).run(pipeline.stages)
    assert slates.items.shape == (len(query), SIZE), "the pipeline with it gives slates of the size asked for"
    _check_shapes(slates, len(query))
