"""Settings of exploration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat

from recsys_cli.config import Section

Share = Annotated[float, Field(ge=0, le=1)]

Count = Annotated[int, Field(ge=1, le=100_000_000)]


class UserRates(Section):
    """How much is explored for users of one kind."""

    attribute: str
    """A column of the users."""
    epsilon: dict[str, Share]
    """Value of the column → epsilon for these users; everybody else has that of `exploration.epsilon`."""


class ColdStartConfig(Section):
    """A place of each slate that belongs to items which few have seen yet, as the published feed of X has one."""

    enabled: bool = False
    """Whether a place is kept for them."""
    position: Annotated[int, Field(ge=1, le=100_000)] = 4
    """The place, counted from 1; a slate that is shorter has none."""
    target: Count = 50
    """Impressions below which an item may take the place; the further it is from it, the likelier it is drawn."""
    max_age_days: PositiveFloat = 7.0
    """Items published longer ago are not new; items of unknown age never are."""
    max_followers: Count | None = 1000
    """Only items of authors with fewer followers, and those without an author; null takes all."""


class BoostConfig(Section):
    """Utilities of new items, and of new authors, are multiplied until they have had their impressions."""

    items: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Factor for items below `target` impressions; 1 changes nothing."""
    authors: Annotated[float, Field(ge=1, le=100)] = 1.0
    """Factor for items of authors all of whose items together have fewer than `target_of_author` impressions."""
    target: Count = 50
    """Impressions from which an item is boosted no more."""
    target_of_author: Count = 200
    """Impressions from which an author is boosted no more."""
    max_age_days: PositiveFloat = 7.0
    """Items published longer ago are not new; items of unknown age never are."""


class ExplorationConfig(Section):
    """Exploration: slots of the slate that go to candidates because little is known of them."""

    enabled: bool = False
    """Whether to explore at all. It belongs where what is shown is logged and learned from: a random item costs the
    list that holds it, and only a log pays it back."""
    strategy: str = "epsilon_greedy"
    """What fills an explored slot: "epsilon_greedy" draws evenly among all candidates; "ucb1", "thompson",
    "gaussian_thompson", "lin_ucb" and "linear_thompson" by what earlier impressions taught of each;
    "learned_policy" by the probabilities of `policy`."""
    policy: Path | None = None
    """The table of probabilities of "learned_policy", as `recsys off-policy --save-policy` writes it."""
    epsilon: Share = 0.1
    """Probability of exploring, for each slot of the slate; 1 leaves every slot to the strategy."""
    users: UserRates | None = None
    """Other probabilities for some users, e.g. {attribute: plan, epsilon: {trial: 0.2}}."""
    pool: Annotated[int, Field(ge=2, le=10_000)] = 64
    """Candidates that strategies other than epsilon_greedy choose from: those that promise most, uncertainty
    included."""
    confidence: PositiveFloat = 1.0
    """Factor of what is unknown: of the bounds of "ucb1" and "lin_ucb", and of the standard deviations from which the
    others draw. Below 1 less is tried, which the papers found to pay."""
    l2: PositiveFloat = 100.0
    """Weight of the prior of "lin_ucb" and "linear_thompson", which says that the ranking is right, in impressions."""
    cold_start: ColdStartConfig = ColdStartConfig()
    boost: BoostConfig = BoostConfig()
