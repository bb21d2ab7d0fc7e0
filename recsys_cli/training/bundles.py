"""From fitted parts to bundles: the draft that training asks requests of, and what is published."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from recsys_cli.data.ragged import offsets_of
from recsys_cli.data.state import State
from recsys_cli.features.define import confined
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.pipeline.build import build_pipeline
from recsys_cli.pipeline.bundle import Bundle, Labels, write_bundle
from recsys_cli.pipeline.exploration.creative_texts import CreativeTexts, texts_of
from recsys_cli.pipeline.exploration.creatives import CreativesConfig
from recsys_cli.pipeline.light_cut import Scored, lesson, score_candidates, survival
from recsys_cli.pipeline.order import HEAVY, Order
from recsys_cli.pipeline.utility import proposed_weights, weights_in_use
from recsys_cli.ranking.light import LightRanker, fit_linear
from recsys_cli.ranking.serving.quantise import quantise
from recsys_cli.ranking.trees.baseline import FOLDER as BASELINE
from recsys_cli.safety.accounts import author_scores

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.features.spec import FeatureSpec
    from recsys_cli.ranking.trees.ranker import TreeRanker
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.training.job import TrainingJob

DISTIL_USERS = 300
"""Users from whose candidates a distilled light ranker learns."""


@dataclass
class Rankers:
    """What orders candidates, as fitted."""

    light: LightRanker | None = None
    relevance: TreeRanker | None = None
    fusion: dict[str, float] = field(default_factory=dict)
    """weights of the sources' standardised scores"""
    heavy: object | None = None
    baseline: TreeRanker | None = None
    """trees on the heavy ranker's rows, for reports"""
    order: Order = field(default_factory=Order)
    """what was found to pay"""

    def serving(self, bundle: Bundle) -> Bundle:
        """The bundle with these to rank by."""
        return replace(bundle, light=self.light, relevance=self.relevance, heavy=self.heavy, fusion=self.fusion)


def draft_bundle(job: TrainingJob, spec: FeatureSpec, sources: dict[str, Retriever]) -> Bundle:
    """A bundle of sources without rankers, whose state and snapshot are nobody's: requests bring their own."""
    log = job.dataset.log
    catalogue = confined(spec, job.dataset.catalogue)
    nothing = log.take(slice(0, 0))
    return _bundle(job, spec, sources, catalogue, State.build(catalogue, nothing, job.windows.start), None)


def _bundle(
    job: TrainingJob, spec: FeatureSpec, sources: dict[str, Retriever], catalogue, state: State,
    snapshot: Snapshot | None,
) -> Bundle:
    dataset = job.dataset
    return Bundle(
        user_ids=dataset.user_ids, item_ids=dataset.item_ids, author_ids=dataset.author_ids, catalogue=catalogue,
        state=state, spec=spec, snapshot=snapshot, retrievers=sources,
        configured=tuple(dict.fromkeys((*sources, *job.settings.retrieval))),  # bits of a candidate are for 32 of them
        light=None, heavy=None, negative_actions=dataset.log.negative_actions, labels=_labels(dataset),
        safety=job.safety, notes=tuple(job.notes), proposed_weights=proposed_weights(_before_test(job)),
        candidates=job.candidates, repeats=job.repeats,
    )


def _creatives(job: TrainingJob, bundle: Bundle, log: Log) -> Bundle:
    """The bundle with the creatives that a stage chooses from, and what the log tells of them."""
    for name, stage in job.settings.pipeline.stages.items():
        if isinstance(stage, CreativesConfig):
            texts = _texts(stage, job.dataset, f"pipeline.stages.{name}.columns")
            state = replace(bundle.state, feedback=bundle.state.feedback | texts.counters(log, stage.shown))
            return replace(bundle, creatives=texts, state=state)
    return bundle


def _texts(stage: CreativesConfig, dataset: Dataset, key: str) -> CreativeTexts:
    items = dataset.items
    texts = [name for name, kind in items.schema.items() if kind in (pl.String, pl.List(pl.String))]
    return texts_of(stage.columns, {name: items[name].to_list() for name in texts}, key)


def _before_test(job: TrainingJob) -> Log:
    return job.dataset.log.window(end=job.windows.test_start)


