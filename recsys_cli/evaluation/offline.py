"""The offline evaluator: the whole funnel and every source alone, as of the start of the test window.

Everything is served by the engine that also answers requests, from a state that knows only what came
before the cutoff; what people turned to afterwards is the truth.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.cluster import Here
from recsys_cli.data.windows.split import split_again
from recsys_cli.distributed.engines import shared_engine
from recsys_cli.errors import ArtifactError
from recsys_cli.evaluation.beyond import Beyond
from recsys_cli.evaluation.examples import examples
from recsys_cli.evaluation.figures import Figures, headline, others_of
from recsys_cli.evaluation.frontier import frontier, regret_of_cut
from recsys_cli.evaluation.growth import Growth
from recsys_cli.evaluation.impressions import impressions_by_task, measure_impressions
from recsys_cli.evaluation.lists import within_catalogue
from recsys_cli.evaluation.oracle import Oracle, logged_responses
from recsys_cli.evaluation.period import remarks, test_window, truth_of_test
from recsys_cli.evaluation.rankings import Rankings
from recsys_cli.evaluation.stage_costs import what_stages_bring
from recsys_cli.evaluation.targets import check_targets
from recsys_cli.evaluation.truth import Truth, sample_users
from recsys_cli.pipeline.debiasing.examination import examination, examination_rows
from recsys_cli.progress import Progress
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recsys_cli.cluster import Outcome, Tasks
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.data.windows.windows import Split
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.ranking.serving.served import ServedRanker

SHOWN_FROM = 200
"""Test users, drawn with the seed, of whom a few are shown with their lists."""


def evaluate(
    engine: RecommendationEngine,
    dataset: Dataset,
    config: EvaluationConfig,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
    baseline: ServedRanker | None = None,
    growth: bool = False,
    frontier_of: Sequence[str] = (),
    tasks: Tasks | None = None,
) -> dict[str, Any]:
    """Measure a run on the test window of its dataset; the report's fields: `recsys docs evaluation`.

    baseline: the trees that predictions are compared with. growth: measure the growth curve too.
    frontier_of: kinds of stages over whose weight the diversity–accuracy frontier is measured (`frontier.WEIGHT_OF`).
    tasks: where lists are made, here where None; on a cluster the engine must have been loaded with `measured`.

    Raises ArtifactError where the run was trained on other data or refitted on everything, and DataError
    where the test window holds no interaction to find.
    """
    check_run(engine, dataset)
    progress, started = progress or Progress(), time.perf_counter()
    split = split_again(engine.manifest.windows, dataset)
    windows, log, dataset = split.windows, split.log, dataset.with_log(split.log)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    with trace.timed("evaluate.state"):
        past = engine.as_of(log, windows.test_start, **edges)
    config = config.model_copy(update={"k": within_catalogue(config.k, past.state.catalogue.n_items)})
    truth, others = _people(past, dataset, split, config, seed)
    left_out, tasks = _left_out(past, dataset), tasks or Here()
    shared = shared_engine(past, tasks, measured=True, as_of=True)
    known = None
    if "predictions" not in left_out:
        known = _impressions(shared, tasks, dataset, split, edges, config, seed, baseline)
    with trace.timed("evaluate.rankings", users=len(truth.users)):
        beyond, size = Beyond.of(past, dataset, truth.users), past.pipeline.slate_size
        figures = Figures(past.state, log, windows.end, truth, config, seed, size, others, beyond)
        rankings = Rankings(past, truth, config, seed, progress, figures, Oracle.of(dataset, past), tasks, shared)
        rankings = rankings.measure()
    left_out |= beyond.lacks
    k, drawn = headline(config.k, past.pipeline.slate_size), {"resamples": config.resamples, "seed": seed}
    by_tasks = {"tasks": tasks, "shared": shared, **drawn}
    curve = Growth(past, log, edges, truth, seed, config.resamples) if growth else None
    with trace.timed("evaluate.impressions"), progress.step("logged impressions"):
        impressions = None if known is None else known.result()
    document = {
        **_asked(past, split, config, seed, truth, others),
        **rankings,
        "examples": examples(past, sample_users(truth, SHOWN_FROM, seed)),
        "stages": what_stages_bring(past, truth, k, progress, **by_tasks),
        "cut": regret_of_cut(past, truth, k, progress, **by_tasks),
        "frontier": frontier(past, truth, frontier_of, k, progress, **drawn) if frontier_of else None,
        "growth": _curve(curve, k, progress, left_out),
        "impressions": impressions,
        "positions": _positions(log, left_out, seed),
        "left_out": left_out,
    }
    return document | {"targets": check_targets(document), "seconds": round(time.perf_counter() - started, 3)}


def _asked(
    past: RecommendationEngine, split: Split, config: EvaluationConfig, seed: int, truth: Truth, others: np.ndarray
) -> dict[str, Any]:
    """What was measured, on whom, and by which truth."""
    return {
        **_of_run(past),
        "window": test_window(split),
        "remarks": remarks(truth, past.state),
        "seed": seed,
        "k": list(config.k),
        "truths": config.truths,
        "truth": truth.summary,
        "users": len(truth.users),
        "replayed_users": len(truth.users) + len(others) if split.log.propensity is not None else None,
    }


def _people(past, dataset, split, config, seed) -> tuple[Truth, np.ndarray]:
    """What the test users turned to, and the users of the window's log besides."""
    truth = truth_of_test(past, dataset, split, past.state, config)
    share = (config.users or np.inf) / len(truth.users)
    others = others_of(dataset.log.window(split.windows.test_start, split.windows.end), truth, share, seed)
    return sample_users(truth, config.users, seed), others


