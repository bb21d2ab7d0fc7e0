"""The training job: windows → sources → training table → rankers → bundle → a published run."""

from __future__ import annotations

import fcntl
import hashlib
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
import polars as pl

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.state import State
from recsys_cli.data.windows import Split, Windows, make_split
from recsys_cli.earlier import category_names, taken_over, warm_start
from recsys_cli.errors import ConfigError, DataError, RecsysError
from recsys_cli.features.build import build_table
from recsys_cli.features.columns import confined
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.features.table import FeatureTable, with_relevance
from recsys_cli.pipeline.build import build_stages
from recsys_cli.pipeline.bundle import Bundle, Labels, write_bundle
from recsys_cli.pipeline.survival import Scored, lesson, score_candidates, survival
from recsys_cli.pipeline.utility import proposed_weights, weights_in_use
from recsys_cli.progress import Progress
from recsys_cli.ranking.baseline import FOLDER as BASELINE
from recsys_cli.ranking.baseline import fit_baseline
from recsys_cli.ranking.light import LightRanker, fit_light, fit_linear
from recsys_cli.ranking.negatives import candidate_negatives, with_negatives
from recsys_cli.ranking.quantise import int8_loss, quantise, scaling_rows
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees import TREE_KINDS, TreeRanker
from recsys_cli.ranking.warm import WarmStart
from recsys_cli.retrieval import SOURCES
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.safety.accounts import author_scores
from recsys_cli.safety.models import FOLDER, SafetyModels
from recsys_cli.settings import Settings
from recsys_cli.tracelog import SILENT, TraceLog

PACKAGES = ("numpy", "polars", "torch", "implicit", "scikit-learn", "onnxruntime", "recsys-cli")
RECALL_AT = 500
"""Depth at which training reports what each source finds of the ranker's window."""
DISTIL_USERS = 300
"""Users from whose candidates a distilled light ranker learns."""
RECALL_USERS = 2000
"""Users on whom it does so."""


