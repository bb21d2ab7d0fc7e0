"""The training job and its steps."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import time
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split
from recsys_cli.data.windows.windows import Split, Windows
from recsys_cli.errors import ConfigError, DataError, RecsysError
from recsys_cli.features.build import build_table
from recsys_cli.features.define import create_spec
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.features.table import FeatureTable
from recsys_cli.pipeline.bundle import Bundle
from recsys_cli.pipeline.order import Order
from recsys_cli.pipeline.requests import RequestRows, joined
from recsys_cli.pipeline.weighted_fusion import learn_fusion, with_fusion
from recsys_cli.progress import Progress
from recsys_cli.ranking.registry import RANKERS
from recsys_cli.ranking.serving.quantise import int8_loss, scaling_rows
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.baseline import fit_baseline
from recsys_cli.ranking.trees.ranker import TreeRanker
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.config import RetrieverConfig, settle_seen
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.tracelog import SILENT, TraceLog
from recsys_cli.training import requests
from recsys_cli.training import sources as choice
from recsys_cli.training.bundles import Rankers, draft_bundle, publish_bundle
from recsys_cli.training.folds import crosswise, rows_of_side
from recsys_cli.training.reuse import category_names, taken_over, warm_start
from recsys_cli.training.warranted import settle_repeats

PACKAGES = ("numpy", "polars", "torch", "implicit", "scikit-learn", "onnxruntime", "recsys-cli")
RECALL_AT = 500
"""Depth at which training reports what each source finds of the ranker's window."""
RECALL_USERS = 2000
"""Users on whom it does so."""


