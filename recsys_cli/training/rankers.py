"""The rankers of a training and the order that pays: learned on windows in time, or crosswise where rows have no
order, and once more with what the test window tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.pipeline.request_rows import RequestRows, joined
from recsys_cli.pipeline.requests import Kept
from recsys_cli.pipeline.weighted_fusion import learn_fusion, with_fusion
from recsys_cli.training import requests
from recsys_cli.training.bundles import Rankers, draft_bundle
from recsys_cli.training.folds import SIDES, crosswise, rows_without_side
from recsys_cli.training.impressions import actions_to_learn, fit_baseline_ranker, fit_heavy_ranker, heads_of, tables_of

if TYPE_CHECKING:
    from recsys_cli.features.spec import FeatureSpec
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.pipeline.order import Order
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.training.fitting import LaterFits
    from recsys_cli.training.job import TrainingJob


def rankers_in_time(
    job: TrainingJob, spec: FeatureSpec, early: dict[str, Retriever], later: LaterFits
) -> tuple[Rankers, RequestRows]:
    """The rankers, the order that pays, and the rows of requests that they learned from.

    early: sources of the history window, whose proposals are learned from; later: those after it, by some of which
    orders are compared.
    """
    bundle = draft_bundle(job, spec, early)
    with job.step("requests"), job.progress.step("requests"):
        learn, judge = requests.draft(job, job.lesson, bundle)
        rows = requests.rows_of(job, bundle, learn)
        _count(job, rows, sum(len(moment.users) for moment in learn))
    rankers = _rankers_side_by_side(job, spec, early, bundle, rows, later)
    compared = later.compared.result()
    with job.step("order"), job.progress.step("order of the lists"):
        judged = draft_bundle(job, spec, compared)
        served = rankers.serving(judged)
        kept = Kept()
        rankers.order, job.metrics["order"] = requests.choose_order(job, [(served, m) for m in judge], kept)
        if job.refit and rankers.order.of_requests:  # what was chosen by may be learned from now
            rows = joined(rows, requests.rows_of(job, judged, judge, kept=kept))
    return rankers, rows


def _rankers_side_by_side(
    job: TrainingJob, spec: FeatureSpec, early: dict[str, Retriever], bundle: Bundle, rows: RequestRows,
    later: LaterFits,
) -> Rankers:
    """The rankers of requests and those of impressions: trees on one thread beside a network on another, where there
    are two, since neither gains by a second thread of its own; the fits of sources that are not needed yet after the
    trees."""
    of_requests, heavy, baseline = job.beside.begin(_fitted, job, bundle, rows), None, None
    later.begin()
    if actions_to_learn(job):
        with job.step("training table"):
            train_table, valid_table = tables_of(job, spec, early)
        if heads := heads_of(job, train_table):
            baseline = job.beside.begin(fit_baseline_ranker, job, heads, train_table, valid_table)
        with job.step("heavy ranker"):
            heavy = fit_heavy_ranker(job, train_table, valid_table)
    rankers = of_requests.result()
    rankers.heavy, rankers.baseline = heavy, None if baseline is None else baseline.result()
    _tell(job, rankers)
    return rankers


def rankers_of(job: TrainingJob, bundle: Bundle, rows: RequestRows, order: Order | None = None) -> Rankers:
    """The rankers that learn from requests, of these those that `order` needs (all where none is chosen yet)."""
    rankers = _fitted(job, bundle, rows, order)
    _tell(job, rankers, order)
    return rankers


def _fitted(job: TrainingJob, bundle: Bundle, rows: RequestRows, order: Order | None = None) -> Rankers:
    light = relevance = None
    fusion = learn_fusion(rows, bundle.proposing)
    rows = with_fusion(rows, fusion)
    if order is None or order.ranked:
        with job.step("light ranker"):
            light = requests.fit_light(job, bundle, rows)
    if order is None or order.related:
        with job.step("relevance ranker"):
            relevance = requests.fit_relevance_ranker(job, rows)
    return Rankers(light, relevance, fusion)


def _tell(job: TrainingJob, rankers: Rankers, order: Order | None = None) -> None:
    if order is None and rankers.relevance is None and job.settings.ranking.relevance.enabled:
        job.note("no relevance ranker: too little of what the sources proposed was taken")
    if rankers.light is not None:
        of = {"taken among what was proposed": {"train_roc_auc": rankers.light.auc}}
        job.metrics["light"] = job.metrics.get("light", {}) | of


def rankers_crosswise(job: TrainingJob, spec: FeatureSpec, early: dict[str, Retriever]) -> Rankers:
    """The rankers and the order that pays where no order makes one part of a user's rows the last: each part is
    foretold from the others, and orders are compared on each group of users by rankers that learned from the rest."""
    before = job.dataset.with_log(job.dataset.log.window(end=job.windows.test_start))
    with job.step("requests"):
        folds = crosswise(job, spec, early, before, random=True)
        rows = joined(*(fold.rows for fold in folds))
        _count(job, rows, sum(len(fold.moment.users) for fold in folds))
    judge = []
    most = 2 * requests.CHOICE_USERS // (SIDES * len(folds))
    with job.step("rankers crosswise"):
        for side in range(SIDES):
            rankers = rankers_of(job, folds[0].bundle, rows_without_side(folds, side))
            for number, fold in enumerate(folds):
                # others in each fold, as far as there are enough
                places = np.roll(fold.side(side), -number * most)[:most]
                judge.append((rankers.serving(fold.bundle), fold.moment.take(np.sort(places))))
    with job.step("order"), job.progress.step("order of the lists"):
        order, job.metrics["order"] = requests.choose_order(job, judge)
    return replace(rankers_of(job, folds[0].bundle, rows, order), order=order)


def _count(job: TrainingJob, rows: RequestRows, asked: int, name: str = "all") -> None:
    job.metrics.setdefault("requests", {})[name] = {
        "rows": len(rows), "requests": asked, "wanted": rows.wanted, "proposed": rows.proposed,
    }


def learned_again(
    job: TrainingJob, spec: FeatureSpec, late: dict[str, Retriever] | None, rankers: Rankers,
    learned: RequestRows | None,
) -> Rankers:
    """The rankers of requests once more, with what the test window tells; the heavy ranker stays.

    Where rows have no order each part of all of them is foretold from the others; where people's own rows are the
    lesson, the last fifth of everybody; else the requests of the test window are added to those before. What only
    cuts candidates for the heavy ranker stays.
    """
    if late is None or not rankers.order.of_requests:
        return rankers
    parts = [] if learned is None else [requests.later_rows(job, draft_bundle(job, spec, late))]
    if learned is None or job.lesson.own:
        parts += [fold.rows for fold in crosswise(job, spec, late, job.whole, random=learned is None)]
    else:
        parts.append(learned)
    rows = joined(*parts)
    _count(job, rows, len(np.unique(rows.request)), "served")
    return _with(job, rankers, spec, late, rows)


def _with(
    job: TrainingJob, rankers: Rankers, spec: FeatureSpec, sources: dict[str, Retriever], rows: RequestRows
) -> Rankers:
    fresh = rankers_of(job, draft_bundle(job, spec, sources), rows, rankers.order)
    return replace(
        rankers, light=fresh.light or rankers.light, relevance=fresh.relevance or rankers.relevance,
        fusion=fresh.fusion or rankers.fusion,
    )
