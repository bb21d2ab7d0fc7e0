"""Settings of the synthetic world: how large it is, who follows whom, what is shown and what people do."""

from __future__ import annotations

import datetime as dt
import math
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from recsys_cli.config import Section
from recsys_cli.data.schema import NEGATIVE_ACTIONS

Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[float, Field(gt=0, le=36_500)]
Effect = Annotated[float, Field(ge=-20, le=20)]
"""Change of log-odds or of the logarithm of seconds; beyond this a probability is 0 or 1."""
Count = Annotated[float, Field(ge=0, le=10_000)]
"""Average number of accounts a user."""

ACTIONS = ("click", "like", "repost", "reply", "follow", "share", *NEGATIVE_ACTIONS)
"""What people of the world do with an item, in the order of every table and array."""
EFFECTS = (
    "affinity", "taste", "tie", "quality", "freshness", "position", "fatigue", "depth", "harm", "language", "media",
    "person", "reaction", "mobile", "explore", "evening",
)
"""What their decisions depend on; `behaviour.py` says how each is measured."""
SOURCES = ("follows", "trending", "similar", "uniform")
"""Components of the logging policy."""


class GraphConfig(Section):
    """Who follows, blocks and mutes whom before the log begins."""

    mean_follows: Annotated[float, Field(gt=0, le=10_000)] = 30.0
    """Average number of accounts that a user sets out to follow; returned follows come on top."""
    follows_spread: Annotated[float, Field(ge=0, le=5)] = 0.8
    """Standard deviation of the logarithm of that number over users."""
    homophily: Share = 0.75
    """Share of follows that stay within one of the follower's communities."""
    attachment: Share = 0.6
    """Share of follows that copy an existing one, so that the followed are followed more (0 for none)."""
    closure: Share = 0.15
    """Share of follows that go to somebody followed by somebody whom the user follows."""
    reciprocity: Share = 0.25
    """Share of follows that are returned."""
    same_language: Share = 0.8
    """Probability with which a proposed follow across languages is dropped."""
    mean_blocks: Count = 0.5
    """Average number of accounts that a user has blocked."""
    mean_mutes: Count = 0.5
    """Average number of accounts that a user has muted."""


class LoggingConfig(Section):
    """The policy that chose what the log shows; the shares of its components must sum to 1."""

    follows: Share = 0.35
    """Recent items of accounts that the user follows."""
    trending: Share = 0.2
    """Items with most interactions up to the previous day."""
    similar: Share = 0.3
    """Items on topics that the user chose at signup or interacted with up to the previous day."""
    uniform: Share = 0.15
    """Any eligible item, each with the same probability."""
    slots: Annotated[int, Field(ge=1, le=50)] = 10
    """Slots that a request draws; draws of what the user has seen, wrote or blocked leave a slot out."""
    eligible_days: Days = 14.0
    """Items older than this are shown no more."""
    recent_days: Days = 4.0
    """How far back `follows` looks."""
    trending_share: Annotated[float, Field(gt=0, le=1)] = 0.02
    """Share of all items that can be trending on a day (at least 20 items)."""
    trending_half_life_days: Days = 1.5
    """Half-life of an interaction in the trending counts."""

    @model_validator(mode="after")
    def _whole(self) -> LoggingConfig:
        total = sum(getattr(self, s) for s in SOURCES)
        if not math.isclose(total, 1.0, abs_tol=1e-6):
            raise ValueError(f"the shares of follows, trending, similar and uniform sum to {total:g}, not to 1")
        if self.recent_days > self.eligible_days:
            raise ValueError("recent_days must not exceed eligible_days")
        return self


_INTERCEPTS = {
    "click": -2.0, "like": -4.55, "repost": -6.3, "reply": -6.4, "follow": -6.1, "share": -6.5,
    "hide": -6.0, "mute": -6.9, "block": -7.3, "report": -7.4,
}
_WEIGHTS = {
    "click": {
        "affinity": 3.2, "taste": 0.75, "tie": 1.2, "quality": 0.55, "freshness": 0.4, "position": -0.35,
        "fatigue": -0.4, "depth": -0.15, "harm": -0.8, "language": -1.8, "media": 0.6, "person": 0.6, "mobile": 0.1,
        "explore": 0.15, "evening": 0.1,
    },
    "like": {
        "affinity": 2.6, "taste": 0.9, "tie": 1.5, "quality": 0.7, "freshness": 0.4, "position": -0.25,
        "fatigue": -0.4, "depth": -0.1, "harm": -1.4, "language": -1.8, "media": 0.5, "person": 0.4, "reaction": 0.8,
        "mobile": 0.15,
    },
    "repost": {
        "affinity": 2.2, "taste": 0.6, "tie": 1.2, "quality": 0.9, "freshness": 0.7, "position": -0.2,
        "fatigue": -0.3, "harm": -0.4, "language": -2.0, "reaction": 0.9,
    },
    "reply": {
        "affinity": 1.6, "taste": 0.4, "tie": 2.0, "quality": 0.2, "freshness": 0.8, "position": -0.2,
        "fatigue": -0.2, "harm": 0.6, "language": -2.0, "reaction": 0.9, "mobile": -0.3, "evening": 0.2,
    },
    "follow": {
        "affinity": 2.4, "taste": 0.8, "quality": 1.0, "position": -0.1, "harm": -1.2, "language": -1.6,
        "person": 0.3, "reaction": 0.4, "explore": 0.5,
    },
    "share": {
        "affinity": 1.8, "taste": 0.5, "tie": 0.5, "quality": 0.7, "freshness": 0.5, "position": -0.2, "harm": -0.3,
        "language": -1.5, "media": 0.5, "reaction": 0.6, "mobile": 0.5,
    },
    "hide": {
        "affinity": -1.6, "taste": -0.5, "tie": -0.8, "quality": -0.5, "position": -0.1, "fatigue": 0.6, "depth": 0.2,
        "harm": 1.6, "language": 0.9, "media": -0.3,
    },
    "mute": {
        "affinity": -0.8, "taste": -0.3, "tie": -0.4, "quality": -0.5, "fatigue": 0.7, "harm": 1.8, "language": 0.5,
    },
    "block": {"affinity": -0.5, "tie": -0.8, "quality": -0.4, "fatigue": 0.3, "harm": 2.8},
    "report": {"affinity": -0.3, "tie": -0.5, "harm": 3.4},
}
_DWELL = {
    "affinity": 0.8, "taste": 0.25, "tie": 0.3, "quality": 0.2, "position": -0.1, "fatigue": -0.2, "depth": -0.1,
    "harm": -0.2, "language": -0.6, "media": 0.3, "mobile": 0.1, "evening": 0.1,
}


