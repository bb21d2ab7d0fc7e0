"""Settings of the features: which counters, how strongly they are smoothed, over which spans of time."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.config import Section

FamilyName = Literal[
    "user",
    "author",
    "item",
    "topic",
    "surface",
    "user_surface",
    "item_surface",
    "user_author",
    "user_topic",
    "user_format",
    "user_item",
]


class Smoothing(Section):
    """How many impressions the prior of a rate is worth, by what the rate is counted over."""

    everything: PositiveFloat = 1.0
    """Of the rate over all impressions, towards `base_rate`."""
    user: PositiveFloat = 10.0
    """Of a user's rate."""
    author: PositiveFloat = 20.0
    """Of an author's rate."""
    item: PositiveFloat = 20.0
    """Of an item's rate, towards its author's."""
    topic: PositiveFloat = 50.0
    """Of a topic's rate."""
    attribute: PositiveFloat = 30.0
    """Of the rate of an item attribute's value."""
    surface: PositiveFloat = 50.0
    """Of a surface's rate."""
    user_surface: PositiveFloat = 10.0
    """Of a user's rate on one surface."""
    item_surface: PositiveFloat = 20.0
    """Of an item's rate on one surface."""
    user_author: PositiveFloat = 5.0
    """Of a user's rate on one author."""
    user_topic: PositiveFloat = 10.0
    """Of a user's rate on an item's topics."""
    user_format: PositiveFloat = 10.0
    """Of a user's rate on items of one media type and length."""
    cross: PositiveFloat = 10.0
    """Of the rate of one of `crosses`."""


class FeatureConfig(Section):
    """What becomes a feature."""

    families: tuple[FamilyName, ...] = (
        "user",
        "author",
        "item",
        "topic",
        "surface",
        "user_surface",
        "item_surface",
        "user_author",
        "user_topic",
        "user_format",
        "user_item",
    )
    """What impressions and actions are counted over."""
    before_families: tuple[FamilyName, ...] = (
        "user",
        "author",
        "item",
        "topic",
        "user_author",
        "user_topic",
        "user_format",
        "user_item",
    )
    """What the rows of the table `history`, from before the log begins, are counted over."""
    before_base: str = "watch"
    """Action of that table whose rows are what the other actions are a share of."""
    attribute_families: tuple[str, ...] = ()
    """Categorical item attributes whose values are counted over as well."""
    crosses: tuple[tuple[str, str], ...] = (("user", "item.language"), ("user", "daypart"))
    """Pairs that impressions and actions are counted over as well. A part is user, item, author, surface, daypart (4
    hours of the day) or a categorical attribute: user.NAME, item.NAME. Those that a dataset lacks are left out."""
    cross_actions: tuple[str, ...] = ("positive",)
    """Actions whose rates the crosses give; "positive" is any positive one, "negative" any negative one."""
    before_tastes: tuple[str, ...] = ("watch", "long_view")
    """Actions of the table `history` of which users' and items' tastes are made."""
    before_taste_dims: NonNegativeInt = 64
    """Numbers of such a taste; 0 for none."""
    text_dims: NonNegativeInt = 8
    """Numbers of an item's text vector; 0 for none."""
    smoothing: Smoothing = Smoothing()
    """Strengths of the priors."""
    base_rate: float = Field(0.05, gt=0, lt=1)
    """Rate of any action before anything was seen."""
    dwell_smoothing: PositiveFloat = 10.0
    """How many impressions the prior of a mean dwell time is worth."""
    item_windows_hours: tuple[PositiveFloat, ...] = (1.0, 24.0)
    """Spans over which an item's latest impressions and interactions are counted."""
    user_windows_hours: tuple[PositiveFloat, ...] = (1.0, 24.0, 168.0, 720.0)
    """Spans over which a user's latest impressions are counted."""
    session_gap_minutes: PositiveFloat = 30.0
    """A visit ends when so long nothing was shown."""
    posting_days: PositiveFloat = 7.0
    """Span over which the items that an author published are counted."""
    burst_hours: PositiveFloat = 24.0
    """Span whose interactions with an item are compared with its own average."""
    trend_half_life_hours: PositiveFloat = 6.0
    """Half-life of an interaction in an item's trend."""
    tie_half_life_days: PositiveFloat = 14.0
    """Half-life of an interaction in the tie between user and author."""
    last_impressions: tuple[PositiveInt, ...] = (5, 20)
    """Lengths of the user's latest behaviour: share of each positive action in that many impressions."""
    max_topics: PositiveInt = 4
    """Topics of an item that count, its first ones."""
    length_edges_seconds: tuple[PositiveFloat, ...] = (7.0, 12.0, 20.0, 35.0, 60.0, 120.0, 300.0)
    """Bounds of the length classes of items that have a duration."""
    user_attributes: tuple[str, ...] | None = None
    """User attributes that become features; null takes all."""
    item_attributes: tuple[str, ...] | None = None
    """Item attributes that become features; null takes all."""
    max_categories: PositiveInt = 1000
    """Codes of a categorical feature; further ones share codes by hashing."""
