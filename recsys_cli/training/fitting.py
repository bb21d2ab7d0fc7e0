"""Candidate sources of a training: made from the settings, fitted on a window or restored, and what each finds."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.cluster import Cluster
from recsys_cli.data.state import State
from recsys_cli.files import atomic_file
from recsys_cli.parallel import SideBySide, Work, one_blas_thread
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.config import RetrieverConfig, settle_seen
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.training import sources as choice

if TYPE_CHECKING:
    from pathlib import Path

    from recsys_cli.parcel import Sent
    from recsys_cli.training.job import TrainingJob

RECALL_AT = 500
"""Depth at which training reports what each source finds of the ranker's window."""
RECALL_USERS = 1_000
"""Users on whom it does so."""


def blank_sources(job: TrainingJob) -> dict[str, Retriever]:
    """Unfitted sources of the settings, but those that are switched off."""
    enabled = {name: config for name, config in job.settings.retrieval.items() if config.enabled}
    return {name: SOURCES[config.kind](settle_seen(config, job.allows_seen)) for name, config in enabled.items()}


def fit_sources(
    job: TrainingJob, sources: dict[str, Retriever], window: Window, folder: str,
    earlier: dict[str, Retriever] | None = None, *, threads: int | None = None,
) -> dict[str, Retriever]:
    """Fresh copies of the sources, fitted on the window or restored from their checkpoints, side by side as far as
    threads and memory allow: what comes of it does not depend on either.

    earlier: the same sources fitted on an earlier part of the data, from which networks go on. threads: on which they
    are fitted, those of the training where none are named.
    """
    ready, begun_from = {}, {}
    for name, blank in sources.items():
        lack = blank.missing(window)
        if lack is not None:
            job.note(f"source {name} steps aside: {lack}")
            continue
        ready[name] = type(blank)(blank.config)
        if earlier is not None and name in earlier and earlier[name].config == blank.config:
            ready[name].begin_from(earlier[name])
            begun_from[name] = earlier[name]

    def fit(name: str, progress: Progress) -> Retriever:
        return fit_one(job, name, ready[name], window, folder, progress, begun_from.get(name))

    return side_by_side(job, ready, window, fit, threads)


def fit_anew(job: TrainingJob, sources: dict[str, Retriever], window: Window) -> dict[str, Retriever]:
    """Fresh copies of the sources that can be fitted on the window, fitted as by `fit_sources`; nothing is kept."""
    fresh = {name: type(source)(source.config) for name, source in sources.items()}
    ready = {name: source for name, source in fresh.items() if source.missing(window) is None}

    def fit(name: str, progress: Progress) -> Retriever:
        ready[name].fit(window, progress)
        return ready[name]

    return side_by_side(job, ready, window, fit)


def side_by_side(
    job: TrainingJob, ready: dict[str, Retriever], window: Window, fit: Callable[[str, Progress], Retriever],
    threads: int | None = None,
) -> dict[str, Retriever]:
    """What `fit` gives of each, several at once as far as threads and memory allow."""
    away = isinstance(job.tasks, Cluster)
    threads, fitted = min(job.tasks.cores if away else threads or job.threads, len(ready)), {}
    shown = job.progress if job.beside is None else job.beside.progress  # fits beside the rankers end with them
    with (
        job.progress.step("sources", total=len(ready)) as bar,
        one_blas_thread(),  # also where one is fitted after the other: how products are shared changes how they round
        SideBySide(threads if threads > 1 else 0, shown) as beside,
    ):

        def one(name: str) -> Retriever:
            with nullcontext() if away else job.memory.lent(ready[name].memory(window)):
                return fit(name, beside.progress)

        # the dearest first, so that none of them is left over at the end
        order = sorted(ready, key=lambda name: (not ready[name].learns, -ready[name].memory(window)))
        begun = {name: beside.begin(one, name) for name in order}
        for name in ready:
            bar.describe(name)
            fitted[name] = begun[name].result()
            bar.advance()
    return fitted


def as_settled(
    job: TrainingJob, name: str, source: Retriever, config: RetrieverConfig | None, window: Window
) -> Retriever:
    """A source of the history window with the settings found: asked otherwise, or fitted anew where that is not
    all; None where it was fitted with them."""
    if config is None:
        return source
    weighting = getattr(config, "history_weighting", None)
    if source.config.model_copy(update={"history_weighting": weighting} if weighting else {}) != config:
        return fit_one(job, name, type(source)(config), window, "history")
    if source.learns:
        copied = job.work / "progress" / f"{name}.copy"
        shutil.copyfile(job.work / "progress" / "trial" / f"{name}.pt", copied)
        os.replace(copied, job.work / "history" / f"{name}.pt")  # whole or not at all, for a resumed training
    return source if config == source.config else source.reweighted(weighting)


class LaterFits:
    """The sources on the windows after the history, each going on from the one before: fitted beside the rankers,
    which do not wait for them until they ask for them."""

    def __init__(self, job: TrainingJob, sources: dict[str, Retriever], early: dict[str, Retriever],
                 answers: choice.Answers):
        self._job, self._sources = job, sources
        self.compared = job.beside.begin(fresh_sources, job, sources, early, answers)
        """those that orders are compared by"""
        self.measured = Work(self._measured)
        """those on everything before the test window"""
        self.served = Work(self._served)
        """those on everything"""

    def begin(self) -> None:
        """Hand over those after the compared ones."""
        if not self._job.final:
            self._job.beside.take(self.measured)
        if self._job.refit or self._job.final:
            self._job.beside.take(self.served)

    def _measured(self) -> dict[str, Retriever]:
        job, latest = self._job, self.compared.result()
        with job.step("sources on everything before the test window"):
            window = job.window(job.dataset.log, job.windows.test_start)
            return fit_sources(job, self._sources, window, "checkpoints", latest, threads=job.threads_beside)

    def _served(self) -> dict[str, Retriever]:
        job, log = self._job, self._job.whole.log
        latest = self.compared.result() if job.final else self.measured.result()
        with job.step("sources on everything"):
            window = job.window(log, int(log.time[-1]) + 1, everybody=True)
            return fit_sources(job, self._sources, window, "served", latest, threads=job.threads_beside)


