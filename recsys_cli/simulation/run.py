"""A scenario lived through: every policy, day by day, and how the policies compare."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.errors import ArtifactError, ConfigError, DataError
from recsys_cli.experiments.arm_life import ArmLife, Life
from recsys_cli.experiments.shards import Processes, Shards, shards_of
from recsys_cli.experiments.simulate import ArmWork
from recsys_cli.progress import Progress
from recsys_cli.simulation import changes, measures
from recsys_cli.simulation.config import ScenarioConfig
from recsys_cli.world.people import HARMS

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.world.simulator import World

WINDOW = 7
"""Days behind each figure of variety and creators."""
UNSAFE = 0.5
"""True degree of any harm from which an impression counts as unsafe."""
RESAMPLES = 200
"""Resamples of the people behind the interval of the creators' Gini."""
_KEPT = frozenset({"engagement", "impressions", "days_active", "topics", "slates"})


@dataclass
class PolicyLife(ArmLife):
    """A policy in a world that changes."""

    scenario: ScenarioConfig | None = None
    shown_rows: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    """(user, item) int32 of each day's impressions"""
    withheld: int = 0

    def live_day(self, day: int) -> None:
        """One day, after what changed over night."""
        self.world = changes.arrivals(self.world, self.scenario, day)
        if day:
            self.world = changes.drifted(self.world, self.scenario, day)
            self._creators(day)
        before = len(self.life.new)
        super().live_day(day)
        rows = self.life.new[before]
        self.shown_rows.append((rows.user, rows.item))

    def _creators(self, day: int) -> None:
        """Authors whom nobody saw lately may keep back what they would publish today. In a shared market everybody's
        impressions count."""
        days = self.scenario.creators.days
        if not self.scenario.creators.discouraged or day < days:
            return
        recent = self.life.log.window(start=self.world.end + (day - days) * DAY)
        author = self.world.model.behaviour.content.author[recent.item]
        exposure = np.bincount(author, minlength=self.world.n_users)
        back = changes.kept_back(self.world, self.scenario, day, exposure)
        self.catalogue.item_created[back] = changes.NEVER
        self.withheld += len(back)


def simulate_scenario(
    config: ScenarioConfig, pipelines: dict[str, PipelineConfig], engine: RecommendationEngine, dataset: Dataset, *,
    artifacts: Path | None = None, resume: Path | None = None, processes: int = 1, progress: Progress | None = None,
) -> dict[str, Any]:
    """Live through the scenario under each policy; see `recsys docs simulation` for the figures.

    artifacts: the folder from which the engine was loaded. resume: folder that keeps each day's slates, from which a
    simulation that was interrupted goes on identically. processes: that serve side by side, as far as there are shards
    of users (`experiments.shards`), with the same result; they need artifacts.
    Raises DataError where no world stands behind the dataset, and ConfigError where its items do not last so long.
    """
    from recsys_cli.world.simulator import World

    if "generator" not in dataset.manifest.origin:
        raise DataError(f"{dataset.path} was not generated: there are no people to simulate",
                        "use a world from `recsys generate-data`")
    world = World.open(dataset.path)
    _check(config, engine, dataset, world)
    count = shards_of(world.n_users)
    number = min(processes, count) if artifacts is not None and engine.manifest is not None else 1
    run = None if engine.manifest is None else engine.manifest.id
    work = ScenarioWork(config, pipelines, dataset.path, artifacts, run, resume)
    if number > 1:
        engine = replace(engine, threads=1)
    with Processes(work, count, number) as shards:
        lives = work.begin(engine, dataset, world, shards)
        _live(lives, config, progress or Progress())
    return _document(config, engine, dataset, changes.shocked(world, config), lives, _members(config, world))