class BehaviourConfig(Section):
    """What people do with what they are shown: a logistic model an action, over the same effects."""

    intercepts: dict[str, Effect] = _INTERCEPTS
    """Action → log-odds where every effect is zero."""
    weights: dict[str, dict[str, Effect]] = _WEIGHTS
    """Action → effect → change of the log-odds for one unit of the effect."""
    dwell_intercept: Effect = 0.35
    """Logarithm of the seconds on an item where every effect is zero and nothing was clicked."""
    dwell_weights: dict[str, Effect] = _DWELL
    """Effect → change of the logarithm of the seconds."""
    dwell_click: Effect = 1.1
    """Added to that logarithm by a click."""
    dwell_length: Effect = 0.25
    """Added for each unit of the logarithm of the item's length in seconds (videos only)."""
    dwell_noise: Annotated[float, Field(ge=0, lt=0.9)] = 0.35
    """Scale of the logistic noise in the logarithm of the seconds."""
    return_effect: Annotated[float, Field(ge=0, le=20)] = 0.5
    """How strongly yesterday's satisfaction moves the log-odds of coming back."""

    @field_validator("intercepts")
    @classmethod
    def _actions(cls, value: dict) -> dict:
        _check_names("action", value, ACTIONS)
        return {a: value.get(a, _INTERCEPTS[a]) for a in ACTIONS}

    @field_validator("weights")
    @classmethod
    def _effects(cls, value: dict) -> dict:
        _check_names("action", value, ACTIONS)
        for effects in value.values():
            _check_names("effect", effects, EFFECTS)
        return {a: value.get(a, {}) for a in ACTIONS}

    @field_validator("dwell_weights")
    @classmethod
    def _dwell_effects(cls, value: dict) -> dict:
        _check_names("effect", value, EFFECTS)
        return value


def _check_names(what: str, given: dict, known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"no {what} {name!r}; there are {', '.join(known)}")


class WorldConfig(Section):
    """The synthetic social network that `generate-data` writes."""

    users: Annotated[int, Field(ge=1, le=5_000_000)] = 1000
    """People; some of them publish."""
    items: Annotated[int, Field(ge=1, le=50_000_000)] = 10_000
    """Items published from `prelude_days` before the log until its end."""
    days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Length of the log."""
    start: dt.date = dt.date(2026, 1, 1)
    """First day of the log (UTC)."""
    impressions_per_user: Annotated[float, Field(gt=0, le=1_000_000)] = 270.0
    """Impressions that the log aims at for an average user."""
    prelude_days: Annotated[int, Field(ge=0, le=3650)] = 7
    """Days before the log over which items were published, so that the first day has something to show."""
    horizon_days: Annotated[int, Field(ge=0, le=3650)] = 14
    """Days after the log for which future items are kept in `truth/`, for simulated experiments."""
    shards: Annotated[int, Field(ge=1, le=4096)] = 1
    """Files that the impressions are written to; the content does not depend on it."""
    truth: bool = True
    """Whether to write `truth/`: what simulated experiments need, and what training must never open."""
    topics: Annotated[int, Field(ge=1, le=2000)] = 150
    """Topics that interests and items are made of."""
    communities: Annotated[int, Field(ge=1, le=500)] = 25
    """Groups of topics that go together; users belong to one to three of them."""
    taste_dim: Annotated[int, Field(ge=1, le=64)] = 8
    """Width of the hidden vectors whose product is taste beyond topics."""
    author_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Share of users who publish."""
    new_user_share: Share = 0.05
    """Share of users who join while the log runs."""
    label_noise: Annotated[float, Field(ge=0, le=10)] = 0.08
    """Standard deviation of the noise in the observed safety labels."""
    graph: GraphConfig = GraphConfig()
    logging: LoggingConfig = LoggingConfig()
    behaviour: BehaviourConfig = BehaviourConfig()

    @model_validator(mode="after")
    def _fits(self) -> WorldConfig:
        if self.communities > self.topics:
            raise ValueError(f"{self.communities} communities do not fit into {self.topics} topics")
        return self