def fresh_sources(
    job: TrainingJob, sources: dict[str, Retriever], early: dict[str, Retriever], answers: choice.Answers
) -> dict[str, Retriever]:
    """The sources by whose lists orders are compared: fitted up to the validation window where new things come up
    all the time, as those that serve are, since a stale source looks worse than what counts as of now; else those
    of the history window."""
    if job.lesson.own or job.unordered or answers.unmet < choice.LITTLE:
        return early
    with job.step("sources up to the validation window"):
        window = job.window(job.lesson.dataset.log, job.lesson.windows.validation_start)
        return fit_sources(job, sources, window, "validation", early, threads=job.threads_beside)


def recall_of(job: TrainingJob, sources: dict[str, Retriever], window: Window) -> dict[str, float]:
    """Share of the items of the ranker's window, new to the user unless lists may hold others, that each source has
    among its best RECALL_AT.

    Fitted on the history window and measured on what follows it, so no number here saw its answers.
    """
    log, w = job.lesson.dataset.log, job.lesson.windows
    later = log.window(w.history_end, w.test_start)
    state = window.state  # knows nobody who is held out
    if job.split.held_out is not None:
        state = State.build(job.dataset.catalogue, log, window.end, **job.edges)
    rows = np.flatnonzero(later.positive)
    pairs = np.unique(later.user[rows].astype(np.int64) * job.dataset.catalogue.n_items + later.item[rows])
    user, item = (
        (pairs // job.dataset.catalogue.n_items).astype(np.int32),
        (pairs % job.dataset.catalogue.n_items).astype(np.int32),
    )
    new = job.allows_seen | ~state.seen.contains(user, item[:, None])[:, 0]
    user, item = user[new], item[new]
    users = np.unique(user)
    if len(users) > RECALL_USERS:
        users = np.sort(np.random.default_rng(job.settings.seed).choice(users, RECALL_USERS, replace=False))
    if not len(users):
        return {}
    mine = np.isin(user, users)
    place, item = np.searchsorted(users, user[mine]), item[mine]
    out = {}
    for name, source in sources.items():
        found, _ = source.retrieve(state, users, RECALL_AT)
        keys = np.sort((np.arange(len(users))[:, None] * (job.dataset.catalogue.n_items + 1) + found)[found >= 0])
        hits = np.isin(place * (job.dataset.catalogue.n_items + 1) + item, keys)
        out[name] = round(float(np.mean(np.bincount(place, hits) / np.bincount(place))), 4)
    return out


def fit_one(
    job: TrainingJob, name: str, source: Retriever, window: Window, folder: str, progress: Progress | None = None,
    earlier: Retriever | None = None,
) -> Retriever:
    """The source fitted on the window, or restored where its checkpoint is in the folder of the training; on a cluster
    by a task. earlier: from which it goes on."""
    progress = progress or job.progress
    path = job.work / folder / f"{name}.pt"
    start = time.perf_counter()
    kept = _kept_place(job, name, source, window, folder)
    if source.learns and kept is not None and kept.is_file() and not path.is_file():
        with atomic_file(path) as copied:
            shutil.copyfile(kept, copied)
    if not source.learns:
        source.fit(window, progress)
    elif path.is_file():
        source.restore(load_checkpoint(path))
    else:
        if isinstance(job.tasks, Cluster):
            before = None if earlier is None else earlier.checkpoint()
            save_checkpoint(path, job.tasks.begin(fit_by_task, source.config, before, _sent(job, window)).result())
            source.restore(load_checkpoint(path))
        else:
            source.fit(window, progress, job.work / "progress" / f"{folder}-{name}.pt")
            save_checkpoint(path, source.checkpoint())
        if kept is not None:
            with atomic_file(kept) as copied:
                shutil.copyfile(path, copied)
    job.durations[f"fit {name} ({folder})"] = round(time.perf_counter() - start, 3)
    return source


def _sent(job: TrainingJob, window: Window) -> Sent:
    """The window as tasks are given it, handed over once."""
    with job.sending:
        if not job.sent or job.sent[0] is not window:
            job.sent = (window, job.tasks.share(window))
        return job.sent[1]


def fit_by_task(config: RetrieverConfig, before: dict[str, Any] | None, window: Window) -> dict[str, Any]:
    """The checkpoint of a source that a worker fits on the window. before: that of the source from which it goes on."""
    source = SOURCES[config.kind](config)
    if before is not None:
        earlier = SOURCES[config.kind](config)
        earlier.restore(before)
        source.begin_from(earlier)
    source.fit(window, Progress())
    return source.checkpoint()


def _kept_place(job: TrainingJob, name: str, source: Retriever, window: Window, folder: str) -> Path | None:
    """Where a source is kept for other trainings: a file for the data, the window, the seed and its settings; None
    where it is not."""
    if job.kept is None or name not in job.kept[1]:
        return None
    of = [job.dataset.manifest.digest, job.windows.model_dump(mode="json"), folder, window.end, len(window.log),
          job.settings.seed, job.settings.device, job.safety.versions, source.config.model_dump(mode="json")]
    text = orjson.dumps(of, option=orjson.OPT_SORT_KEYS)
    return job.kept[0] / f"{name}-{hashlib.blake2b(text, digest_size=12).hexdigest()}.pt"