@dataclass(frozen=True)
class ScenarioWork:
    """Everything that it takes to live through a scenario, in this process or in one beside it."""

    config: ScenarioConfig
    pipelines: dict[str, PipelineConfig]
    data: Path
    artifacts: Path | None
    run: str | None
    resume: Path | None

    def __call__(self, shards: Shards) -> None:
        from recsys_cli.data.dataset import Dataset
        from recsys_cli.engine import RecommendationEngine
        from recsys_cli.world.simulator import World

        pipeline = next(iter(self.pipelines.values()))
        engine = RecommendationEngine.load(self.artifacts, self.run, pipeline, threads=1)
        dataset = Dataset.open(self.data)
        _live(self.begin(engine, dataset, World.open(self.data), shards), self.config, Progress())

    def begin(
        self, engine: RecommendationEngine, dataset: Dataset, world: World, shards: Shards
    ) -> dict[str, PolicyLife]:
        """Every policy before its first day. engine: of the run in use."""
        config = self.config
        world = changes.shocked(world, config)
        member = _members(config, world)
        lives = {}
        together = Life.of(dataset, world) if config.market == "shared" else None
        for k, (name, pipeline) in enumerate(self.pipelines.items()):
            run = config.policies[name].run or self.run
            first_day = np.where((member == k) | (member < 0), 0, -1)
            kept = _kept_in(self.resume, config, self.pipelines, engine, dataset, name)
            work = ArmWork(self.data, self.artifacts, run, pipeline, first_day, config.days, _KEPT, kept)
            arm = work.begin(engine, dataset, world, together or Life.of(dataset, world))
            catalogue = _own_dates(arm.catalogue)
            lives[name] = PolicyLife(arm.engine, dataset, world, first_day, catalogue, arm.life, _KEPT, kept, shards,
                                     scenario=config)
        return lives


def _check(config: ScenarioConfig, engine: RecommendationEngine, dataset: Dataset, world: World) -> None:
    if engine.manifest is not None and engine.manifest.dataset.digest != dataset.manifest.digest:
        raise ArtifactError(f"run {engine.manifest.id} was trained on other data than {dataset.path}",
                            "name the dataset of the run with --data-dir or -c, or train again")
    if config.days > world.horizon_days:
        raise ConfigError(
            f"scenario {config.name}: {config.days} days, but the world publishes new items for {world.horizon_days}",
            "shorten `days`, or generate the world with a longer `world.horizon_days`",
        )


def _members(config: ScenarioConfig, world: World) -> np.ndarray:
    """int[n_users] the policy of each user in a shared market, -1 for all of them in worlds of their own."""
    if config.market == "own":
        return np.full(world.n_users, -1)
    return np.random.default_rng([world.model.seed, len(config.policies)]).integers(
        0, len(config.policies), world.n_users
    )


def _own_dates(catalogue):
    """The catalogue with dates of its items that only one policy changes."""
    return replace(catalogue, item_created=catalogue.item_created.copy())


def _kept_in(resume, config, pipelines, engine, dataset, name: str) -> Path | None:
    """Beginning of the names of a policy's files: those of another scenario, run or dataset are not taken."""
    if resume is None:
        return None
    # the days too: how many items are to come decides what random draws among all give
    known = [config.model_dump_json(exclude={"description"}), dataset.manifest.digest,
             engine.manifest.id if engine.manifest else "", *(p.model_dump_json() for p in pipelines.values())]
    return resume / f"{name}-{hashlib.blake2b(repr(known).encode(), digest_size=6).hexdigest()}"


def _live(lives: dict[str, PolicyLife], config: ScenarioConfig, progress: Progress) -> None:
    from threadpoolctl import threadpool_limits

    shared = config.market == "shared"
    with threadpool_limits(1), progress.step("simulated days", total=config.days * len(lives)) as bar:
        for day in range(config.days):
            for life in lives.values():
                life.live_day(day)
                if not shared:
                    life.life.settle()
                bar.advance()
            if shared:
                next(iter(lives.values())).life.settle()


def _document(config, engine, dataset, world, lives: dict[str, PolicyLife], member: np.ndarray) -> dict[str, Any]:
    people = {name: _of_people(life, world, config) for name, life in lives.items()}
    daily = [row for name, life in lives.items() for row in _by_day(name, life, world)]
    first, *others = lives
    mean = {name: {m: _mean(v[_mine(member, k)]) for m, v in people[name].items()} for k, name in enumerate(lives)}
    creators = _creators_gini(lives, world)
    for name in lives:
        mean[name]["creators_gini"] = creators[name][0]
    against = []
    for k, name in enumerate(others, start=1):
        for metric, values in people[name].items():
            a, b = people[first][metric], values
            if config.market == "own":
                found = measures.paired(a, b, config.alpha)
            else:
                found = measures.apart(a[member == 0], b[member == k], config.alpha)
            against.append({"policy": name, "metric": metric, **found})
        gap = creators[name][1] - creators[first][1]
        low, high = np.nanquantile(gap, [config.alpha / 2, 1 - config.alpha / 2])
        value = creators[name][0] - creators[first][0]
        against.append({"policy": name, "metric": "creators_gini", "value": value, "low": float(low),
                        "high": float(high)})
    return {
        "scenario": config.name, "description": config.description, "days": config.days, "market": config.market,
        "run": engine.manifest.id if engine.manifest else None, "users": world.n_users, "alpha": config.alpha,
        "shocks": [shock.model_dump() for shock in config.shocks], "policies": mean, "compared_with": first,
        "differences": against, "daily": daily,
        "kept_back": {name: life.withheld for name, life in lives.items()},
        "fallback": {name: life.fallback for name, life in lives.items()},
    }