def publish_bundle(
    job: TrainingJob, spec: FeatureSpec, sources: dict[str, Retriever], rankers: Rankers, dataset: Dataset, name: str
) -> None:
    """Write the bundle `name` of the run: sources and rankers with state and features as of the end of the log."""
    log = dataset.log
    now = int(log.time[-1]) + 1
    authors = author_scores(dataset.catalogue, log, now, job.safety, **job.edges)
    catalogue = confined(spec, replace(job.dataset.catalogue, author_safety=authors))
    bundle = _bundle(
        job, spec, sources, catalogue, State.build(catalogue, log, now, **job.edges),
        Snapshot.build(spec, catalogue, log, now, **job.edges),
    )
    job.metrics["utility"] = weights_in_use(job.settings.pipeline.utility, _before_test(job))
    bundle = replace(bundle, light=rankers.light, order=rankers.order, fusion=rankers.fusion)
    bundle = _creatives(job, bundle, log)
    if name == "measured" or not job.refit:
        rankers.light = _cut(job, bundle, rankers, dataset)
    bundle = replace(bundle, light=rankers.light)
    loaded = replace(bundle, heavy=rankers.heavy, relevance=rankers.relevance)
    build_pipeline(job.settings.pipeline, loaded)  # a pipeline that does not fit is refused before publishing
    folder = job.work / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    heavy, relevance, baseline = rankers.heavy, rankers.relevance, rankers.baseline
    int8 = job.settings.ranking.precision == "int8"
    export = None if heavy is None else partial(heavy.export, graph=int8)
    job.metrics["index"] = write_bundle(folder, bundle, export, relevance and relevance.export)
    if int8 and heavy is not None:
        quantise(folder / "ranking", job.scaled_on)
    if baseline is not None:
        place = folder / "ranking" / BASELINE
        place.mkdir()
        baseline.export(place)


def _cut(job: TrainingJob, bundle: Bundle, rankers: Rankers, dataset: Dataset) -> LightRanker | None:
    """The light ranker to serve: as it was fitted, or distilled; measures what its cut keeps of the heavy's best.

    Users who are learned from are not measured on.
    """
    config, pipeline, light = job.settings.ranking.light, job.settings.pipeline, bundle.light
    size, heavy = config.measured_users, rankers.heavy
    if light is None or heavy is None or not (size or config.distil) or not pipeline.heavy.enabled:
        return light
    log, now = dataset.log, job.windows.test_start
    users = np.unique(log.window(end=now).user).astype(np.int32)
    users = np.random.default_rng(job.settings.seed).permutation(users)
    if config.distil:
        size = min(size, len(users) // 2)
    taught = users[size : size + DISTIL_USERS] if config.distil else users[:0]
    state, snapshot = bundle.state, bundle.snapshot
    if now < state.now:
        state = State.build(bundle.catalogue, log, now, **job.edges)
        snapshot = Snapshot.build(bundle.spec, bundle.catalogue, log, now, **job.edges)
    both = replace(bundle, heavy=heavy, order=Order(HEAVY, HEAVY))

    def scored(light: LightRanker, who: np.ndarray) -> Scored:
        served = replace(both, light=light)
        return score_candidates(served, pipeline, state, snapshot, who, light.names, job.settings.seed)

    if config.distil and len(taught):
        features, target, user = lesson(scored(light, taught))
        if target.any() and not target.all():
            light = fit_linear(config, light.names, features, target, group=user)
            job.metrics["light"] = {"the heavy ranker's best": {"train_roc_auc": light.auc}}
        else:
            job.notes.append("the light ranker is not distilled: nobody has more candidates than are kept")
    if size and len(users):
        job.metrics.setdefault("light", {})["cut"] = survival(scored(light, users[:size]), pipeline.light.keep)
    return light


def _labels(dataset: Dataset) -> Labels:
    """What is shown for an item: its title or name, else its text, else nothing."""
    column = next((c for c in ("title", "name", "text") if c in dataset.items.columns), None)
    if column is None:
        return Labels(np.zeros(dataset.items.height + 1, np.int64), np.zeros(0, np.uint8))
    texts = [(t or "").encode() for t in dataset.items[column].cast(pl.String).to_list()]
    return Labels(offsets_of(np.array([len(t) for t in texts], np.int64)), np.frombuffer(b"".join(texts), np.uint8))
