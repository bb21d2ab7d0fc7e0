"""Simulated experiments: both arms served by the pipeline to the people of a generated world, day by day.

Each arm lives in a copy of the world: its users meet its pipeline alone, and its log (that of the dataset
plus what its own users did) is all it learns from. Both arms meet the same visits at the same moments and
people whose reaction to the same item at the same time is the same (common random numbers), so that only
what is shown differs. Models are not retrained; histories, counters and features are brought up to date
at the start of every day, what a user was shown counts at once. Items published during a day are served
from the next day on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import DAY
from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.experiments.analysis import ARMS
from recsys_cli.experiments.assignment import OUTSIDE, assign
from recsys_cli.experiments.second_process import SecondProcess
from recsys_cli.progress import Progress, Step
from recsys_cli.slate_batch import SlateBatch

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.state import State
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import Experiment, ExperimentConfig
    from recsys_cli.pipeline.config import PipelineConfig
    from recsys_cli.world.simulator import World
    from recsys_cli.world.visits import Visits

BEFORE_DAYS = 14
"""Length of the time before the experiment whose sums are the covariates `before_*`."""
_SESSIONS = 2**40
"""Offset of simulated session and request ids, beyond those of any dataset."""


@dataclass(frozen=True)
class Simulated:
    """What an experiment on a world gave."""

    users: np.ndarray
    """int32[U] positions of the users who took part"""
    arm: np.ndarray
    """int8[U], 0 control, 1 treatment"""
    columns: dict[str, np.ndarray]
    """column of the table of outcomes → float64[U], sums over the days"""
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
    progress: Progress | None = None,
) -> Simulated:
    """Run an experiment on the world behind the dataset.

    artifacts: the folder from which the engine was loaded; with it the treatment arm runs in a process of its
    own at the same time, with the same result. Raises ArtifactError where the run was trained on other data,
    and ConfigError where the world has no new items for so many days.
    """
    from threadpoolctl import threadpool_limits

    config = experiment.config
    _check(engine, dataset, world, config)
    ids = dataset.user_ids.external(np.arange(len(dataset.user_ids)))
    shares = (config.split.control, config.split.treatment)
    member = assign(ids, config.name, shares, traffic=config.traffic, salt=config.salt)
    if artifacts is None:
        with threadpool_limits(1), (progress or Progress()).step("simulated days", total=config.days * 2) as bar:
            catalogue = with_future(engine, dataset, world, config.days)
            lives = [
                _Arm(engine.with_pipeline(pipeline), dataset, world, member == a, catalogue).live(config.days, bar)
                for a, pipeline in enumerate((experiment.control, experiment.treatment))
            ]
    else:
        away = ArmWork(dataset.path, artifacts, engine.manifest.id, experiment.treatment, member == 1, config.days)
        bars = (progress or Progress()).step("simulated days", total=config.days)
        with SecondProcess(away) as other, threadpool_limits(1), bars as bar:
            catalogue = with_future(engine, dataset, world, config.days)
            arm = _Arm(engine.with_pipeline(experiment.control), dataset, world, member == 0, catalogue)
            lives = [arm.live(config.days, bar), other.result()]
    available = int((catalogue.item_created < world.end + config.days * DAY).sum())
    return _collect(dataset, world, member, lives, config.days, available)


def _check(engine: RecommendationEngine, dataset: Dataset, world: World, config: ExperimentConfig) -> None:
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
    """Everything that a process of its own needs to live through one arm."""

    data: Path
    artifacts: Path
    run: str
    pipeline: PipelineConfig
    mine: np.ndarray
    days: int

    def __call__(self) -> Lived:
        from recsys_cli.data.dataset import Dataset
        from recsys_cli.engine import RecommendationEngine
        from recsys_cli.world.simulator import World

        engine = RecommendationEngine.load(self.artifacts, self.run, self.pipeline)
        dataset, world = Dataset.open(self.data), World.open(self.data)
        arm = _Arm(engine, dataset, world, self.mine, with_future(engine, dataset, world, self.days))
        return arm.live(self.days, Step())


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


@dataclass(frozen=True)
class Lived:
    """What came of one arm."""

    sums: dict[str, np.ndarray]
    """column → float64[n_users]"""
    daily: list[dict[str, Any]]
    distinct_items: int
    fallback: dict[str, int]


@dataclass
class _Arm:
    """One arm: its pipeline, its log, and the sums of what its users did."""

    engine: RecommendationEngine
    dataset: Dataset
    world: World
    mine: np.ndarray
    """bool[n_users] who is in this arm"""
    catalogue: Catalogue
    sums: dict[str, np.ndarray] = field(default_factory=dict)
    fallback: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = self.dataset.log
        self.edges = {table: self.dataset.edges(table) for table in ("follows", "blocks")}
        self.satisfaction = self.world.satisfaction.copy()
        self.follows = self.world.follows()
        self.shown = np.zeros(self.catalogue.n_items, bool)

    def live(self, days: int, bar: Step) -> Lived:
        daily = []
        for day in range(days):
            daily.append(self._day(day))
            bar.advance()
        return Lived(self.sums, daily, int(self.shown.sum()), self.fallback)

    def _day(self, day: int) -> dict[str, Any]:
        """One day: serve every visit of the arm's users, let them respond, and learn from it."""
        visits = self.world.visits(day, self.satisfaction)
        rows = np.flatnonzero(self.mine[visits.user])
        now = self.world.end + day * DAY
        engine = self.engine.as_of(self.log, now, catalogue=self.catalogue, **self.edges)
        items = np.full((len(rows), engine.pipeline.slate_size), -1, np.int32)
        scores = {name: np.full(items.shape, np.nan, np.float32) for name in ("utility", "propensity")}
        for number, places in enumerate(_rounds(visits.user[rows])):
            at = rows[places]
            context = self._context(engine, visits, at)
            batch = engine.slates(visits.user[at], context=context, request=day * 1000 + number)
            items[places] = batch.items
            for name, column in scores.items():
                if name in batch.scores:
                    column[places] = batch.scores[name]
            for reason in batch.fallback:
                if reason is not None:
                    self.fallback[reason] = self.fallback.get(reason, 0) + 1
            engine = replace(engine, state=with_seen(engine.state, visits.user[at], batch.items))
        responses = self.world.respond(
            visits.user[rows],
            items,
            visits.time[rows],
            visits.surface[rows],
            visits.device[rows],
            visits.depth[rows],
            follows=self.follows,
        )
        if engine.pipeline.exploration.enabled:
            slates = SlateBatch(visits.user[rows], items, scores, np.zeros(items.shape, np.uint32), [], [])
            done = {action: responses[action] for action in self.log.actions}
            # features of the state are those of the start of the day, as the slates were served
            self.engine = replace(self.engine, state=engine.learn(slates, done, responses["dwell"]).state)
        return self._learn(visits, rows, items, responses, scores["propensity"])

    def _context(self, engine: RecommendationEngine, visits: Visits, at: np.ndarray):
        from recsys_cli.features.context import Context
        from recsys_cli.world.people import DEVICES
        from recsys_cli.world.visits import SURFACES

        codes = {
            name: _codes(self.catalogue.names.get(name, ()), names)[getattr(visits, name)[at]]
            for name, names in (("surface", SURFACES), ("device", DEVICES))
        }
        moment = max(int(np.median(visits.time[at])), engine.state.now)
        return Context(now=moment, **codes)

    def _learn(
        self, visits: Visits, rows: np.ndarray, items: np.ndarray, responses: dict, propensity: np.ndarray
    ) -> dict[str, Any]:
        user = visits.user[rows]
        self.satisfaction = self.world.next_satisfaction(self.satisfaction, user, items, responses)
        place, column = np.nonzero(items >= 0)
        actions = {a: responses[a][place, column] for a in self.log.actions}
        told = responses["dwell"][place, column], propensity[place, column]
        new = self._rows(visits, rows, items, place, column, actions, *told)
        if "follow" in actions:
            followed = actions["follow"]
            self.world.add_follows(self.follows, user[place][followed], items[place, column][followed])
        self.log = Log.concat(self.log, new)
        self.shown[new.item] = True
        day = outcomes(new, len(self.mine))
        day |= _slate_sums(items, user, len(self.mine), self.catalogue)
        day["sessions"] = np.bincount(
            user[np.unique(visits.session[rows], return_index=True)[1]], minlength=len(self.mine)
        ).astype(float)
        day["days_active"] = np.bincount(np.unique(user), minlength=len(self.mine)).astype(float)
        for name, column_sum in day.items():
            self.sums[name] = self.sums.get(name, 0.0) + column_sum
        totals = {n: float(v.sum()) if n == "dwell" else int(v.sum()) for n, v in day.items() if n != "days_active"}
        return {"requests": len(rows), "users": len(np.unique(user)), **totals}

    def _rows(self, visits: Visits, rows, items, place, column, actions, dwell, propensity) -> Log:
        """The day's impressions as rows of a log, ordered by time."""
        at = rows[place]
        order = np.lexsort((column, visits.user[at], visits.time[at]))
        at, place, column = at[order], place[order], column[order]
        base = self.log
        codes = {n: _codes(self.catalogue.names.get(n, ()), v) for n, v in _vocabularies().items()}
        return replace(
            base,
            _cache={},
            user=visits.user[at],
            item=items[place, column],
            time=visits.time[at],
            actions={a: done[order] for a, done in actions.items()},
            dwell=None if base.dwell is None else dwell[order],
            surface=None if base.surface is None else codes["surface"][visits.surface[at]],
            device=None if base.device is None else codes["device"][visits.device[at]],
            position=None if base.position is None else column.astype(np.int16),
            request=None if base.request is None else visits.request[at] + _SESSIONS,
            session=None if base.session is None else visits.session[at] + _SESSIONS,
            propensity=None if base.propensity is None else propensity[order],
        )