def _mine(member: np.ndarray, k: int) -> np.ndarray:
    return (member == k) | (member < 0)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _of_people(life: PolicyLife, world: World, config: ScenarioConfig) -> dict[str, np.ndarray]:
    """metric → float64[n_users]; NaN for whom there is none."""
    days = range(config.days)
    active = np.array([life.by_day[d]["days_active"] > 0 for d in days])
    early, late = active[:WINDOW].any(axis=0), active[-WINDOW:].any(axis=0)
    sums = life.sums
    with np.errstate(divide="ignore", invalid="ignore"):
        topics = np.where(sums["slates"] > 0, sums["topics"] / sums["slates"], np.nan)
        user, item = _rows(life, config.days, config.days)
        harm = (life.world.model.behaviour.content.harms[item] > UNSAFE).any(axis=1)
        unsafe = np.bincount(user, harm, minlength=world.n_users) / sums["impressions"]
    user, item = _rows(life, config.days, WINDOW)
    content = world.model.behaviour.content
    bubble = measures.bubble_depth(user, content.topics[item, 0], world.n_users, world.model.config.topics)
    return {
        "engagement": sums["engagement"], "days_active": sums["days_active"],
        # of fewer days the two ends are the same days
        "retention": np.where(early & (config.days >= 2 * WINDOW), late, np.nan).astype(float),
        "topics_per_slate": topics,
        "unsafe_share": unsafe, "bubble_depth": bubble,
    }


def _rows(life: PolicyLife, end: int, days: int) -> tuple[np.ndarray, np.ndarray]:
    part = life.shown_rows[max(end - days, 0) : end]
    return np.concatenate([u for u, _ in part]), np.concatenate([i for _, i in part])


def _creators_gini(lives: dict[str, PolicyLife], world: World) -> dict[str, tuple[float, np.ndarray]]:
    """policy → (Gini of authors' impressions in the last days, the same of resampled people)."""
    author_of = world.model.behaviour.content.author
    among = world.model.people.publishing > 0
    counts = np.random.default_rng(world.model.seed).multinomial(
        world.n_users, np.full(world.n_users, 1 / world.n_users), size=RESAMPLES
    ).astype(float)
    out = {}
    for name, life in lives.items():
        user, item = _rows(life, len(life.shown_rows), WINDOW)
        author, n = author_of[item], world.n_users
        value = measures.gini(np.bincount(author, minlength=n)[among])
        out[name] = value, measures.resampled_gini(user, author, n, n, counts, among)
    return out


def _by_day(name: str, life: PolicyLife, world: World) -> list[dict[str, Any]]:
    content, among = world.model.behaviour.content, world.model.people.publishing > 0
    topics = world.model.config.topics
    rows = []
    for day, told in enumerate(life.daily):
        user, item = _rows(life, day + 1, WINDOW)
        bubble = measures.bubble_depth(user, content.topics[item, 0], world.n_users, topics)
        today = life.shown_rows[day][1]
        harm = (content.harms[today] > UNSAFE).any(axis=1)
        rows.append({
            "policy": name, "day": day + 1, "users": told["users"], "impressions": told["impressions"],
            "engagement": told["engagement"] / max(told["impressions"], 1),
            "topics_per_slate": told["topics"] / max(told["slates"], 1),
            "distinct_items": len(np.unique(item)),
            "creators_gini": measures.gini(np.bincount(content.author[item], minlength=world.n_users)[among]),
            "unsafe_share": float(harm.mean()) if len(harm) else float("nan"),
            "spam_share": float((content.harms[today, HARMS.index("spam")] > UNSAFE).mean()) if len(today) else 0.0,
            "bubble_depth": _mean(bubble),
        })
    return rows
