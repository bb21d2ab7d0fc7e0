"""The world after its log: who comes, what is published and how people respond to any slate.

This is what simulated experiments are run against. Nothing here is random twice: visits depend on (seed,
day, salt) and responses on (seed, user, item, time, salt), so that two arms of an experiment meet the
same people at the same moments and differ only by what they show (common random numbers).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.dataset import read_manifest
from recsys_cli.data.schema import DAY
from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.world.config import ACTIONS
from recsys_cli.world.model import TRUTH_FILE, Model
from recsys_cli.world.people import DEVICES, log_start
from recsys_cli.world.responses import Odds, Shown, satisfy, slate_fatigue
from recsys_cli.world.simulate import NEW_TIE, EdgeSet
from recsys_cli.world.visits import SURFACES, Visits, day_visits

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 200_000
"""Slots answered at a time, which bounds the memory of a call."""


@dataclass
class World:
    """A generated world with its truth.

    User positions are those of the dataset. Item positions are those of the dataset, then the future items
    in the order of `future_items`. Surface and device are places in `visits.SURFACES` and `people.DEVICES`,
    which are sorted as a dataset's categories are.
    """

    model: Model
    _ties: EdgeSet
    satisfaction: np.ndarray
    """float32[users] when the log ends, see `behaviour.satisfy`"""

    @classmethod
    def open(cls, path: str | os.PathLike) -> World:
        """Open the world behind a dataset folder; raises DataError where it has none or it is another's."""
        path = Path(path)
        manifest = read_manifest(path)
        hint = "generate it again with `recsys generate-data` (without --no-truth)"
        if not (path / "truth" / TRUTH_FILE).is_file():
            raise DataError(f"{path} has no truth/: there is nobody to simulate", hint)
        try:
            model, end = Model.load(path / "truth")
        except ArtifactError as error:
            raise DataError(error.message, hint) from None
        made_of = model.config.model_dump(mode="json", exclude={"shards"})
        if manifest.origin.get("generator") != made_of or manifest.origin.get("seed") != model.seed:
            raise DataError(f"{path / 'truth'} belongs to another dataset than {path / 'dataset.json'}", hint)
        ties = EdgeSet(len(model.people), end["follow_keys"], end["follow_ties"])
        return cls(model, ties, np.array(end["satisfaction"]))

    @property
    def n_users(self) -> int:
        return len(self.model.people)

    @property
    def n_items(self) -> int:
        """Items of the log and of the future."""
        return len(self.model.content) + len(self.model.future)

    @property
    def surfaces(self) -> tuple[str, ...]:
        """Names of the surface codes of `visits`."""
        return SURFACES

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the device codes of `visits`."""
        return DEVICES

    @property
    def horizon_days(self) -> int:
        """Days after the log for which there are new items."""
        return self.model.config.horizon_days

    @property
    def end(self) -> int:
        """The moment (µs) when the log ends and day 0 of the simulation begins."""
        return log_start(self.model.config) + self.model.config.days * DAY

    def future_positions(self, day: int) -> range:
        """Item positions of what is published on a day after the log; 0 is the first."""
        low, high = np.searchsorted(self.model.future.created, [self.end + day * DAY, self.end + (day + 1) * DAY])
        first = len(self.model.content)
        return range(first + int(low), first + int(high))

    def future_items(self, day: int) -> pa.Table:
        """The items published on a day after the log, with the columns of `items.parquet`."""
        positions, first = self.future_positions(day), len(self.model.content)
        return self._future.slice(positions.start - first, len(positions))

    @cached_property
    def _future(self) -> pa.Table:
        from recsys_cli.data.writer import conform
        from recsys_cli.world.generate import future_table

        return conform("items", future_table(self.model))

    def follows(self) -> EdgeSet:
        """Ties when the log ends, in a copy to which an arm may `add` the follows that it brings about."""
        return EdgeSet(self._ties.n, self._ties.keys.copy(), self._ties.value.copy())

    def add_follows(self, follows: EdgeSet, users: np.ndarray, items: np.ndarray) -> None:
        """Note in `follows` that these users followed the authors of these items (int[n] positions)."""
        author = self.model.behaviour.content.author[items].astype(np.int64)
        follows.add(np.asarray(users, np.int64), author, NEW_TIE)

    def visits(self, day: int, satisfaction: np.ndarray | None = None, salt: int = 0) -> Visits:
        """Requests of a day after the log (0 is the first), ordered by user and time.

        satisfaction: float32[users], by default as it was when the log ended. It decides who comes; those
        who come with either of two satisfactions come at the same times.
        """
        model = self.model
        satisfaction = self.satisfaction if satisfaction is None else np.asarray(satisfaction, np.float32)
        if satisfaction.shape != (self.n_users,):
            raise ValueError(f"satisfaction has shape {satisfaction.shape}, not ({self.n_users},)")
        parts = []
        for block in range(model.blocks):
            users = model.users_of(block)
            parts.append(day_visits(
                model.config, model.people, model.seed, users, block, model.config.days + day, model.mean_requests,
                satisfaction[users], salt,
            ))
        return Visits.concat(parts)

    def respond(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, surface: np.ndarray, device: np.ndarray,
        depth: np.ndarray | None = None, *, follows: EdgeSet | None = None, salt: int = 0,
    ) -> dict[str, np.ndarray]:
        """What users do with slates: action → bool[R, S], and "dwell" → float32[R, S] seconds.

        users: int[R]. items: int[R, S] positions, best first; -1 leaves a place empty (False, NaN).
        times: int64[R] µs. surface, device: int[R]. depth: int[R] earlier requests in the session (0 by
        default). follows: ties that hold, by default those when the log ended.
        """
        out = {a: np.zeros(np.shape(items), bool) for a in ACTIONS}
        out["dwell"] = np.full(np.shape(items), np.nan, np.float32)
        for place, shown, odds in self._shown(users, items, times, surface, device, depth, follows):
            actions, dwell = self.model.behaviour.respond(shown, odds, self.model.seed, salt)
            for name, done in zip(ACTIONS, actions, strict=True):
                out[name][place] = done
            out["dwell"][place] = dwell
        return out

    def probabilities(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray, surface: np.ndarray, device: np.ndarray,
        depth: np.ndarray | None = None, *, follows: EdgeSet | None = None,
    ) -> dict[str, np.ndarray]:
        """The true probability of each action and the expected dwell, float32[R, S]; NaN at -1."""
        out = {a: np.full(np.shape(items), np.nan, np.float32) for a in (*ACTIONS, "dwell")}
        for place, _, odds in self._shown(users, items, times, surface, device, depth, follows):
            for name, chance in zip(ACTIONS, odds.actions, strict=True):
                out[name][place] = chance
            out["dwell"][place] = odds.dwell_mean
        return out

    def next_satisfaction(
        self, previous: np.ndarray, users: np.ndarray, items: np.ndarray, responses: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Satisfaction after a day of slates, float32[users].

        previous: before the day. users: int[R], items: int[R, S], responses: what `respond` gave for them.
        """
        row, column = np.nonzero(np.asarray(items) >= 0)
        actions = {a: responses[a][row, column] for a in ACTIONS}
        return satisfy(previous, np.asarray(users)[row], actions, responses["dwell"][row, column])

    def _shown(self, users, items, times, surface, device, depth, follows):
        """((rows, columns), Shown, Odds) of the filled places, a bounded number at a time."""
        users, items, times = np.asarray(users), np.asarray(items), np.asarray(times, np.int64)
        if items.ndim != 2 or not len(users) == len(items) == len(times):
            raise ValueError(f"slates of shape {items.shape} for {len(users)} users and {len(times)} times")
        if items.size and items.max() >= self.n_items:
            raise ValueError(f"item {items.max()} does not exist: there are {self.n_items}")
        behaviour, ties = self.model.behaviour, follows or self._ties
        surface, device = np.asarray(surface), np.asarray(device)
        depth = np.zeros(len(users), np.int16) if depth is None else np.asarray(depth)
        step = max(CHUNK // max(items.shape[1], 1), 1)
        for low in range(0, len(users), step):
            part = items[low : low + step].astype(np.int32, copy=False)
            row, column = np.nonzero(part >= 0)
            item, at = part[row, column], row + low
            user = users[at].astype(np.int32, copy=False)
            shown = Shown(
                user=user, item=item, time=times[at], position=column.astype(np.int16),
                fatigue=slate_fatigue(part, behaviour.content)[row, column], depth=depth[at].astype(np.int16),
                surface=surface[at], device=device[at],
                tie=ties.find(user.astype(np.int64), behaviour.content.author[item]),
            )
            odds: Odds = behaviour.odds(shown)
            yield (at, column), shown, odds
