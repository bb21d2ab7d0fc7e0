"""What each stage costs and brings: its milliseconds beside what the same slates are without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.cluster import Here
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.figures import interval
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.truth import Truth, sample_users
from recsys_cli.pipeline.runner import Runner

if TYPE_CHECKING:
    from recsys_cli.cluster import Tasks
    from recsys_cli.distributed.engines import SharedEngine
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.pipeline.candidates import Candidates
    from recsys_cli.progress import Progress

MOST = 500
"""Users whose slates are made again without each stage at most, drawn with the seed."""
BROUGHT = ("ndcg", "diversity", "authors")
"""What a stage brings is told by these; `changed` is the share of slates that it changes."""


def what_stages_bring(
    engine: RecommendationEngine, truth: Truth, k: int, progress: Progress, *, resamples: int, seed: int,
    tasks: Tasks | None = None, shared: RecommendationEngine | SharedEngine | None = None,
) -> list[dict[str, Any]]:
    """A row for each stage behind the ranking that a request can leave out: "stage", "users", "changed", and "ndcg",
    "diversity" and "authors" of the slates with it less those of the same ranking without it, user by user.

    engine: as of the start of the test window. Filters and sources are told of by where items are lost, and by
    `--ablate`. tasks: where it is done, here where None; shared: the engine as tasks are given it.
    """
    names = [stage.name for stage in engine.stages.selection if not (stage.needed or stage.aside)]
    part = sample_users(truth, MOST, seed)
    if not names or not len(part.users):
        return []
    size, k = engine.pipeline.batch_size, min(k, engine.pipeline.slate_size)
    lists = {name: np.full((len(part.users), k), -1, np.int32) for name in ("", *names)}
    ran: set[str] = set()
    with progress.step("what each stage brings", total=-(-len(part.users) // size)) as bar:
        starts = range(0, len(part.users), size)
        users = (part.users[start : start + size] for start in starts)
        for start, made in zip(starts, (tasks or Here()).map(_with_and_without, users, shared or engine, names, k),
                               strict=True):  # fmt: skip
            for name, (items, records) in made.items():
                ran |= records if not name else set()
                lists[name][start : start + size, : items.shape[1]] = items
            bar.advance()
    return [_row(engine, part, name, lists[""], lists[name], k, resamples, seed) for name in names if name in ran]


def _with_and_without(
    engine: RecommendationEngine, names: list[str], k: int, users: np.ndarray
) -> dict[str, tuple[np.ndarray, set[str]]]:
    """"" and name of a stage → (first k of the slates with all stages, or without that one, the stages that ran)."""
    ranked = engine.slates(users, keep_sourced=True).ranked
    made = {name: _selected(engine, users, ranked, frozenset([name] if name else [])) for name in ("", *names)}
    return {name: (items[:, :k], ran) for name, (items, ran) in made.items()}


def _selected(
    engine: RecommendationEngine, users: np.ndarray, ranked: Candidates, without: frozenset[str]
) -> tuple[np.ndarray, set[str]]:
    """(int32[B, n] what the last stages make of a ranking, the stages that ran)"""
    runner = Runner(engine.query(users, without=without), ranked)
    items = runner.run(engine.stages.selection).items
    return items, {record.name for record in runner.records}


def _row(
    engine: RecommendationEngine, truth: Truth, name: str, whole: np.ndarray, less: np.ndarray, k: int, resamples: int,
    seed: int,
) -> dict[str, Any]:
    catalogue, counts = engine.state.catalogue, truth.relevant.lengths

    def figures(items: np.ndarray) -> np.ndarray:
        return np.stack([
            rm.ndcg(rm.hits(items, truth.relevant), counts, k),
            rm.intra_list_diversity(items, k, catalogue.item_topics),
            rm.distinct_per_list(items, k, catalogue.item_author),
        ], axis=1)  # fmt: skip

    changes = bootstrap_means(figures(whole) - figures(less), resamples=resamples, seed=seed)
    told = dict(zip(BROUGHT, (interval(*each) for each in zip(*changes, strict=True)), strict=True))
    return {"stage": name, "users": len(truth.users), "changed": float((whole != less).any(axis=1).mean()), **told}
