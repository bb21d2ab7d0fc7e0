"""Simulated experiments: variants served by the pipeline to the people of a generated world, day by day.

Each variant lives in a copy of the world: its users meet its pipeline alone, and its log (that of the dataset
plus what its own users did) is all it learns from; with `shared_state` all variants learn from the log of all users,
as they do in production. All variants meet the same visits at the same moments and
people whose reaction to the same item at the same time is the same (common random numbers), so that only
what is shown differs. Models are not retrained; histories, counters and features are brought up to date
at the start of every day, what a user was shown counts at once. Items published during a day are served
from the next day on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.schema import DAY
from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.experiments.arm_life import ArmLife, Life, Lived, outcomes
from recsys_cli.experiments.assignment import OUTSIDE, assign_units
from recsys_cli.experiments.clusters import clusters_of, sum_by_cluster
from recsys_cli.experiments.daily import DailyOutcomes
from recsys_cli.experiments.second_process import SecondProcess
from recsys_cli.progress import Progress, Step

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import Experiment, ExperimentConfig
    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.world.simulator import World

BEFORE_DAYS = 14
"""Length of the time before the experiment whose sums are the covariates `before_*`."""


@dataclass(frozen=True)
class Simulated:
    """What an experiment on a world gave, one row a unit."""

    users: np.ndarray
    """int32[U] positions of the users who took part, or numbers of clusters"""
    arm: np.ndarray
    """int8[U] place among the variants, 0 control"""
    columns: dict[str, np.ndarray]
    """column of the table of outcomes → float64[U], sums over the days"""
    by_day: DailyOutcomes
    """sums by day of what the primary metric and the guardrails count"""
    daily: list[dict[str, Any]]
    """one row a day and arm: requests, users, impressions, and sums of outcomes"""
    arms: dict[str, dict[str, Any]]
    """arm → requests, impressions, distinct items, coverage, fallback"""


def simulate(
    experiment: Experiment,
    engine: RecommendationEngine,
    dataset: Dataset,
    world: World,
    *,
    artifacts: Path | None = None,
    together: bool = False,
    progress: Progress | None = None,
    resume: Path | None = None,
) -> Simulated:
    """Run an experiment on the world behind the dataset.

    artifacts: the folder from which the engine was loaded; variants with a run of their own need it. together: two
    variants that live apart take a process each, with the same result. resume: folder in which each day's slates are
    kept, and from which a simulation that was interrupted goes on. Raises ArtifactError where the run was trained on
    other data, and ConfigError where the world has no new items for so many days.
    """
    from threadpoolctl import threadpool_limits

    config = experiment.config
    check_fits(engine, dataset, world, config)
    first_day, clusters = taking_part(config, dataset)
    works = [
        ArmWork(
            dataset.path,
            artifacts,
            arm.run or (engine.manifest.id if engine.manifest else None),
            pipeline,
            np.where(first_day[0] == k, first_day[1], -1),
            config.days,
            frozenset(_watched(config)),
            _kept_in(resume, experiment, engine, dataset, arm.name),
        )
        for k, (arm, pipeline) in enumerate(zip(config.arms, experiment.pipelines, strict=True))
    ]
    apart = together and artifacts is not None and len(works) == 2 and not config.shared_state
    total = config.days * (1 if apart or config.shared_state else len(works))
    with threadpool_limits(1), (progress or Progress()).step("simulated days", total=total) as bar:
        if apart:
            with SecondProcess(works[1]) as other:
                lives = [works[0].live(engine, dataset, world, bar), other.result()]
        elif config.shared_state:
            lives = _live_together(works, engine, dataset, world, bar)
        else:
            lives = [work.live(engine, dataset, world, bar) for work in works]
    known = with_future(engine, dataset, world, config.days)
    available = int((known.item_created < world.end + config.days * DAY).sum())
    return _collect(dataset, world, first_day, clusters, lives, config, available)


def _watched(config: ExperimentConfig) -> set[str]:
    watched = {config.deciding, *config.guardrails}
    return {c for metric in config.metrics if metric.name in watched for c in metric.outcomes}


def taking_part(
    config: ExperimentConfig, dataset: Dataset
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray | None]:
    """((int8[U] variant of each user, int[U] day from 0 on which it begins), int[U] cluster or None)."""
    ids = dataset.user_ids.external(np.arange(len(dataset.user_ids)))
    clusters = clusters_of(dataset) if config.unit == "cluster" else None
    attributes = _attributes(config, dataset, ids)
    starts = sorted({min(day, config.days) for day in config.ramp} | {1}, reverse=True)
    member = np.full(len(ids), OUTSIDE, np.int8)
    first = np.zeros(len(ids), np.int64)
    for day in starts:
        arm = assign_units(config, ids, clusters=clusters, attributes=attributes, day=day)
        member = np.where(arm != OUTSIDE, arm, member)
        first[arm != OUTSIDE] = day - 1
    return (member, first), clusters


def _attributes(config: ExperimentConfig, dataset: Dataset, ids: np.ndarray) -> Mapping[str, list]:
    if not config.targeting:
        return {}
    table = dataset.users
    place = {str(user): i for i, user in enumerate(table["user_id"].to_list())}
    at = [place[str(user)] for user in ids]
    return {c: table[c].gather(at).to_list() for c in config.targeting if c in table.columns}


def _kept_in(
    resume: Path | None, experiment: Experiment, engine: RecommendationEngine, dataset: Dataset, name: str
) -> Path | None:
    """Beginning of the names of a variant's files: those of another experiment, run or dataset are not taken."""
    if resume is None:
        return None
    known = [experiment.config.digest(), dataset.manifest.digest, engine.manifest.id if engine.manifest else ""]
    known += [pipeline.model_dump_json() for pipeline in experiment.pipelines]
    return resume / f"{name}-{hashlib.blake2b(repr(known).encode(), digest_size=6).hexdigest()}"


