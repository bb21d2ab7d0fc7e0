"""Shares of exposure for groups of authors, over many requests."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from recsys_cli.data.state import State
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.pipeline.allocation import NONE, RESERVE, allot, in_expectation, tell_lacks
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Selector, StageConfig
from recsys_cli.retrieval.memo import PerState

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle

FOLLOWERS = "followers"
PRIOR = 20.0
"""Impressions at the rate of all items with which an item's own rate is steadied."""


class ExposureConfig(StageConfig):
    """Exposure of groups of authors in given shares, over requests rather than in each: every position goes to each
    group with a probability equal to its share."""

    kind: Literal["exposure"] = "exposure"
    by: str = FOLLOWERS
    """What makes the groups: "followers", or a category of the users that the authors are."""
    bounds: list[PositiveInt] = [100, 1000]
    """Numbers of followers from which on the next group begins; a group is called by its lower bound, the first 0."""
    shares: dict[str, Annotated[float, Field(ge=0, le=1)]] | Literal["merit", "catalogue"] = "merit"
    """Group → share of the exposure, together at most 1, the rest going to the other groups; "merit": in proportion
    to what items of the group are interacted with when they are shown, summed over its items; "catalogue": to their
    number."""
    horizon: NonNegativeInt = 0
    """Impressions within which what a group had too much or too little of so far is made good; 0 looks ahead alone."""

    @field_validator("shares", mode="before")
    @classmethod
    def _names_are_text(cls, given: object) -> object:
        return {str(k): v for k, v in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _sensible(self) -> ExposureConfig:
        if isinstance(self.shares, dict) and sum(self.shares.values()) > 1 + 1e-9:
            raise ValueError(f"shares: they sum to {sum(self.shares.values()):g}; at most 1 can be given")
        if any(b <= a for a, b in pairwise(self.bounds)):
            raise ValueError("bounds: they rise")
        return self


class Exposure(Selector):
    """Amortised fairness of exposure (Singh and Joachims, KDD 2018; Biega, Gummadi and Weikum, SIGIR 2018).

    Where a group has no candidate left, the slot goes to the first of all.
    """

    config_type = ExposureConfig
    config: ExposureConfig
    reads = ("utility",)
    before = "diversity"

    def __init__(self, config: ExposureConfig):
        super().__init__(config)
        self._names: tuple[str, ...] = ()
        self._facts = PerState(self._of_state)

    def prepare(self, bundle: Bundle) -> str | None:
        config, catalogue, place = self.config, bundle.catalogue, f"pipeline.stages.{self.name}"
        if not (catalogue.item_author >= 0).any():
            return "needs items with an author"
        if config.by == FOLLOWERS:
            if not len(bundle.state.follows.values):
                return "needs follows"
            self._names = ("0", *map(str, config.bounds))
        else:
            if config.by not in catalogue.user_codes:
                known = (FOLLOWERS, *catalogue.user_codes)
                hint = did_you_mean(config.by, known, f"known: {', '.join(known)}")
                raise ConfigError(f"{place}.by: users have no category {config.by!r}", hint)
            if not (catalogue.author_user >= 0).any():
                return f"needs authors who are users, whose {config.by} is known"
            self._names = tuple(catalogue.names[f"user.{config.by}"])
        for label in config.shares if isinstance(config.shares, dict) else ():
            if label not in self._names:
                hint = did_you_mean(label, self._names, f"there are: {', '.join(self._names[:20])}")
                raise ConfigError(f"{place}.shares: there is no group {label!r} by {config.by}", hint)
        groups, targets = self._of_state(bundle.state)
        held = np.bincount(groups[groups >= 0], minlength=len(self._names))
        empty = [name for name, n, t in zip(self._names, held, targets, strict=True) if t > 0 and not n]
        if empty:
            told = f"nobody here is in {', '.join(empty)}, whose share goes to whatever comes first"
            self.notes = (f"stage {self.name}: {told}",)
        return None

    def __call__(self, query: Query, candidates: Candidates) -> Candidates:
        groups, targets = self._facts(query.state)
        mine = np.where(candidates.filled, groups[candidates.items], -1)
        targets = np.broadcast_to(targets, (len(query), len(targets)))
        need = in_expectation(targets, query.uniform(1, purpose=6)[:, 0])
        lacked = np.zeros((len(query), targets.shape[1], query.size), bool)
        out = allot(candidates, mine, targets.shape[1], query.size + RESERVE, need, lacked)
        tell_lacks(query, self.name, lacked.sum(axis=2), [f"{self.config.by} {name}" for name in self._names])
        return out

    def _of_state(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """(int64[n_items] group or -1, float64[groups] targets)"""
        groups = author_groups(state, self.config.by, self.config.bounds)
        n, shares = len(self._names), self.config.shares
        known = groups >= 0
        if shares == "catalogue":
            wanted = np.bincount(groups[known], minlength=n) / max(known.sum(), 1)
        elif shares == "merit":
            wanted = np.bincount(groups[known], weights=merit(state)[known], minlength=n)
            wanted = wanted / max(wanted.sum(), 1e-12)
        else:
            wanted = np.array([shares.get(name, 0.0) for name in self._names])
            named = np.array([*(name in shares for name in self._names), False])
            groups = np.where(named[groups], groups, NONE)  # the others have what is left
        if not self.config.horizon:
            return groups, wanted
        known = groups >= 0
        shown = np.bincount(groups[known], weights=state.impressions[known], minlength=n)
        return groups, repaid(wanted, shown, float(state.impressions.sum()), self.config.horizon)


def repaid(wanted: np.ndarray, shown: np.ndarray, total: float, horizon: int) -> np.ndarray:
    """float64[G] shares of the next `horizon` impressions that bring the groups to their shares of all, as far as
    possible.

    shown: impressions of each group so far, of `total`.
    """
    ahead = np.maximum(wanted * (total + horizon) - shown, 0) / horizon
    return ahead / max(ahead.sum(), 1.0)


def author_groups(state: State, by: str, bounds: list[int]) -> np.ndarray:
    """int64[n_items] group of each item's author, -1 where there is none or it is unknown."""
    catalogue = state.catalogue
    if by == FOLLOWERS:
        of_author = np.searchsorted(np.array(bounds), state.author_followers, side="right")
    else:
        user = catalogue.author_user
        of_author = np.where(user >= 0, catalogue.user_codes[by][user], -1)
    if not len(of_author):
        return np.full(catalogue.n_items, -1)
    return np.where(catalogue.item_author >= 0, of_author[catalogue.item_author], -1).astype(np.int64)


def merit(state: State) -> np.ndarray:
    """float64[n_items]: interactions an impression, steadied by those of all."""
    overall = float(state.interactions.sum()) / max(float(state.impressions.sum()), 1.0)
    return (state.interactions + PRIOR * overall) / (state.impressions + PRIOR)