def _vocabularies() -> dict[str, tuple[str, ...]]:
    from recsys_cli.world.people import DEVICES
    from recsys_cli.world.visits import SURFACES

    return {"surface": SURFACES, "device": DEVICES}


def _codes(known: list[str], names: tuple[str, ...]) -> np.ndarray:
    """int16 code in the dataset of each of the world's names, -1 where the log never held it."""
    places = {name: i for i, name in enumerate(known)}
    return np.array([places.get(name, -1) for name in names], np.int16)


def _rounds(users: np.ndarray) -> Iterator[np.ndarray]:
    """Places of everybody's first request of the day, then of the second, and so on; users come grouped."""
    if not len(users):
        return
    first = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    number = np.arange(len(users)) - np.repeat(first, np.diff(np.append(first, len(users))))
    for turn in range(int(number.max()) + 1):
        yield np.flatnonzero(number == turn)


def with_seen(state: State, users: np.ndarray, items: np.ndarray) -> State:
    """The state with further items noted as seen. users: int32[R], each once. items: int32[R, S], -1 empty."""
    row, column = np.nonzero(items >= 0)
    width = np.int64(state.catalogue.n_items + 1)
    new = np.unique(users[row].astype(np.int64) * width + items[row, column])
    old = state.seen.rows.astype(np.int64) * width + state.seen.values
    place = np.searchsorted(old, new)
    unknown = np.ones(len(new), bool)
    inside = place < len(old)
    unknown[inside] = old[place[inside]] != new[inside]
    new, place = new[unknown], place[unknown]
    counts = state.seen.lengths + np.bincount(new // width, minlength=len(state.seen))
    values = np.insert(state.seen.values, place, (new % width).astype(state.seen.values.dtype))
    return replace(state, seen=Ragged(offsets_of(counts), values))


def outcomes(log: Log, n_users: int) -> dict[str, np.ndarray]:
    """Sums by user of what a log holds: impressions, each action, `engagement` (positive actions),
    `interactions` and `negative` (impressions with any positive or negative action), `dwell` seconds."""

    def by_user(weights=None) -> np.ndarray:
        return np.bincount(log.user, weights=weights, minlength=n_users).astype(float)

    out = {"impressions": by_user()} | {a: by_user(done) for a, done in log.actions.items()}
    out["engagement"] = sum((out[a] for a in log.positive_actions), np.zeros(n_users))
    out["interactions"], out["negative"] = by_user(log.positive), by_user(log.negative)
    if log.dwell is not None:
        out["dwell"] = by_user(np.nan_to_num(log.dwell))
    return out


def _slate_sums(items: np.ndarray, users: np.ndarray, n_users: int, catalogue: Catalogue) -> dict[str, np.ndarray]:
    """Slates, and distinct topics and authors summed over slates, by user."""
    slate, slot = np.nonzero(items >= 0)
    item = items[slate, slot]

    def distinct(row: np.ndarray, label: np.ndarray) -> np.ndarray:
        known = label >= 0
        width = np.int64(label.max(initial=0)) + 1
        pairs = np.unique(row[known].astype(np.int64) * width + label[known])
        return np.bincount(users[pairs // width], minlength=n_users).astype(float)

    places, topic = catalogue.item_topics.take(item)
    return {
        "slates": np.bincount(users[np.unique(slate)], minlength=n_users).astype(float),
        "topics": distinct(slate[places], topic),
        "authors": distinct(slate, catalogue.item_author[item]),
    }


def _collect(
    dataset: Dataset, world: World, member: np.ndarray, lives: list[Lived], days: int, available: int
) -> Simulated:
    users = np.flatnonzero(member != OUTSIDE).astype(np.int32)
    arm = member[users]
    first, second = (life.sums for life in lives)
    columns = {name: np.where(arm == 0, first[name][users], second[name][users]) for name in first}
    columns["days"] = np.full(len(users), float(days))
    past = dataset.log.window(world.end - BEFORE_DAYS * DAY, world.end)
    before = outcomes(past, len(member))
    if past.session is not None:
        sessions = np.unique(past.session, return_index=True)[1]
        before["sessions"] = np.bincount(past.user[sessions], minlength=len(member)).astype(float)
    columns |= {f"before_{name}": values[users] for name, values in before.items()}
    facts = {
        name: {
            "requests": sum(row["requests"] for row in life.daily),
            "impressions": sum(row["impressions"] for row in life.daily),
            "distinct_items": life.distinct_items,
            "coverage": life.distinct_items / max(available, 1),
            "fallback": life.fallback,
        }
        for name, life in zip(ARMS, lives, strict=True)
    }
    daily = [
        {"day": day + 1, "arm": name, **life.daily[day]}
        for day in range(days)
        for name, life in zip(ARMS, lives, strict=True)
    ]
    return Simulated(users, arm, columns, daily, facts)
