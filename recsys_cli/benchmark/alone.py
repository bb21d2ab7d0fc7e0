"""Single sources on public data: settings chosen on a part of what may be learned from, the rest read once."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from recsys_cli.benchmark.funnel import Where
from recsys_cli.benchmark.list_rows import Row, reason
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.ranking import rank_everybody
from recsys_cli.benchmark.splits import ListTask, build_task, hidden_rows
from recsys_cli.benchmark.suite_config import LastRows, LastShare, RandomRows, SourcesTask, SuiteConfig
from recsys_cli.benchmark.tasks import START, RankingTask, bare_catalogue, clicks, whole_state
from recsys_cli.data.schema import SECOND
from recsys_cli.errors import DataError
from recsys_cli.parallel import one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.registry import make
from recsys_cli.retrieval.tuning import choose_history_weighting, tune_source

REQUESTS, WARM = 100, 10
"""Requests on the clock, and before it."""


def source_rows(task: ListTask, settings: SourcesTask, suite: SuiteConfig, where: Where) -> tuple[list[Row], dict]:
    """The rows of a task and what is to be told of it. A model that fails is a row with the reason."""
    models = suite.models if settings.models is None else {n: suite.models[n] for n in settings.models}
    whole, part = ranking_task_of(task, where.seed), ranking_task_of(inner_task(task, settings, where.seed), where.seed)
    rows = []
    with where.progress.step("sources", total=len(models)) as bar:
        for name, config in models.items():
            bar.describe(name)
            try:
                rows.append(source_row(name, config, whole, part, settings, where))
            except Exception as error:  # the others are not lost to one model, whatever it stumbled over
                rows.append(Row(name, "source", error=reason(error)))
            bar.advance()
    return rows, {"validation": {"rows": len(part.window.log), "users": len(part.users)}}


def inner_task(task: ListTask, settings: SourcesTask, seed: int) -> ListTask:
    """The same split again within what may be learned from, to choose settings on."""
    split = settings.split
    if not isinstance(split, RandomRows | LastShare | LastRows):
        split = RandomRows()
    if isinstance(split, RandomRows):
        split = split.model_copy(update={"seed": split.seed + seed + 1})
    hidden = hidden_rows(split, task.train)
    return build_task(task.train.take(~hidden), task.train.take(hidden), task.ordered)


def ranking_task_of(task: ListTask, seed: int) -> RankingTask:
    """The task as the retrievers know one; items that nobody has a row with are left out of what is to be found."""
    n_items = len(task.item_ids)
    rows = len(task.user)
    if task.train.times is not None:
        time_of = task.train.times * SECOND
    else:
        time_of = START + (np.arange(rows) if task.ordered else np.zeros(rows, np.int64)) * SECOND
    catalogue = bare_catalogue(len(task.user_ids), n_items)
    log = clicks(task.user, task.item, time_of)
    now = int(log.time.max()) + 1
    state = whole_state(catalogue, log, now)
    return RankingTask(Window(None, catalogue, log, now, state, seed), state, task.users, task.wanted, True)


def source_row(
    name: str, config: RetrieverConfig, whole: RankingTask, part: RankingTask, settings: SourcesTask, where: Where
) -> Row:
    """One source: weights of histories and other settings chosen on `part`, then fitted on and asked of `whole`."""
    config = config.model_copy(update={"exclude_seen": True, "enabled": True})
    if lack := make(config).missing(whole.window):
        raise DataError(f"{config.kind} cannot work on this: it {lack}", "leave it out of the models")
    start = time.perf_counter()
    found, tried = chosen_settings(config, part, settings, where.progress)
    tuned = time.perf_counter()
    with PeakMemory() as memory:
        begun = time.perf_counter()
        source = make(found)
        source.fit(whole.window, where.progress)
        fitted = time.perf_counter()
        items = rank_everybody(source, whole, settings.k, where.progress, where.threads)
        ranked = time.perf_counter()
    before, after = config.model_dump(mode="json"), found.model_dump(mode="json")
    return Row(
        name, "source", items, fitted - begun, ranked - fitted, request_ms(source, whole, settings.k), memory.mib,
        more={
            "tune_seconds": tuned - start, "tried": tried,
            "settings": {n: v for n, v in after.items() if v != before[n]},
        },
    )


def chosen_settings(
    config: RetrieverConfig, part: RankingTask, settings: SourcesTask, progress: Progress
) -> tuple[RetrieverConfig, dict]:
    """Settings found best by NDCG on what `part` hides, as training chooses them, and what was tried."""

    def fitted(option: RetrieverConfig) -> Retriever:
        source = make(option)
        source.fit(part.window, progress)
        return source

    first = fitted(config)
    config, weightings = choose_history_weighting(first, part.state, part.users, part.relevant, settings.k)
    options, tried = type(first).alternatives(config), []
    if options and settings.tuning_seconds > 0:
        config, tried = tune_source(
            fitted, config, options, part.state, part.users, part.relevant, settings.tuning_seconds, settings.k
        )
    return config, {"weightings": weightings, "settings": tried}


def request_ms(source: Retriever, task: RankingTask, k: int) -> float:
    """Median milliseconds in which the source answers one user."""
    some = np.random.default_rng(0).choice(task.users, REQUESTS + WARM)
    # a state of its own: what a source computes once a state is not a request's
    state, times = replace(task.state), []
    with one_blas_thread():
        for user in some:
            start = time.perf_counter()
            source.retrieve(state, user[None], k)
            times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times[WARM:]))
