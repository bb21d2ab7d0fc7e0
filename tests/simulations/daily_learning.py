"""What learning is worth: 14 days of a world that drifts, lived through by policies that learn more and more.

`python tests/simulations/daily_learning.py --worlds 2`. Everybody meets each policy in a world of its own, with the
same visits and the same chance (common random numbers):

    frozen     models, counts, histories and the catalogue as of the training; what was seen is known
    counts     histories, counters, trends, features and new items brought forward every day
    online     counts, and exploration that learns from each impression
    retrained  counts, and trained anew every night on everything up to then

One line a comparison: true engagements (positive actions) a person more than frozen, with an interval.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recsys_cli.config import merge, validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.encode import encode_items
from recsys_cli.data.vocabulary import lookup
from recsys_cli.data.writer import write_dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.experiments.arm_life import ArmLife, Life
from recsys_cli.settings import Settings
from recsys_cli.simulation.changes import drifted
from recsys_cli.simulation.config import PolicyConfig, ScenarioConfig
from recsys_cli.simulation.measures import paired
from recsys_cli.training import train
from recsys_cli.world.generate import generate
from recsys_cli.world.simulator import World

TREE = {
    "threads": 1,
    "world": {"users": 120, "items": 900, "days": 10},
    "retrieval": {name: {"kind": name} for name in ("item_neighbours", "in_network", "trending", "popularity")},
    "pipeline": {"sourcing": {"candidates": 150, "shares": {
        "item_neighbours": 0.4, "in_network": 0.3, "trending": 0.2, "popularity": 0.1}}},
    "ranking": {"choose": "heavy", "heavy": {"kind": "lightgbm"}},
    "tuning": {"budget_seconds": 1},
}
SCENARIO = ScenarioConfig(policies={"one": PolicyConfig()})
KEPT = frozenset(("engagement",))


class Drifting(ArmLife):
    """A policy among people whose tastes drift."""

    def live_day(self, day: int) -> None:
        self.world = drifted(self.world, SCENARIO, day)
        super().live_day(day)
        self.life.settle()


class Frozen(Drifting):
    """Nothing is learned after the training."""

    start: RecommendationEngine | None = None

    def _engine_of(self, day: int) -> RecommendationEngine:
        now = super()._engine_of(day)
        self.start = self.start or now
        return replace(self.start, state=replace(self.start.state, seen=now.state.seen))


def catalogue_of(engine: RecommendationEngine, dataset: Dataset, world: World, first: int, days: int):
    """The catalogue of a run with the items that are published from a day on."""
    tables = [t for day in range(first, days) if (t := world.future_items(day)).num_rows]
    catalogue = engine.bundle.catalogue
    if not tables:
        return catalogue
    items = pl.concat([pl.DataFrame(pl.from_arrow(t)) for t in tables])
    fields = encode_items(items, lookup(dataset.author_ids, items["author_id"]), dict(catalogue.names))
    longer = catalogue.append_items(replace(catalogue, **fields))
    return engine.bundle.safety.fill(longer, items, first=catalogue.n_items)[0]


def begin(kind: type, engine, dataset: Dataset, world: World, days: int, first: int = 0, before: ArmLife | None = None):
    """A life from a day on; before: the one whose people it goes on with."""
    life = Life.of(dataset, world)
    if before is not None:
        life.satisfaction, life.follows = before.life.satisfaction, before.life.follows
    everybody = np.zeros(world.n_users, int)
    return kind(engine, dataset, world, everybody, catalogue_of(engine, dataset, world, first, days), life, KEPT)


def with_days(base: Dataset, life: ArmLife, world: World, days: int, target: Path) -> Dataset:
    """The dataset with what was published and what came of it in the days that a life has behind it."""
    future = [pl.DataFrame(pl.from_arrow(t)) for day in range(days) if (t := world.future_items(day)).num_rows]
    items = pl.concat([base.items, *future], how="diagonal_relaxed").select(base.items.columns)
    names = base.item_ids.external(np.arange(len(base.item_ids)))
    names = pl.Series([*names, *(i for table in future for i in table["item_id"].to_list())])
    old, log = base.table("impressions"), life.life.log
    new = log.take(np.arange(len(log)) >= len(life.dataset.log))
    columns: dict[str, Any] = {
        "user_id": base.user_ids.external(new.user), "item_id": names.gather(new.item),
        "timestamp": pl.Series(new.time).cast(old.schema["timestamp"]), **new.actions, "dwell_seconds": new.dwell,
        "position": new.position, "request_id": new.request, "session_id": new.session,
    }
    for name in ("surface", "device"):
        words = pl.Series([*life.catalogue.names[name], None], dtype=pl.String)
        columns[name] = words.gather(np.where(getattr(new, name) < 0, len(words) - 1, getattr(new, name)))
    there = {name: column for name, column in columns.items() if name in old.columns and column is not None}
    frame = pl.DataFrame(there)
    rows = pl.concat([life.dataset.table("impressions"), frame.cast({n: old.schema[n] for n in frame.columns})],
                     how="diagonal")
    tables = {name: base.table(name) for name in base.manifest.tables} | {"items": items, "impressions": rows}
    polarity = {action: info.polarity for action, info in base.manifest.actions.items()}
    write_dataset(target, base.manifest.name, tables, polarity, authors_are_users=base.manifest.authors_are_users)
    out = Dataset.open(target)
    assert out.item_ids.external(np.arange(len(out.item_ids))) == list(names), "positions of the world stay"
    assert len(out.log) == len(log)
    return out


def retrained(base: Dataset, world: World, settings: Settings, engine, days: int, folder: Path) -> np.ndarray:
    """float64[users] engagement of people whose model is trained anew every night."""
    total, life = np.zeros(world.n_users), begin(Drifting, engine, base, world, days)
    for day in range(days):
        life.live_day(day)
        total += life.by_day[-1]["engagement"]
        if day == days - 1:
            break
        place = folder / f"day-{day + 1}"
        dataset = with_days(base, life, world, day + 1, place)
        paths = settings.paths.model_copy(update={"data": str(place)})
        run = train(settings.model_copy(update={"paths": paths}))
        fresh = RecommendationEngine.load(settings.paths.artifacts, run.id)
        life = begin(Drifting, fresh, dataset, life.world, days, day + 1, life)
    return total


def one_world(seed: int, days: int, policies: list[str], folder: Path) -> dict[str, np.ndarray]:
    """Policy → engagement of each person."""
    tree = Settings().model_dump(mode="json")
    tree["pipeline"]["sourcing"]["shares"], tree["retrieval"] = {}, {}
    tree = merge(tree, TREE)
    paths = {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}
    settings = validate(Settings, tree | {"seed": seed, "paths": paths})
    generate(settings.world, seed, folder / "data", threads=1)
    engine = RecommendationEngine.load(settings.paths.artifacts, train(settings).id)
    dataset, world = Dataset.open(folder / "data"), World.open(folder / "data")
    exploring = engine.pipeline.model_copy(update={"exploration": engine.pipeline.exploration.model_copy(
        update={"enabled": True})})
    out = {}
    for name in policies:
        started = time.process_time()
        if name == "retrained":
            out[name] = retrained(dataset, world, settings, engine, days, folder)
        else:
            mine = engine.with_pipeline(exploring) if name == "online" else engine
            life = begin(Frozen if name == "frozen" else Drifting, mine, dataset, world, days)
            for day in range(days):
                life.live_day(day)
            out[name] = life.sums["engagement"]
        took = time.process_time() - started
        print(f"world {seed}: {name} {out[name].mean():.2f} a person, {took:.0f} s", flush=True)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--save", type=Path, help="folder for the engagements of each person, one file a policy")
    parser.add_argument("--policies", nargs="*", default=["frozen", "counts", "online", "retrained"])
    asked = parser.parse_args()
    found = []
    for seed in range(asked.first, asked.first + asked.worlds):
        folder = Path(tempfile.mkdtemp(prefix="recsys-learning-"))
        try:
            found.append(one_world(seed, asked.days, asked.policies, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    first, *others = asked.policies
    together = {name: np.concatenate([world[name] for world in found]) for name in asked.policies}
    if asked.save is not None:
        asked.save.mkdir(parents=True, exist_ok=True)
        for name, people in together.items():
            np.save(asked.save / f"{name}.npy", people)
    for name in others:
        gap = paired(together[first], together[name], 0.05)
        share = gap["value"] / together[first].mean()
        print(f"{name} against {first}: {gap['value']:+.2f} engagements a person ({gap['low']:+.2f} to "
              f"{gap['high']:+.2f}), {share:+.1%}, {len(together[name])} people in {asked.worlds} worlds")


if __name__ == "__main__":
    main()
