"""What training learns from requests: rows for the light and the relevance ranker, and the order that pays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import DataError
from recsys_cli.parallel import torch_threads
from recsys_cli.pipeline.choose import (
    NAMED,
    Criterion,
    Lists,
    caps_pay,
    choose,
    every_order,
    ndcg_criterion,
    with_caps,
)
from recsys_cli.pipeline.order import FUSION, Order
from recsys_cli.pipeline.request_features import request_feature_names
from recsys_cli.pipeline.request_rows import TAKEN, RequestRows
from recsys_cli.pipeline.requests import Kept, Moment, moment_of, moments_between, request_rows
from recsys_cli.ranking.light import LightRanker, fit_linear
from recsys_cli.ranking.relevance import fit_relevance
from recsys_cli.replay import replayed
from recsys_cli.training.warranted import met_before

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.ranking.trees.ranker import TreeRanker
    from recsys_cli.training.job import TrainingJob

FEW_KNOWN = 300
"""Known users with something to find in the ranker's window; with fewer, requests are made a user instead."""
PER_USER = WindowsConfig(split="last", history_share=0.7, validation_share=0.125, test_share=0.1)
"""How each user's rows before the test window are then cut."""
CHOICE_USERS = 2_000
"""Users of the validation window on whom orders are compared at most."""
FEWEST_SHOWN = 100
"""Interactions with listed items that the window's log must hold for an estimate by propensity."""
OF_TIME = ("ages", "sessions", "clock")
"""What features of age, visits and the clock are taken from."""
LOGGED_SHARE = 0.5
"""Share of the validation window's rows with a propensity from which on the choice is made by it."""


@dataclass(frozen=True)
class Lesson:
    """The log and windows by which rankers learn: those that measure, or each user's own where those hold too few
    people who are known."""

    dataset: Dataset
    windows: Windows
    own: bool = False
    """whether they are each user's own"""


def lesson_of(job: TrainingJob) -> Lesson:
    """The lesson of a training; see `Lesson`."""
    plain = Lesson(job.dataset, job.windows)
    if job.split.kind not in ("time", "rolling"):
        return plain
    log, w = job.dataset.log, job.windows
    met = met_before(job)
    known = int(met.sum())
    if known >= FEW_KNOWN or 2 * known >= len(met):
        return plain
    try:
        split = make_split(PER_USER, job.dataset.with_log(log.window(end=w.test_start)), seed=job.settings.seed,
                           final=True)
    except DataError:
        return plain
    job.note(
        f"{known:,} people of the ranker's window are known by then: rankers learn from each user's last rows instead"
    )
    return Lesson(job.dataset.with_log(split.log), split.windows, own=True)


