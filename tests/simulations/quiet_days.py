"""Alerts on quiet days and on planted shifts: `python tests/simulations/quiet_days.py --worlds 3`.

In each world people come for 28 days, which stand for the training data, and for 90 more, on which nothing changes but
what chance, new items and the days of the week change. Then one more day comes in several ways: as the others, from
another surface, with one topic in half of what is shown, and with half of the clicks. Items are drawn from those of
the last two weeks. One line a world: the alerts of the 90 days, and which alert tells of each shift on its first day.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.config import validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.live.alerts import standing
from recsys_cli.live.config import MonitorConfig
from recsys_cli.live.figures import daily_figures
from recsys_cli.live.rollup import Day, Described, counts_of_shown
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate
from recsys_cli.world.simulator import World

TRAINING, QUIET, RECENT = 28, 90, 14
SHOWN = 10
START = dt.date(2026, 1, 1)


class People:
    """The people of a world, who are shown items that are not old."""

    def __init__(self, folder: Path, seed: int):
        config = validate(WorldConfig, {"users": 300, "items": 2_000, "days": 14, "horizon_days": TRAINING + QUIET + 1})
        generate(config, seed, folder, threads=1)
        self.world, self.rng = World.open(folder), np.random.default_rng(seed)
        dataset = Dataset.open(folder)
        future = [pl.DataFrame(pl.from_arrow(self.world.future_items(d))) for d in range(self.world.horizon_days)]
        self.items = pl.concat([dataset.items, *(f for f in future if f.height)], how="diagonal_relaxed")
        self.ids, self.users = self.items["item_id"].to_numpy(), dataset.user_ids
        self.created = self.items["created_at"].dt.epoch("us").to_numpy()
        self.topic = self.items["topics"].list.first().to_numpy()
        described = Described.of(dataset)
        known = [pl.col("item_id").cast(pl.String), pl.col("created_at"), pl.col("media_type"), pl.col("language"),
                 pl.col("topics").list.first().cast(pl.String).alias("topic")]
        described.items, described.n_items = self.items.select(known), self.items.height
        self.described, self.actions = described, tuple(dataset.manifest.actions)

    def day(self, day: int, shift: str = "") -> Day:
        """The counts of one day; shift: what is different on it."""
        visits, now = self.world.visits(day), self.world.end + day * 86_400_000_000
        fresh = np.flatnonzero((self.created <= now) & (self.created > now - RECENT * 86_400_000_000))
        chance = np.ones(len(fresh))
        if shift == "one topic":
            mine = self.topic[fresh] == self.topic[fresh[0]]
            chance[mine] = (~mine).sum() / mine.sum()
        picked = self.rng.choice(fresh, (len(visits.user), SHOWN), p=chance / chance.sum())
        told = self.world.respond(visits.user, picked, visits.time, visits.surface, visits.device, visits.depth)
        dwell = told.pop("dwell").ravel()
        surface = np.array(self.world.surfaces)[np.repeat(visits.surface, SHOWN)]
        if shift == "another surface":
            surface = np.where(self.rng.random(len(surface)) < 0.7, "widget", surface)
        if shift == "half the clicks":
            told = {name: done & (self.rng.random(done.shape) < 0.5) for name, done in told.items()}
        frame = pl.DataFrame({
            "user_id": self.users.external(np.repeat(visits.user, SHOWN)), "item_id": self.ids[picked.ravel()],
            "timestamp": pl.Series(np.repeat(visits.time, SHOWN)).cast(pl.Datetime("us", "UTC")),
            "position": np.tile(np.arange(SHOWN), len(visits.user)), "surface": surface,
            "device": np.array(self.world.devices)[np.repeat(visits.device, SHOWN)], "dwell_seconds": dwell,
            **{name: told[name].ravel() for name in self.actions},
        })
        return counts_of_shown(frame.filter(pl.col("dwell_seconds").is_finite()), self.described)


def total(days: list[Day]) -> Day:
    out: Day = {}
    for day in days:
        for key, value in day.items():
            out[key] = out.get(key, 0.0) + value
    return out


def raised(days: list[Day], reference: Day, last: int | None = None) -> list[str]:
    """Names of the alerts that are raised, on the last days alone where so many are named."""
    daily = daily_figures({START + dt.timedelta(days=n): day for n, day in enumerate(days)}, reference)
    first = max(daily) - dt.timedelta(days=last - 1) if last else min(daily)
    history = standing(MonitorConfig(), daily)
    return [f"{a.name} on day {(a.day - START).days + 1} ({a.figure} {a.value:.3g})" for of in history.values()
            for a in of if a.state == "raised" and a.day >= first]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="seed of the first world")
    asked = parser.parse_args()
    for seed in range(asked.first, asked.first + asked.worlds):
        started, folder = time.process_time(), Path(tempfile.mkdtemp(prefix="recsys-quiet-"))
        try:
            people = People(folder / "data", seed)
            reference = total([people.day(day) for day in range(TRAINING)])
            quiet = [people.day(day) for day in range(TRAINING, TRAINING + QUIET)]
            shifts = {
                name: raised([*quiet, people.day(TRAINING + QUIET, name)], reference, 1)
                for name in ("as the others", "another surface", "one topic", "half the clicks")
            }
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        false = raised(quiet, reference)
        print(f"world {seed}: {len(false)} alerts in {QUIET} quiet days: {'; '.join(false) or 'none'}", flush=True)
        for name, found in shifts.items():
            print(f"  {name}: {'; '.join(found) or 'nothing'}")
        print(f"  {time.process_time() - started:.0f} s of processor", flush=True)


if __name__ == "__main__":
    main()