def check_fits(engine: RecommendationEngine, dataset: Dataset, world: World, config: ExperimentConfig) -> None:
    """Raises ArtifactError where the run was trained on other data, and ConfigError where the days are too many."""
    if engine.manifest is not None and engine.manifest.dataset.digest != dataset.manifest.digest:
        raise ArtifactError(
            f"run {engine.manifest.id} was trained on {engine.manifest.dataset.name}, {dataset.path} holds other rows",
            "name the dataset of the run with --data-dir or -c, or train again",
        )
    if config.days > world.horizon_days:
        raise ConfigError(
            f"experiment {config.name}: {config.days} days, but the world publishes new items for {world.horizon_days}",
            "shorten `days`, or generate the world with a longer `world.horizon_days`",
        )


@dataclass(frozen=True)
class ArmWork:
    """Everything that it takes to live through one variant, in this process or in one of its own."""

    data: Path
    artifacts: Path | None
    run: str | None
    pipeline: PipelineConfig
    first_day: np.ndarray
    days: int
    keep: frozenset[str]
    slates: Path | None

    def __call__(self) -> Lived:
        from recsys_cli.data.dataset import Dataset
        from recsys_cli.engine import RecommendationEngine
        from recsys_cli.world.simulator import World

        engine = RecommendationEngine.load(self.artifacts, self.run, self.pipeline)
        return self.live(engine, Dataset.open(self.data), World.open(self.data), Step())

    def live(self, engine: RecommendationEngine, dataset: Dataset, world: World, bar: Step) -> Lived:
        return self.begin(engine, dataset, world, Life.of(dataset, world)).live(self.days, bar)

    def begin(self, engine: RecommendationEngine, dataset: Dataset, world: World, life: Life) -> ArmLife:
        """The variant before its first day. engine: of the run in use; another run is loaded."""
        mine = engine.with_pipeline(self.pipeline)
        if self.run is not None and (engine.manifest is None or engine.manifest.id != self.run):
            if self.artifacts is None:
                raise ArtifactError(f"a variant is served by run {self.run}", "say in which artifacts folder it lies")
            from recsys_cli.engine import RecommendationEngine

            mine = RecommendationEngine.load(self.artifacts, self.run, self.pipeline)
        catalogue = with_future(mine, dataset, world, self.days)
        return ArmLife(mine, dataset, world, self.first_day, catalogue, life, self.keep, self.slates)