def draft(job: TrainingJob, lesson: Lesson, bundle: Bundle) -> tuple[list[Moment], list[Moment]]:
    """Moments to learn from and moments to choose by, as of the lesson's windows.

    Where rankers learn by each user's own rows, people without a history are asked for as of the windows in time.
    """
    config, w = job.settings.ranking.relevance, lesson.windows
    spans = [(w.history_end, w.validation_start)]
    if lesson.dataset is job.dataset and job.split.kind in ("time", "rolling"):
        spans = moments_between(lesson.dataset.log.time, w.history_end, w.validation_start, config.moments)
    most = max(config.requests // len(spans), 1)
    learn = [moment(job, bundle, lesson.dataset.log, *span, most) for span in spans]
    judge = [moment(job, bundle, lesson.dataset.log, w.validation_start, w.test_start, CHOICE_USERS)]
    if lesson.own:
        t = job.windows
        for moments, start, end in ((learn, t.history_end, t.validation_start), (judge, t.validation_start,
                                                                                  t.test_start)):
            moments.append(_new_people(moment(job, bundle, job.dataset.log, start, end, CHOICE_USERS)))
    return learn, judge


def _new_people(found: Moment) -> Moment:
    return found.take(np.flatnonzero(found.state.history.lengths[found.users] == 0))


def moment(job: TrainingJob, bundle: Bundle, log: Log, now: int, horizon: int, most: int) -> Moment:
    """Requests at a moment of users who turned to something until the horizon; see `moment_of`."""
    return moment_of(
        bundle, log, now, horizon, job.edges, most=most, seed=job.settings.seed,
        repeats=job.allows_seen,
    )


def later_rows(job: TrainingJob, bundle: Bundle) -> RequestRows:
    """Rows of requests at the start of the test window, for the rankers that are served after measuring; of new
    people alone where the known are asked for by their own rows."""
    w, config = job.windows, job.settings.ranking.relevance
    later = moment(job, bundle, job.dataset.log, w.test_start, w.end, config.requests)
    return rows_of(job, bundle, [_new_people(later) if job.lesson.own else later])


def rows_of(
    job: TrainingJob, bundle: Bundle, moments: list[Moment], share: int = 1, names: tuple[str, ...] | None = None,
    kept: Kept | None = None,
) -> RequestRows:
    """Rows of the candidates at these moments, with all features that a ranker of requests may use, or with `names`.

    share: by what the number of rows is divided. kept: answers that were asked for already.
    """
    config = job.settings.ranking.relevance
    return request_rows(
        bundle, job.settings.pipeline, moments, names or feature_names(job, bundle),
        most=max(2 * config.max_rows // (share + 1), 1), seed=job.settings.seed, threads=job.threads,
        kept=kept,
    )


def feature_names(job: TrainingJob, bundle: Bundle) -> tuple[str, ...]:
    """Features of request rows: those of the request, and of the spec what the light and the relevance ranker name."""
    spec, config = bundle.spec, job.settings.ranking
    wanted = {*config.relevance.features, *config.light.features}
    if config.relevance.attributes:
        wanted |= {f.name for f in spec.features if f.family == "attributes"}
    if job.lesson.own or job.split.kind not in ("time", "rolling") or not job.whole.manifest.has_time:
        # moments of the lesson are an order of rows: spans of time mean something else when served
        wanted -= {f.name for f in spec.features if f.span or f.family in OF_TIME}
    return (*request_feature_names(bundle.proposing), *(name for name in spec.names if name in wanted))


def fit_light(job: TrainingJob, bundle: Bundle, rows: RequestRows) -> LightRanker | None:
    """The light ranker of what is taken among a request's candidates; None where nothing was taken or left."""
    config, table = job.settings.ranking.light, rows.table
    of_request = request_feature_names(bundle.proposing)
    names = [n for n in table.names if (n in of_request or n in config.features) and n not in bundle.spec.categories]
    target = table.labels[TAKEN]
    if not target.any() or target.all():
        return None
    at = [table.names.index(name) for name in names]
    step = -(-len(table) // config.max_rows)
    part = slice(None, None, step)
    start = None if job.warm is None else job.warm.light
    return fit_linear(
        config, names, table.values[part][:, at], target[part], table.weight[part], start,
        group=rows.request[part],
    )


def fit_relevance_ranker(job: TrainingJob, rows: RequestRows) -> TreeRanker | None:
    """The relevance ranker, where it is wanted and enough was taken to learn from."""
    config = job.settings.ranking.relevance
    if not config.enabled:
        return None
    return fit_relevance(
        config, rows.table, seed=job.settings.seed, progress=job.progress, threads=job.threads_beside
    )


def choose_order(
    job: TrainingJob, judge: list[tuple[Bundle, Moment]], kept: Kept | None = None
) -> tuple[Order, dict]:
    """The order that pays, and the account of it; what nothing can be found by falls back to the fusion, said.

    judge: requests with the bundle that each is asked of; what it holds may know nothing of the answers. A user who is
    asked for several times counts once. kept: where the answers are kept.
    """
    settings, lesson = job.settings, job.lesson
    measured, known, caps, asked = {}, [], [], []
    told = plain = "NDCG@10 of what people turned to on the validation window"
    for bundle, moment in judge:
        if not len(moment.users):
            continue
        with torch_threads(1):  # batches of users share the cores already
            lists = every_order(bundle, settings.pipeline, moment, settings.seed, job.threads, kept)
        criterion = ndcg_criterion(moment)
        by_propensity = propensity_criterion(lesson, moment, lists.items[FUSION])
        if by_propensity is not None:
            criterion = by_propensity
            told = "share of interactions among the first 10, by inverse propensity, on the validation window"
        for name, items in lists.items.items():
            measured.setdefault(name, []).append(criterion(items))
        asked.append(moment.users)
        known.append(lists.known)
        caps.append((bundle, moment, lists, criterion))
    fallback = next((n for n in settings.pipeline.sourcing.fallback[::-1] if n in judge[0][0].retrievers), FUSION)
    if not known:
        nobody = np.zeros(0, bool)
        order, document = choose(
            {}, nobody, told, seed=settings.seed, wanted=settings.ranking.choose, fallback=fallback
        )
        why = "nobody of the validation window turned to anything that could have been proposed"
        for side in ("known", "new"):
            document[side]["why"] = why if settings.ranking.choose == "auto" else NAMED
        return order, document
    if told == plain and _with_propensities(lesson) is not None:
        told += ", which shows too few listed items for an estimate by propensity"
    # a person is known or new as of each request
    person = np.unique(np.concatenate(asked).astype(np.int64) * 2 + np.concatenate(known), return_inverse=True)[1]
    summed = {
        name: tuple(np.bincount(person, np.concatenate(column)) for column in zip(*parts, strict=True))
        for name, parts in measured.items()
        if len(parts) == len(asked)
    }
    familiar = np.bincount(person, np.concatenate(known)) > 0
    order, document = choose(
        summed, familiar, told, seed=settings.seed, wanted=settings.ranking.choose, fallback=fallback
    )
    document["caps"] = _caps(settings, document["known"]["chosen"], caps[0])
    return replace(order, caps=document["caps"]["kept"]), document


def _caps(settings, chosen: str, judged: tuple[Bundle, Moment, Lists, Criterion]) -> dict:
    bundle, moment, lists, criterion = judged
    if chosen not in lists.items:
        return {"kept": True}
    items = lists.items[chosen]
    return caps_pay(criterion, items, with_caps(bundle, settings.pipeline, moment, items, settings.seed))


def propensity_criterion(lesson: Lesson, moment: Moment, some: np.ndarray) -> Criterion | None:
    """The self-normalised inverse-propensity estimate, where the log tells propensities and showed enough of lists
    such as `some` int32[U, K] to say anything; else None."""
    log = _with_propensities(lesson)
    if log is None:
        return None
    log = log.take(np.isin(log.user, moment.users))
    n_items = lesson.dataset.catalogue.n_items
    evenly = replace(log, propensity=np.ones(len(log), np.float32))
    if replayed(some, moment.users, evenly, n_items, (10,))[10][0].sum() < FEWEST_SHOWN:
        return None

    def measure(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return replayed(items, moment.users, log, n_items, (10,))[10]

    return measure


def _with_propensities(lesson: Lesson) -> Log | None:
    """The validation window's rows, where it is told with which probability most of them were shown."""
    w = lesson.windows
    log = lesson.dataset.log.window(w.validation_start, w.test_start)
    return log if log.propensity is not None and np.isfinite(log.propensity).mean() >= LOGGED_SHARE else None
