"""What diversity costs: accuracy and variety of the same ranking re-ranked with more and more weight on variety.

And what the light ranker's cut costs: the same people's lists with nothing cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.cluster import Here
from recsys_cli.errors import UsageError, did_you_mean
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.figures import interval
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.truth import sample_users
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.order import HEAVY
from recsys_cli.pipeline.runner import Runner

if TYPE_CHECKING:
    from recsys_cli.cluster import Tasks
    from recsys_cli.distributed.engines import SharedEngine
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.truth import Truth
    from recsys_cli.pipeline.candidates import Candidates
    from recsys_cli.progress import Progress

WEIGHT_OF = {"mmr": "diversity", "dpp": "diversity", "calibration": "calibration"}
"""Kind of stage → its setting that weighs variety against relevance (λ)."""
WEIGHTS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)
PLAIN, SERVED = "relevance alone", "as served"
MOST = 1000
"""Users of the frontier at most, drawn with the seed."""
CUT_USERS = 200
"""Users whose lists are made without the cut at most: the heavy ranker scores everything for them."""
MEASURED = ("ndcg", "diversity", "authors")


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises UsageError for a stage that has no weight of variety."""
    for kind in kinds:
        if kind not in WEIGHT_OF:
            known = f"known: {', '.join(WEIGHT_OF)}"
            raise UsageError(f"no frontier over {kind!r}", did_you_mean(kind, list(WEIGHT_OF), known))


