"""What changes in a world day after day: people's tastes, what creators publish, and shocks.

Everything is a function of the scenario, the seed and the day (and, for creators, of their exposure), so that two
policies meet the same changes and a simulation that goes on meets the same as one that never stopped.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recsys_cli.data.schema import DAY
from recsys_cli.errors import ConfigError
from recsys_cli.simulation.config import ColdMarket, ScenarioConfig, SpamWave, ViralItem
from recsys_cli.world.people import COUNTRIES, HARMS, People
from recsys_cli.world.simulator import World

NEVER = 100_000 * DAY
"""Later than any simulation: when an item is published that its author keeps back."""
_DRIFT, _VIRAL, _SPAM, _CREATORS = 1, 2, 3, 4


def _generator(world: World, day: int, what: int) -> np.random.Generator:
    return np.random.default_rng([world.model.seed, day, what])


def drifted(world: World, config: ScenarioConfig, day: int) -> World:
    """The world after the drift of one day. Interests move to another topic with all their weight; tastes walk without
    spreading."""
    drift = config.drift
    if not (drift.interests or drift.taste):
        return world
    people, rng = world.model.people, _generator(world, day, _DRIFT)
    n, topics = people.affinity.shape
    affinity = people.affinity.copy()
    moved = np.flatnonzero(rng.random(n) < drift.interests)
    strongest = affinity[moved].argmax(axis=1)
    to = rng.integers(0, topics, len(moved))
    held = affinity[moved, to].copy()
    affinity[moved, to] = affinity[moved, strongest]
    affinity[moved, strongest] = held
    step = rng.normal(0, 1, people.taste.shape) * people.taste.std()
    taste = np.sqrt(1 - drift.taste**2) * people.taste + drift.taste * step
    return _with_people(world, replace(people, affinity=affinity, taste=taste.astype(np.float32)))


def shocked(world: World, config: ScenarioConfig) -> World:
    """The world before its first day with the content of all shocks in it, and people of cold markets away."""
    for shock in config.shocks:
        if isinstance(shock, ViralItem):
            world = _viral(world, shock)
        elif isinstance(shock, SpamWave):
            world = _spam(world, shock)
        else:
            world = _moved_market(world, shock, -shock.activity)
    return world


def arrivals(world: World, config: ScenarioConfig, day: int) -> World:
    """The world on a day (0 is the first) on which people of cold markets may begin to come."""
    for shock in config.shocks:
        if isinstance(shock, ColdMarket) and shock.day - 1 == day:
            world = _moved_market(world, shock, 2 * shock.activity)
    return world


def _with_people(world: World, people: People) -> World:
    return replace(world, model=replace(world.model, people=people))


def _moved_market(world: World, shock: ColdMarket, by: float) -> World:
    names = [c[0] for c in COUNTRIES]
    if shock.country not in names:
        raise ConfigError(f"cold_market: no country {shock.country!r} in the world", f"known are {', '.join(names)}")
    people = world.model.people
    there = people.country == names.index(shock.country)
    activity = people.activity + np.where(there, by, 0).astype(np.float32)
    return _with_people(world, replace(people, activity=activity))


def _new_items(world: World, day: int, days: int = 1) -> np.ndarray:
    """int[m] places in the future content of what is published on some days from `day` (1 is the first)."""
    low, high = np.searchsorted(
        world.model.future.created, [world.end + (day - 1) * DAY, world.end + (day - 1 + days) * DAY]
    )
    return np.arange(low, high)


def _viral(world: World, shock: ViralItem) -> World:
    items = _new_items(world, shock.day)
    if not len(items):
        return world
    future, rng = world.model.future, _generator(world, shock.day, _VIRAL)
    quality = future.quality.copy()
    quality[rng.choice(items)] += np.float32(shock.quality)
    return replace(world, model=replace(world.model, future=replace(future, quality=quality)))


def _spam(world: World, shock: SpamWave) -> World:
    items = _new_items(world, shock.day, shock.days)
    future, rng = world.model.future, _generator(world, shock.day, _SPAM)
    spam = items[rng.random(len(items)) < shock.share]
    harms, quality = future.harms.copy(), future.quality.copy()
    harms[spam, HARMS.index("spam")] = np.maximum(harms[spam, HARMS.index("spam")], np.float32(0.9))
    quality[spam] -= np.float32(1)
    return replace(world, model=replace(world.model, future=replace(future, harms=harms, quality=quality)))


def kept_back(world: World, config: ScenarioConfig, day: int, exposure: np.ndarray) -> np.ndarray:
    """int[m] positions of items of a day (0 is the first) that their authors do not publish for want of attention.

    exposure: float[n_users] impressions of each author in the last days.
    """
    positions = np.array(world.future_positions(day), np.int64)
    author = world.model.future.author[positions - len(world.model.content)]
    draw = _generator(world, day, _CREATORS).random(len(positions))
    return positions[(exposure[author] == 0) & (draw < config.creators.discouraged)]