def train(
    settings: Settings,
    *,
    final: bool = False,
    refit: bool = True,
    resume: bool = False,
    only: Sequence[str] = (),
    warm: str | None = None,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> Run:
    """Train a run and publish it as the current one.

    The run has two halves: what is measured was fitted on nothing of the test window, and what is served was refitted
    on everything afterwards. refit: without it what is measured is served too. final: hold nothing out to measure on;
    such a run cannot be evaluated. resume: go on from where a
    killed training of the same settings and data stopped. only: fit these sources and take the others over from
    the run in use (see `taken_over`). warm: id of a run with whose rankers these begin ("current": the one in use);
    ArtifactError where they do not fit. Raises DataError where the data cannot be trained on, and leaves every
    earlier run as it was.
    """
    dataset = Dataset.open(settings.paths.data)
    if not dataset.log.positive.any():
        raise DataError(
            f"{dataset.path}: no impression carries a positive action",
            "there is nothing to learn from; check the actions of the import mapping",
        )
    if settings.ranking.precision == "int8" and not RANKERS[settings.ranking.heavy.kind].quantisable:
        raise ConfigError(
            f"ranking.precision is int8 and the heavy ranker is of trees ({settings.ranking.heavy.kind})",
            "trees have no matrix products: set it to float32",
        )
    models = SafetyModels.load(Path(settings.paths.artifacts) / FOLDER, settings.safety.models)
    dataset.catalogue, scored = models.fill(dataset.catalogue, dataset.items)
    split = make_split(settings.windows, dataset, seed=settings.seed, final=final)
    job = TrainingJob(
        settings, dataset.with_log(split.log), split, final, progress or Progress(), trace, whole=dataset,
        refit=refit and not final,
    )
    job.safety, job.metrics["safety"] = models, scored
    taken = taken_over(job, only) if only else {}
    job.warm = None if warm is None else warm_start(job, warm)
    with _alone(job.work):
        for message in split.messages:
            job.progress.message(message)
        return job.run(resume, taken)


@contextmanager
def _alone(work: Path):
    """Keeps a second training of the same settings and data out of a work folder that is in use."""
    work.parent.mkdir(parents=True, exist_ok=True)
    path = work.with_suffix(".lock")
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RecsysError(
                "another training of the same settings and data is running",
                "wait for it, or use another --artifacts-dir",
            ) from None
        yield
        path.unlink(missing_ok=True)


@dataclass
class TrainingJob:
    """One training: its inputs, and what its steps have made so far."""

    settings: Settings
    dataset: Dataset
    """with the log of the split"""
    split: Split
    final: bool
    progress: Progress
    trace: TraceLog = SILENT
    warm: WarmStart | None = None
    whole: Dataset | None = None
    """with its own log; what is served is fitted on all of it"""
    refit: bool = False
    """whether what is served is fitted again on everything after measuring"""
    repeats: bool = False
    """whether people come back to what they had, so that lists may hold it where the settings leave it open"""
    candidates: int = choice.FEED
    """candidates a user where the settings leave it open"""
    durations: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    metrics: dict[str, dict] = field(default_factory=dict)
    safety: SafetyModels = field(default_factory=SafetyModels)
    scaled_on: FeatureTable | None = None
    """training rows that the int8 form is scaled on"""

    @property
    def windows(self) -> Windows:
        return self.split.windows

    @cached_property
    def store(self) -> RunStore:
        return RunStore(self.settings.paths.artifacts)

    @cached_property
    def work(self) -> Path:
        """Where checkpoints are kept until the run is published; the same for the same settings and data."""
        learned = self.settings.model_dump(mode="json", exclude={"pipeline", "paths", "threads", "evaluation", "world"})
        start = [] if self.warm is None else [self.warm.run]
        start += [self.safety.versions] if self.safety.versions else []
        text = orjson.dumps([learned, self.dataset.manifest.digest, self.final, *start], option=orjson.OPT_SORT_KEYS)
        return self.store.folder / "work" / hashlib.blake2b(text, digest_size=8).hexdigest()

    @cached_property
    def edges(self) -> dict[str, dict | None]:
        return {table: self.dataset.edges(table) for table in ("follows", "blocks")}

    @contextmanager
    def step(self, name: str):
        start = time.perf_counter()
        with self.trace.timed("train.step", step=name):
            yield
        self.durations[name] = round(time.perf_counter() - start, 3)

    def run(self, resume: bool, taken: dict[Path, str]) -> Run:
        """taken: checkpoints of the run in use → their places below the work folder."""
        started = time.perf_counter()
        if not resume:
            shutil.rmtree(self.work, ignore_errors=True)
        elif not self.work.is_dir():
            self.progress.message("nothing to resume for these settings and data: training from the start")
        for folder in ("checkpoints", "history", "progress/trial", *(("served",) if self.refit or self.final else ())):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        for path, place in taken.items():
            shutil.copyfile(path, self.work / place)
        with self.step("read data"):
            self.lesson = requests.lesson_of(self)
            settle_repeats(self)
            window = self.window(self.lesson.dataset.log, self.lesson.windows.history_end)
        sources = self._sources()
        answers = choice.answers_of(self, window)
        sources = choice.wanted_kinds(self, sources, answers)
        self.candidates = choice.FEED if answers.unmet >= choice.MOVING else choice.CATALOGUE
        with self.step("sources on the history window"):
            settled = choice.remembered(self, sources)
            ready = {name: SOURCES[config.kind](config) for name, config in settled.items()}
            early = self._fit(ready, window, "history")
            early |= self._fit({n: s for n, s in sources.items() if n not in settled}, window, "progress/trial")
            if not early:
                raise DataError("no candidate source can work on this data", "enable others under `retrieval`")
        with self.step("settings of sources"):
            early = choice.without_weak(self, early, window, answers)
            found = choice.tune(self, {n: s for n, s in early.items() if n not in settled}, window, answers)
        with self.step("sources on the history window as settled"):
            early = {n: self._settled(n, early[n], found.get(n), window) for n in sources if n in early}
            sources = {name: SOURCES[source.config.kind](source.config) for name, source in early.items()}
        with self.step("recall of sources"):
            self.metrics["sources"] = self._recall(early, window)
        spec = self._spec(early)
        if self.warm is not None:
            self.warm = replace(self.warm, now=category_names(spec, self.dataset.catalogue.names))
        learned, late = None, None
        if self._random and not self._actions_to_learn():
            rankers = self._rankers_crosswise(spec, early)
        else:
            rankers, learned = self._rankers(spec, early)
        if not self.final:
            with self.step("sources on everything before the test window"):
                window = self.window(self.dataset.log, self.windows.test_start)
                late = self._fit(sources, window, "checkpoints")
            with self.step("bundle that is measured"):
                publish_bundle(self, spec, late, rankers, self.dataset if self.refit else self.whole,
                               "measured" if self.refit else "bundle")
        if self.refit or self.final:
            with self.step("rankers on requests of the test window"):
                rankers = self._again(spec, late, rankers, learned)
            with self.step("sources on everything"):
                log = self.whole.log
                served = self._fit(sources, self.window(log, int(log.time[-1]) + 1, everybody=True), "served")
            with self.step("bundle that is served"):
                publish_bundle(self, spec, served, rankers, self.whole, "bundle")
        self.durations["total"] = round(time.perf_counter() - started, 3)
        shutil.rmtree(self.work / "progress")
        return self.store.publish(self.work, self._manifest())

    def _rankers(self, spec: FeatureSpec, early: dict[str, Retriever]) -> tuple[Rankers, RequestRows]:
        """The rankers, the order that pays, and the rows of requests that they learned from."""
        bundle = draft_bundle(self, spec, early)
        with self.step("requests"), self.progress.step("requests"):
            learn, judge = requests.draft(self, self.lesson, bundle)
            rows = requests.rows_of(self, bundle, learn)
            self._count(rows, sum(len(moment.users) for moment in learn))
        rankers = self._of_requests(bundle, rows)
        if self._actions_to_learn():
            with self.step("training table"):
                train_table, valid_table = self._tables(spec, early)
            with self.step("heavy ranker"):
                rankers.heavy = self._heavy(train_table, valid_table)
            with self.step("baseline"):
                rankers.baseline = self._baseline(rankers.heavy, train_table, valid_table)
        with self.step("order"), self.progress.step("order of the lists"):
            served = rankers.serving(bundle)
            rankers.order, self.metrics["order"] = requests.choose_order(self, [(served, moment) for moment in judge])
        if self.refit:  # what was chosen by may be learned from now
            rows = joined(rows, requests.rows_of(self, bundle, judge))
        return rankers, rows

    def _of_requests(self, bundle: Bundle, rows: RequestRows, order: Order | None = None) -> Rankers:
        """The rankers that learn from requests, of these those that `order` needs (all where none is chosen yet)."""
        light = relevance = None
        fusion = learn_fusion(rows, bundle.proposing)
        rows = with_fusion(rows, fusion)
        if order is None or order.ranked:
            with self.step("light ranker"):
                light = requests.fit_light(self, bundle, rows)
        if order is None or order.related:
            with self.step("relevance ranker"):
                relevance = requests.fit_relevance_ranker(self, rows)
        if order is None and relevance is None and self.settings.ranking.relevance.enabled:
            self.note("no relevance ranker: too little of what the sources proposed was taken")
        if light is not None:
            of = {"taken among what was proposed": {"train_roc_auc": light.auc}}
            self.metrics["light"] = self.metrics.get("light", {}) | of
        return Rankers(light, relevance, fusion)

    def _rankers_crosswise(self, spec: FeatureSpec, early: dict[str, Retriever]) -> Rankers:
        """The rankers and the order that pays where no order makes one part of a user's rows the last: each part is
        foretold from the others, and orders are compared on every other user by rankers that learned from the rest."""
        before = self.dataset.with_log(self.dataset.log.window(end=self.windows.test_start))
        with self.step("requests"):
            folds = crosswise(self, spec, early, before, random=True)
            rows = joined(*(fold.rows for fold in folds))
            self._count(rows, sum(len(fold.moment.users) for fold in folds))
        judge = []
        with self.step("rankers by halves"):
            for side in (0, 1):
                half = self._of_requests(folds[0].bundle, rows_of_side(folds, 1 - side))
                for fold in folds:
                    places = fold.side(side)[: requests.CHOICE_USERS // len(folds)]
                    judge.append((half.serving(fold.bundle), fold.moment.take(places)))
        with self.step("order"), self.progress.step("order of the lists"):
            order, self.metrics["order"] = requests.choose_order(self, judge)
        return replace(self._of_requests(folds[0].bundle, rows, order), order=order)

    def _count(self, rows: RequestRows, asked: int) -> None:
        self.metrics["requests"] = {"all": {
            "rows": len(rows), "requests": asked, "wanted": rows.wanted, "proposed": rows.proposed,
        }}

    def _again(
        self, spec: FeatureSpec, late: dict[str, Retriever] | None, rankers: Rankers, learned: RequestRows | None
    ) -> Rankers:
        """The rankers of requests once more, with what the test window tells; the heavy ranker stays.

        Where rows have no order the test window tells nothing else than the parts before; where people's own rows are
        the lesson, the last fifth of everybody is foretold; else the requests of the test window are added to those
        before.
        """
        if late is None or learned is None or not rankers.order.learned:
            return rankers
        later = requests.later_rows(self, draft_bundle(self, spec, late))
        if self.lesson.own:
            return self._with(
                rankers, spec, late,
                joined(*(fold.rows for fold in crosswise(self, spec, late, self.whole, random=False)), later),
            )
        return self._with(rankers, spec, late, joined(learned, later))

    def _with(
        self, rankers: Rankers, spec: FeatureSpec, sources: dict[str, Retriever], rows: RequestRows
    ) -> Rankers:
        fresh = self._of_requests(draft_bundle(self, spec, sources), rows, rankers.order)
        return replace(rankers, light=fresh.light or rankers.light, relevance=fresh.relevance or rankers.relevance,
                       fusion=fresh.fusion or rankers.fusion)

    @property
    def _random(self) -> bool:
        """Whether the rows of the data have no order."""
        return not self.whole.manifest.has_order and self.split.kind in ("user_random", "given")

    def _actions_to_learn(self) -> list[str]:
        """Actions that people both took and did not take often enough in the ranker's rows to have a head."""
        w, least = self.lesson.windows, self.settings.ranking.heavy.min_positives
        log = self.lesson.dataset.log.window(w.history_end, w.validation_start)
        return [a for a, did in log.actions.items() if least <= int(did.sum()) <= len(log) - least]

    @property
    def threads(self) -> int:
        return self.settings.threads or len(os.sched_getaffinity(0))

    def _sources(self) -> dict[str, Retriever]:
        enabled = {name: config for name, config in self.settings.retrieval.items() if config.enabled}
        return {name: SOURCES[config.kind](settle_seen(config, self.allows_seen)) for name, config in enabled.items()}

    @property
    def allows_seen(self) -> bool:
        """Whether lists may hold what the user was shown before."""
        return not self.settings.pipeline.filters.leaves_out_seen(self.repeats)

    def window(self, log: Log, end: int, *, everybody: bool = False) -> Window:
        """What sources may be fitted on before `end`; held-out people only where `everybody` is in."""
        log = log.window(end=end)
        if not everybody:
            log = self.split.fitting(log)
        state = State.build(self.dataset.catalogue, log, end, **self.edges)
        return Window(self.dataset, self.dataset.catalogue, log, end, state, self.settings.seed)

    def _fit(self, sources: dict[str, Retriever], window: Window, folder: str) -> dict[str, Retriever]:
        """Fresh copies of the sources, fitted on the window or restored from their checkpoints."""
        fitted = {}
        with self.progress.step("sources", total=len(sources)) as bar:
            for name, blank in sources.items():
                bar.describe(name)
                lack = blank.missing(window)
                if lack is not None:
                    self.note(f"source {name} steps aside: {lack}")
                else:
                    fitted[name] = self._fit_one(name, type(blank)(blank.config), window, folder)
                bar.advance()
        return fitted

    def _settled(self, name: str, source: Retriever, config: RetrieverConfig | None, window: Window) -> Retriever:
        """A source of the history window with the settings found: asked otherwise, or fitted anew where that is not
        all; None where it was fitted with them."""
        if config is None:
            return source
        weighting = getattr(config, "history_weighting", None)
        if source.config.model_copy(update={"history_weighting": weighting} if weighting else {}) != config:
            return self._fit_one(name, type(source)(config), window, "history")
        if source.learns:
            copied = self.work / "progress" / f"{name}.copy"
            shutil.copyfile(self.work / "progress" / "trial" / f"{name}.pt", copied)
            os.replace(copied, self.work / "history" / f"{name}.pt")  # whole or not at all, for a resumed training
        return source if config == source.config else source.reweighted(weighting)

    def note(self, text: str) -> None:
        """Keep a note with the run, and say it once."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.message(text)

    def _fit_one(self, name: str, source: Retriever, window: Window, folder: str) -> Retriever:
        path = self.work / folder / f"{name}.pt"
        start = time.perf_counter()
        if not source.learns:
            source.fit(window, self.progress)
        elif path.is_file():
            source.restore(load_checkpoint(path))
        else:
            source.fit(window, self.progress, self.work / "progress" / f"{folder}-{name}.pt")
            save_checkpoint(path, source.checkpoint())
        self.durations[f"fit {name} ({folder})"] = round(time.perf_counter() - start, 3)
        return source

    def _recall(self, sources: dict[str, Retriever], window: Window) -> dict[str, float]:
        """Share of the items of the ranker's window, new to the user unless lists may hold others, that each source has
        among its best RECALL_AT.

        Fitted on the history window and measured on what follows it, so no number here saw its answers.
        """
        log, w = self.lesson.dataset.log, self.lesson.windows
        later = log.window(w.history_end, w.test_start)
        state = window.state  # knows nobody who is held out
        if self.split.held_out is not None:
            state = State.build(self.dataset.catalogue, log, window.end, **self.edges)
        rows = np.flatnonzero(later.positive)
        pairs = np.unique(later.user[rows].astype(np.int64) * self.dataset.catalogue.n_items + later.item[rows])
        user, item = (
            (pairs // self.dataset.catalogue.n_items).astype(np.int32),
            (pairs % self.dataset.catalogue.n_items).astype(np.int32),
        )
        new = self.allows_seen | ~state.seen.contains(user, item[:, None])[:, 0]
        user, item = user[new], item[new]
        users = np.unique(user)
        if len(users) > RECALL_USERS:
            users = np.sort(np.random.default_rng(self.settings.seed).choice(users, RECALL_USERS, replace=False))
        if not len(users):
            return {}
        mine = np.isin(user, users)
        place, item = np.searchsorted(users, user[mine]), item[mine]
        out = {}
        for name, source in sources.items():
            found, _ = source.retrieve(state, users, RECALL_AT)
            keys = np.sort((np.arange(len(users))[:, None] * (self.dataset.catalogue.n_items + 1) + found)[found >= 0])
            hits = np.isin(place * (self.dataset.catalogue.n_items + 1) + item, keys)
            out[name] = round(float(np.mean(np.bincount(place, hits) / np.bincount(place))), 4)
        return out

    def _spec(self, sources: dict[str, Retriever]) -> FeatureSpec:
        log = self.dataset.log
        probe = np.zeros(1, np.int32)
        state = State.build(self.dataset.catalogue, log.take(slice(0, 0)), self.windows.start)
        measuring = tuple(n for n, s in sources.items() if s.score(state, probe, probe[:, None]) is not None)
        names = self.dataset.categories
        for side in ("user", "item"):
            for column, why in getattr(self.dataset.catalogue, f"{side}_columns").refused.items():
                self.notes.append(f"{side}s' column {column} becomes no feature: {why}")
        return create_spec(
            self.settings.features,
            self.dataset.catalogue,
            positive=log.positive_actions,
            negative=log.negative_actions,
            has_dwell=log.dwell is not None,
            surfaces=names.get("surface", ()),
            devices=names.get("device", ()),
            similarities=measuring,
            context=log.context,
        )

    def _tables(self, spec: FeatureSpec, sources: dict[str, Retriever]) -> tuple[FeatureTable, FeatureTable]:
        log, w = self.lesson.dataset.log, self.lesson.windows
        state = State.build(self.dataset.catalogue, log, w.history_end, **self.edges)

        def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
            return {n: sources[n].score(state, users, items[:, None])[:, 0] for n in spec.similarities}

        def table(start: int, end: int) -> FeatureTable:
            rows = log.window(start, end)
            return build_table(spec, self.dataset.catalogue, log, rows, **self.edges, similarity=similarity)

        with self.progress.step("training table"):
            return table(w.history_end, w.validation_start), table(w.validation_start, w.test_start)

    def _heavy(self, train_table: FeatureTable, valid_table: FeatureTable):
        path = self.work / "checkpoints" / "heavy.pt"
        heavy = fit_heavy(
            self.settings.ranking.heavy,
            train_table,
            valid_table,
            seed=self.settings.seed,
            progress=self.progress,
            resume=self.work / "progress" / "heavy.pt",
            threads=self.settings.threads,
            warm=self.warm,
        )
        save_checkpoint(path, heavy.checkpoint())
        self.metrics["heavy"] = heavy.metrics
        surfaces = self.dataset.categories.get("surface", ())
        for task, codes in heavy.metrics.get("segments", {}).items():
            # code 0 stands for unknown
            named = {surfaces[c - 1] if 0 < c <= len(surfaces) else "unknown": row for c, row in codes.items()}
            heavy.metrics["segments"][task] = named
        self.notes.extend(f"no head for {action}: {why}" for action, why in heavy.dropped.items())
        if self.settings.ranking.precision == "int8":
            self.scaled_on = scaling_rows(train_table)
            if len(valid_table):
                self.metrics["int8"] = int8_loss(heavy, self.scaled_on, valid_table)
        return heavy

    def _baseline(self, heavy, train_table: FeatureTable, valid_table: FeatureTable) -> TreeRanker | None:
        """Quick trees on the heavy ranker's rows, for reports to compare it with; None where it is itself of trees."""
        config = self.settings.ranking.baseline
        if not config.enabled or heavy.config.kind == "lightgbm":
            return None
        baseline = fit_baseline(
            config, train_table, valid_table, heavy.tasks, seed=self.settings.seed, progress=self.progress,
            threads=self.settings.threads,
        )
        self.metrics["baseline"] = baseline.metrics
        return baseline

    def _manifest(self) -> dict:
        m = self.dataset.manifest
        return {
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.settings.seed,
            "final": self.final,
            "dataset": {"path": str(self.dataset.path), "name": m.name, "digest": m.digest},
            "windows": self.windows,
            "warm_start": None if self.warm is None else self.warm.run,
            "models_end": int(self.whole.log.time[-1]) + 1 if self.refit or self.final else self.windows.test_start,
            "refitted": self.refit,
            "packages": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "durations": self.durations,
            "metrics": self.metrics,
            "notes": self.notes,
        }