def frontier(
    engine: RecommendationEngine, truth: Truth, kinds: Sequence[str], k: int, progress: Progress, *, resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Accuracy and variety of the first k by kind of stage and weight: "k", "users", "rows", "notes".

    Every setting re-ranks the same ranking of the same people, without caps, exploration and the stages of the
    settings; `SERVED` is the pipeline as it stands. Rows: "kind", "weight", "metrics" (`MEASURED` and coverage, with
    intervals), "change" (NDCG less that of relevance alone, user by user) and "best": nothing else measured here is at
    least as good in both NDCG and topic diversity and better in one. engine: as of the start of the test window.
    """
    truth = sample_users(truth, MOST, seed)
    plain = engine.pipeline.model_dump(mode="json") | {
        "diversity": {"enabled": False}, "exploration": {"enabled": False}, "stages": {}, "sequence": [],
    }  # fmt: skip
    engines = {(PLAIN, None): engine.with_pipeline(PipelineConfig.model_validate(plain)), (SERVED, None): engine}
    notes = []
    for kind in kinds:
        for weight in WEIGHTS:
            stage = {kind: {"kind": kind, WEIGHT_OF[kind]: weight}}
            with_stage = engine.with_pipeline(PipelineConfig.model_validate({**plain, "stages": stage}))
            if with_stage.notes != engines[PLAIN, None].notes:
                notes += [note for note in with_stage.notes if note not in notes]
                break
            engines[kind, weight] = with_stage
    size = engine.pipeline.batch_size
    lists = {key: np.full((len(truth.users), k), -1, np.int32) for key in engines}
    with progress.step("diversity–accuracy frontier", total=-(-len(truth.users) // size)) as bar:
        for start in range(0, len(truth.users), size):
            users = truth.users[start : start + size]
            ranked = engines[PLAIN, None].slates(users, k, keep_sourced=True).ranked
            for key, one in engines.items():
                lists[key][start : start + size] = _selected(one, users, k, ranked)
            bar.advance()
    rows = _rows(engine, truth, lists, k, resamples, seed)
    return {"k": k, "users": len(truth.users), "rows": rows, "notes": notes}


def _selected(engine: RecommendationEngine, users: np.ndarray, k: int, ranked: Candidates) -> np.ndarray:
    """int32[B, k] what the last stages of an engine make of a ranking."""
    query = engine.query(users, k)
    items = Runner(query, ranked).run(engine.stages.selection).items[:, :k]
    return np.pad(items, ((0, 0), (0, k - items.shape[1])), constant_values=-1)


def _rows(
    engine: RecommendationEngine, truth: Truth, lists: dict[tuple[str, float | None], np.ndarray], k: int,
    resamples: int, seed: int,
) -> list[dict[str, Any]]:
    catalogue, counts = engine.state.catalogue, truth.relevant.lengths
    accurate = {key: rm.ndcg(rm.hits(items, truth.relevant), counts, k) for key, items in lists.items()}
    out = []
    for key, items in lists.items():
        columns = np.stack(
            [accurate[key], rm.intra_list_diversity(items, k, catalogue.item_topics),
             rm.distinct_per_list(items, k, catalogue.item_author), accurate[key] - accurate[PLAIN, None]], axis=1
        )  # fmt: skip
        unit = np.array([True, True, True, False])
        figures = bootstrap_means(columns, resamples=resamples, seed=seed, unit=unit)
        *found, change = (interval(*f) for f in zip(*figures, strict=True))
        cover = interval(*rm.coverage(items, k, int(engine.state.available.sum())))
        metrics = dict(zip(MEASURED, found, strict=True)) | {"coverage": cover}
        out.append({"kind": key[0], "weight": key[1], "metrics": metrics, "change": change})
    points = np.array([[row["metrics"][m]["value"] for m in ("ndcg", "diversity")] for row in out])
    for row, point in zip(out, points, strict=True):
        beaten = (points >= point).all(axis=1) & (points > point).any(axis=1)
        row["best"] = not beaten.any()
    return out


def regret_of_cut(
    engine: RecommendationEngine, truth: Truth, k: int, progress: Progress, *, resamples: int, seed: int,
    tasks: Tasks | None = None, shared: RecommendationEngine | SharedEngine | None = None,
) -> dict[str, Any] | None:
    """What the light ranker's cut takes from the first k of the heavy ranker's order; None where nothing is cut.

    "users" (drawn with the seed), "keep", "candidates" a user before the cut, "kept": share of the first k of the uncut
    order that the cut leaves, "utility": share of their predicted utility that is lost (relative to the least useful
    candidate left), "ndcg": that of the uncut order less that of the cut one, user by user, each with its interval.
    tasks, shared: as of `what_stages_bring`.
    """
    pipeline, bundle = engine.pipeline, engine.bundle
    if HEAVY not in engine.order.orders or bundle.light is None or not pipeline.light.enabled:
        return None
    part = sample_users(truth, CUT_USERS, seed)
    figures, candidates = [], []
    size = min(pipeline.batch_size, 64)
    with progress.step("regret of the cut", total=-(-len(part.users) // size)) as bar:
        starts = range(0, len(part.users), size)
        batches = (part.take(np.arange(start, min(start + size, len(part.users)))) for start in starts)
        for found, proposed in (tasks or Here()).map(_with_and_without_cut, batches, shared or engine, k):
            figures.append(found)
            candidates.append(proposed)
            bar.advance()
    counts = np.concatenate(candidates)
    if not (counts > pipeline.light.keep).any():
        return None
    unit = np.array([True, True, False])
    means = bootstrap_means(np.concatenate(figures), resamples=resamples, seed=seed, unit=unit)
    found = [interval(*f) for f in zip(*means, strict=True)]
    return {
        "users": len(part.users), "k": k, "keep": pipeline.light.keep, "candidates": round(float(counts.mean()), 1),
        **dict(zip(("kept", "utility", "ndcg"), found, strict=True)),
    }


def _with_and_without_cut(engine: RecommendationEngine, k: int, mine: Truth) -> tuple[np.ndarray, np.ndarray]:
    """(`cut_figures` of some users, int[B] candidates before the cut)."""
    light = engine.pipeline.light.model_copy(update={"keep": 2**30})
    uncut = engine.with_pipeline(engine.pipeline.model_copy(update={"light": light}))
    cut = engine.slates(mine.users, k, keep_sourced=True)
    whole = uncut.slates(mine.users, k, keep_sourced=True, hydrated=cut.hydrated)
    return cut_figures(whole.ranked, cut.ranked, mine, k), cut.hydrated.filled.sum(axis=1)


def cut_figures(whole: Candidates, cut: Candidates, truth: Truth, k: int) -> np.ndarray:
    """float64[B, 3]: share of the first k of `whole` that `cut` holds, share of their utility lost, NDCG lost.

    whole, cut: the orders of the same users without and with the cut, best first, with their "utility".
    """
    k = min(k, whole.items.shape[1])
    first, filled = whole.items[:, :k], whole.items[:, :k] >= 0
    held = (first[:, :, None] == cut.items[:, None, :]).any(axis=2) & filled
    utility = [np.where(c.filled, c.scores["utility"], np.nan).astype(float) for c in (whole, cut)]
    least = np.fmin(*(np.nanmin(np.where(np.isfinite(u), u, np.inf), axis=1, initial=np.inf) for u in utility))
    above = [np.nansum(u[:, :k] - least[:, None], axis=1) for u in utility]
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = held.sum(axis=1) / filled.sum(axis=1)
        lost = np.where(above[0] > 0, 1 - above[1] / above[0], 0.0)
    better, worse = (rm.ndcg(rm.hits(c.items, truth.relevant), truth.relevant.lengths, k) for c in (whole, cut))
    return np.stack([kept, np.clip(lost, 0, 1), better - worse], axis=1)