def _impressions(shared, tasks: Tasks, dataset, split, edges, config, seed, baseline) -> Outcome:
    """What `measure_impressions` will give: on a cluster it is done beside the lists."""
    known = logged_responses(dataset, split.windows.test_start, split.windows.end, split.order)
    if isinstance(tasks, Here):
        return tasks.begin(measure_impressions, shared, dataset, edges, config, seed, baseline, known)
    given = tasks.share((dataset, edges, known))
    return tasks.begin(impressions_by_task, shared, given, config, seed, baseline is not None)


def _positions(log: Log, left_out: dict[str, str], seed: int) -> list[dict[str, Any]]:
    """How often each place is examined as a multiple of the first, by the whole log; `left_out` says why it is
    unknown."""
    found = None
    if log.position is not None:
        found = examination(log.user, log.item, log.position.astype(np.int64), log.positive, seed=seed)
    if found is None:
        left_out["position bias"] = "no items stood in several known places often enough"
        return []
    return examination_rows(found)


def _of_run(engine: RecommendationEngine) -> dict[str, Any]:
    """What the manifest of the run says, and what could be listed at the moment of the engine."""
    manifest, state = engine.manifest, engine.state
    return {
        "run": manifest.id,
        "dataset": {"name": manifest.dataset.name, "digest": manifest.dataset.digest},
        "slate_size": engine.pipeline.slate_size,
        "catalogue": {"items": state.catalogue.n_items, "available": int(state.available.sum())},
        "order": manifest.metrics.get("order", {}),
        "notes": list(manifest.notes),
    }


def _curve(growth: Growth | None, k: int, progress: Progress, left_out: dict[str, str]) -> dict[str, Any] | None:
    """The growth curve where it is asked for, or why there is none in `left_out`."""
    if growth is None:
        return None
    curve = growth.measure(k, progress)
    if curve is None:
        left_out["growth curve"] = "too few test users have a history long enough to leave some of it out"
    return curve


def _left_out(engine: RecommendationEngine, dataset: Dataset) -> dict[str, str]:
    """Figures that the data cannot give → why not."""
    out, catalogue = {}, engine.state.catalogue
    if engine.bundle.heavy is None:
        out["predictions"] = "the run has no heavy ranker"
    elif not dataset.manifest.negatives_observed:
        out["predictions"] = "every row of the log is an interaction: what was shown and left alone is not in it"
    if not len(catalogue.item_topics.values):
        out["topic diversity"] = "no item has topics"
    if (catalogue.item_author < 0).all():
        out["distinct authors"] = "no item has an author"
    return out


def check_run(engine: RecommendationEngine, dataset: Dataset) -> None:
    """Raises ArtifactError where the run cannot be measured on the dataset."""
    manifest = engine.manifest
    if manifest.final:
        raise ArtifactError(
            f"run {manifest.id} was trained with --final on everything: nothing is left to measure it on",
            "evaluate a run trained without --final (`recsys runs list`, then --run ID)",
        )
    if dataset.manifest.digest != manifest.dataset.digest:
        raise ArtifactError(
            f"run {manifest.id} was trained on {manifest.dataset.name} ({manifest.dataset.digest[:12]}), "
            f"but {dataset.path} holds other rows ({dataset.manifest.digest[:12]})",
            "name the dataset of the run with --data-dir or -c, or train again",
        )