def train(
    settings: Settings,
    *,
    final: bool = False,
    resume: bool = False,
    only: Sequence[str] = (),
    warm: str | None = None,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> Run:
    """Train a run and publish it as the current one.

    final: after measuring, refit on everything; such a run cannot be evaluated. resume: go on from where a
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
    if settings.ranking.precision == "int8" and settings.ranking.heavy.kind in TREE_KINDS:
        raise ConfigError(
            f"ranking.precision is int8 and the heavy ranker is of trees ({settings.ranking.heavy.kind})",
            "trees have no matrix products: set it to float32",
        )
    models = SafetyModels.load(Path(settings.paths.artifacts) / FOLDER, settings.safety.models)
    dataset.catalogue, scored = models.fill(dataset.catalogue, dataset.items)
    split = make_split(settings.windows, dataset, seed=settings.seed, final=final)
    job = TrainingJob(settings, dataset.with_log(split.log), split, final, progress or Progress(), trace)
    for message in split.messages:
        job.progress.message(message)
    job.safety, job.metrics["safety"] = models, scored
    taken = taken_over(job, only) if only else {}
    job.warm = None if warm is None else warm_start(job, warm)
    with _alone(job.work):
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
        for folder in ("checkpoints", "history", "progress"):
            (self.work / folder).mkdir(parents=True, exist_ok=True)
        for path, place in taken.items():
            shutil.copyfile(path, self.work / place)
        sources = self._sources()
        with self.step("read data"):
            window = self._window(self.windows.history_end)
        with self.step("sources on the history window"):
            early = self._fit(sources, window, "history")
        with self.step("recall of sources"):
            self.metrics["sources"] = self._recall(early, window)
        spec = self._spec(early)
        if self.warm is not None:
            self.warm = replace(self.warm, now=category_names(spec, self.dataset.catalogue.names))
        with self.step("training table"):
            train_table, valid_table = self._tables(spec, early)
        with self.step("light ranker"):
            rows = train_table if "light" in self.settings.ranking.candidate_use else train_table.logged()
            before = None if self.warm is None else self.warm.light
            light = fit_light(self.settings.ranking.light, rows, self.dataset.log.positive_actions, before)
            del rows
            self.metrics["light"] = {"any positive action": {"train_roc_auc": light.auc}}
        with self.step("heavy ranker"):
            heavy, rows = self._heavy(train_table, valid_table)
        with self.step("baseline"):
            baseline = self._baseline(heavy, *rows)
        del rows
        del train_table, valid_table
        with self.step("sources on everything before the test window"):
            late = self._fit(sources, self._window(self.windows.test_start), "checkpoints")
        with self.step("bundle"):
            self._bundle(spec, late, light, heavy, baseline)
        self.durations["total"] = round(time.perf_counter() - started, 3)
        shutil.rmtree(self.work / "progress")
        return self.store.publish(self.work, self._manifest())

    def _sources(self) -> dict[str, Retriever]:
        enabled = {name: config for name, config in self.settings.retrieval.items() if config.enabled}
        return {name: SOURCES[config.kind](config) for name, config in enabled.items()}

    def _window(self, end: int) -> Window:
        log = self.split.fitting(self.dataset.log.window(end=end))
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
                    note = f"source {name} steps aside: {lack}"
                    if note not in self.notes:
                        self.notes.append(note)
                        self.progress.message(note)
                else:
                    fitted[name] = self._fit_one(name, type(blank)(blank.config), window, folder)
                bar.advance()
        if not fitted:
            raise DataError("no candidate source can work on this data", "enable others under `retrieval`")
        return fitted

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
        """Share of the new items of the ranker's window that each source has among its best RECALL_AT.

        Fitted on the history window and measured on what follows it, so no number here saw its answers.
        """
        later = self.dataset.log.window(self.windows.history_end, self.windows.test_start)
        state = window.state  # knows nobody who is held out
        if self.split.held_out is not None:
            state = State.build(self.dataset.catalogue, self.dataset.log, window.end, **self.edges)
        rows = np.flatnonzero(later.positive)
        pairs = np.unique(later.user[rows].astype(np.int64) * self.dataset.catalogue.n_items + later.item[rows])
        user, item = (
            (pairs // self.dataset.catalogue.n_items).astype(np.int32),
            (pairs % self.dataset.catalogue.n_items).astype(np.int32),
        )
        new = ~state.seen.contains(user, item[:, None])[:, 0]
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
        return FeatureSpec.create(
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
        log, w, ranking = self.dataset.log, self.windows, self.settings.ranking
        state = State.build(self.dataset.catalogue, log, w.history_end, **self.edges)

        def similarity(users: np.ndarray, items: np.ndarray) -> dict[str, np.ndarray]:
            return {n: sources[n].score(state, users, items[:, None])[:, 0] for n in spec.similarities}

        def table(start: int, end: int) -> FeatureTable:
            rows = log.window(start, end)
            if not self.dataset.manifest.negatives_observed:
                touched = Ragged.group(log.user, log.item, self.dataset.catalogue.n_users).sorted_rows()
                rows = rows.take(rows.positive)
                rows = with_negatives(
                    rows, sources, state, ranking.sampled_negatives, self.settings.seed, touched
                )
            elif ranking.candidate_negatives and ranking.candidate_use:
                drawn = candidate_negatives(
                    rows, sources, state_at, ranking.candidate_negatives, self.settings.seed, shown
                )
                return with_relevance(built(rows), built(drawn), log.positive_actions)
            return built(rows)

        def built(rows: Log) -> FeatureTable:
            return build_table(spec, self.dataset.catalogue, log, rows, **self.edges, similarity=similarity)

        def state_at(now: int) -> State:
            return State.build(self.dataset.catalogue, log, now, **self.edges)

        shown = Ragged.group(log.user, log.item, self.dataset.catalogue.n_users).sorted_rows()
        with self.progress.step("training table"):
            return table(w.history_end, w.validation_start), table(w.validation_start, w.test_start)

    def _heavy(self, train_table: FeatureTable, valid_table: FeatureTable):
        path, use = self.work / "checkpoints" / "heavy.pt", self.settings.ranking.candidate_use
        if "relevance" not in use:
            train_table = train_table.all_known() if "actions" in use else train_table.logged()
            valid_table = valid_table.logged()
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
        return heavy, (train_table, valid_table)

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

    def _bundle(self, spec: FeatureSpec, sources: dict[str, Retriever], light, heavy, baseline) -> None:
        dataset, log = self.dataset, self.dataset.log
        now = int(log.time[-1]) + 1
        authors = author_scores(dataset.catalogue, log, now, self.safety, **self.edges)
        catalogue = confined(spec, replace(dataset.catalogue, author_safety=authors))
        bundle = Bundle(
            user_ids=dataset.user_ids,
            item_ids=dataset.item_ids,
            author_ids=dataset.author_ids,
            catalogue=catalogue,
            state=State.build(catalogue, log, now, **self.edges),
            spec=spec,
            snapshot=Snapshot.build(spec, catalogue, log, now, **self.edges),
            retrievers=sources,
            configured=tuple(self.settings.retrieval),
            light=light,
            heavy=None,
            negative_actions=log.negative_actions,
            labels=_labels(dataset),
            safety=self.safety,
            notes=tuple(self.notes),
            proposed_weights=proposed_weights(log.window(end=self.windows.test_start)),
        )
        utility = self.settings.pipeline.utility
        self.metrics["utility"] = weights_in_use(utility, log.window(end=self.windows.test_start))
        bundle = replace(bundle, light=self._cut(bundle, heavy))
        build_stages(self.settings.pipeline, bundle)  # a pipeline that does not fit is refused before publishing
        folder = self.work / "bundle"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        self.metrics["index"] = write_bundle(folder, bundle, heavy.export)
        if self.settings.ranking.precision == "int8":
            quantise(folder / "ranking", self.scaled_on)
        if baseline is not None:
            place = folder / "ranking" / BASELINE
            place.mkdir()
            baseline.export(place)

    def _cut(self, bundle: Bundle, heavy) -> LightRanker:
        """The light ranker to serve: as it was fitted, or distilled; measures what its cut keeps of the heavy's best.

        Users who are learned from are not measured on.
        """
        config, pipeline, light = self.settings.ranking.light, self.settings.pipeline, bundle.light
        size = config.measured_users
        if not (size or config.distil) or not pipeline.heavy.enabled:
            return light
        log, now = self.dataset.log, self.windows.test_start
        users = np.unique(log.window(end=now).user).astype(np.int32)
        users = np.random.default_rng(self.settings.seed).permutation(users)
        if config.distil:
            size = min(size, len(users) // 2)
        taught = users[size : size + DISTIL_USERS] if config.distil else users[:0]
        state, snapshot = bundle.state, bundle.snapshot
        if now < state.now:
            state = State.build(bundle.catalogue, log, now, **self.edges)
            snapshot = Snapshot.build(bundle.spec, bundle.catalogue, log, now, **self.edges)
        both = replace(bundle, heavy=heavy)

        def scored(light: LightRanker, who: np.ndarray) -> Scored:
            served = replace(both, light=light)
            return score_candidates(served, pipeline, state, snapshot, who, light.names, self.settings.seed)

        if config.distil and len(taught):
            features, target, user = lesson(scored(light, taught))
            if target.any() and not target.all():
                light = fit_linear(config, light.names, features, target, group=user)
                self.metrics["light"] = {"the heavy ranker's best": {"train_roc_auc": light.auc}}
            else:
                self.notes.append("the light ranker is not distilled: nobody has more candidates than are kept")
        if size and len(users):
            self.metrics["light"]["cut"] = survival(scored(light, users[:size]), pipeline.light.keep)
        return light

    def _manifest(self) -> dict:
        m = self.dataset.manifest
        return {
            "settings": self.settings.model_dump(mode="json"),
            "seed": self.settings.seed,
            "final": self.final,
            "dataset": {"path": str(self.dataset.path), "name": m.name, "digest": m.digest},
            "windows": self.windows,
            "warm_start": None if self.warm is None else self.warm.run,
            "models_end": self.windows.test_start,
            "packages": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
            "durations": self.durations,
            "metrics": self.metrics,
            "notes": self.notes,
        }


def _labels(dataset: Dataset) -> Labels:
    """What is shown for an item: its title or name, else its text, else nothing."""
    column = next((c for c in ("title", "name", "text") if c in dataset.items.columns), None)
    if column is None:
        return Labels(np.zeros(dataset.items.height + 1, np.int64), np.zeros(0, np.uint8))
    texts = [(t or "").encode() for t in dataset.items[column].cast(pl.String).to_list()]
    return Labels(offsets_of(np.array([len(t) for t in texts], np.int64)), np.frombuffer(b"".join(texts), np.uint8))