def _live_together(
    works: list[ArmWork], engine: RecommendationEngine, dataset: Dataset, world: World, bar: Step
) -> list[Lived]:
    """All variants in one world: what anybody did on a day is what all learn from on the next."""
    life = Life.of(dataset, world)
    arms = [work.begin(engine, dataset, world, life) for work in works]
    for day in range(works[0].days):
        for arm in arms:
            arm.live_day(day)
        life.settle()
        bar.advance()
    return [arm.lived() for arm in arms]


def with_future(engine: RecommendationEngine, dataset: Dataset, world: World, days: int) -> Catalogue:
    """The catalogue with all items that the simulated days bring; they become available as they are published, with
    the safety scores that the run's classifiers give those which bring none."""
    import polars as pl

    from recsys_cli.data.encode import encode_items
    from recsys_cli.data.vocabulary import lookup

    tables = [table for day in range(days) if (table := world.future_items(day)).num_rows]
    catalogue = engine.bundle.catalogue
    if not tables:
        return catalogue
    items = pl.concat([pl.DataFrame(pl.from_arrow(t)) for t in tables])
    fields = encode_items(items, lookup(dataset.author_ids, items["author_id"]), dict(catalogue.names))
    longer = catalogue.append_items(replace(catalogue, **fields))
    return engine.bundle.safety.fill(longer, items, first=catalogue.n_items)[0]


def _collect(
    dataset: Dataset,
    world: World,
    first_day: tuple[np.ndarray, np.ndarray],
    clusters: np.ndarray | None,
    lives: list[Lived],
    config: ExperimentConfig,
    available: int,
) -> Simulated:
    member, first = first_day
    users = np.flatnonzero(member != OUTSIDE).astype(np.int32)
    arm = member[users]
    columns = {name: _of_own(lives, name, users, arm) for name in lives[0].sums}
    columns["days"] = (config.days - first[users]).astype(float)
    columns |= {f"before_{name}": values[users] for name, values in _before(dataset, world, len(member)).items()}
    by_day = _by_day(lives, users, arm, first[users], config)
    facts = {
        each.name: {
            "requests": sum(row["requests"] for row in life.daily),
            "impressions": sum(row["impressions"] for row in life.daily),
            "distinct_items": life.distinct_items,
            "coverage": life.distinct_items / max(available, 1),
            "fallback": life.fallback,
        }
        for each, life in zip(config.arms, lives, strict=True)
    }
    daily = [
        {"day": day + 1, "arm": each.name, **life.daily[day]}
        for day in range(config.days)
        for each, life in zip(config.arms, lives, strict=True)
    ]
    if clusters is not None:
        users, arm, columns, by_day = sum_by_cluster(clusters[users], arm, columns, by_day)
    return Simulated(users, arm, columns, by_day, daily, facts)


def _of_own(lives: list[Lived], name: str, users: np.ndarray, arm: np.ndarray) -> np.ndarray:
    """float64[U] sums of each user in the variant that it was in."""
    return np.stack([life.sums[name][users] for life in lives])[arm, np.arange(len(users))]


def _before(dataset: Dataset, world: World, n: int) -> dict[str, np.ndarray]:
    past = dataset.log.window(world.end - BEFORE_DAYS * DAY, world.end)
    before = outcomes(past, n)
    if past.session is not None:
        sessions = np.unique(past.session, return_index=True)[1]
        before["sessions"] = np.bincount(past.user[sessions], minlength=n).astype(float)
    return before


def _by_day(
    lives: list[Lived], users: np.ndarray, arm: np.ndarray, first: np.ndarray, config: ExperimentConfig
) -> DailyOutcomes:
    """What every user did on every day on which it took part, days without a visit with zeros."""
    units, days, parts = [], [], []
    for day in range(config.days):
        there = np.flatnonzero(first <= day)
        names = lives[0].by_day[day]
        rows = {c: np.stack([life.by_day[day][c][users] for life in lives])[arm, np.arange(len(users))] for c in names}
        rows["days"] = np.ones(len(users))
        units.append(there)
        days.append(np.full(len(there), day + 1))
        parts.append({c: v[there] for c, v in rows.items()})
    sums = {c: np.concatenate([part[c] for part in parts]) for c in parts[0]}
    return DailyOutcomes(np.concatenate(units), np.concatenate(days), sums, first + 1)
