"""Settings of the features: which counters, how strongly they are smoothed, over which spans of time."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.config import Section

Span = Annotated[float, Field(gt=0, le=1_000_000)]
"""Days, hours or minutes; a million days still count as microseconds in 64 bits."""
FamilyName = Literal[
    "user", "author", "item", "topic", "surface", "user_surface", "item_surface", "user_author", "user_topic",
    "user_format", "user_item",
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


Becomes = Literal["number", "category", "age", "list", "text", "vector", "nothing"]


class ColumnConfig(Section):
    """What one column of the dataset becomes. `becomes` alone may stand for the whole."""

    becomes: Becomes | None = None
    """null goes by the column's type: numbers, Booleans and durations a number, text a category, dates an age, lists
    of words or ids a list, lists of numbers a vector. A number may become a category, a category a text."""
    dims: NonNegativeInt | None = None
    """Numbers that a text, list or vector becomes, by random projection where it has more; 0 for none. null takes
    `text_dims` for a text, none for a list, and up to 32 of a vector."""
    compared_with: tuple[str, ...] | None = None
    """Columns of items that a user's list, text or vector is compared with. null takes, for a list, those in which
    half of its values occur, for a vector the one of its name and length."""


def _becomes(value: Any) -> Any:
    return {"becomes": value} if isinstance(value, str) else value


ColumnConfigs = dict[str, Annotated[ColumnConfig, BeforeValidator(_becomes)]]


class ColumnsConfig(Section):
    """What columns become where their type alone does not tell: name → one of number, category, age, list, text,
    vector, nothing, or a ColumnConfig."""

    user: ColumnConfigs = {}
    """Columns of users."""
    item: ColumnConfigs = {}
    """Columns of items; `text` and `topics` too."""
    impression: ColumnConfigs = {}
    """Further columns of impressions, which were known before the outcome: number or category. None becomes a feature
    unless it is named here."""


class SemanticCodesConfig(Section):
    """What a user did with items that share the first codes of an item's semantic id: residual k-means of texts and of
    columns of vectors."""

    code_levels: Annotated[int, Field(ge=0, le=6)] = 0
    """First codes that are counted over, 1 to so many of them at once; 0 for none."""
    codes_per_level: Annotated[int, Field(ge=2, le=1024)] = 64
    """Different codes at each place."""


class FeatureConfig(Section):
    """What becomes a feature."""

    families: tuple[FamilyName, ...] = get_args(FamilyName)
    """What impressions and actions are counted over."""
    before_families: tuple[FamilyName, ...] = (
        "user", "author", "item", "topic", "user_author", "user_topic", "user_format", "user_item",
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
    """Numbers of an item's text vector, and of other texts that become one; 0 for none."""
    semantic: SemanticCodesConfig = SemanticCodesConfig()
    smoothing: Smoothing = Smoothing()
    """Strengths of the priors."""
    base_rate: float = Field(0.05, gt=0, lt=1)
    """Rate of any action before anything was seen."""
    dwell_smoothing: PositiveFloat = 10.0
    """How many impressions the prior of a mean dwell time is worth."""
    item_windows_hours: tuple[Span, ...] = (1.0, 24.0)
    """Spans over which an item's latest impressions and interactions are counted."""
    item_window_actions: tuple[str, ...] = ("positive",)
    """What is counted over these spans beside impressions: actions of the dataset, "positive" (interactions: any
    positive one) and "negative"."""
    user_windows_hours: tuple[Span, ...] = (1.0, 24.0, 168.0, 720.0)
    """Spans over which a user's latest impressions are counted."""
    session_gap_minutes: Span = 30.0
    """A visit ends when so long nothing was shown."""
    posting_days: Span = 7.0
    """Span over which the items that an author published are counted."""
    burst_hours: Span = 24.0
    """Span whose interactions with an item are compared with its own average."""
    trend_half_life_hours: Span = 6.0
    """Half-life of an interaction in an item's trend."""
    tie_half_life_days: Span = 14.0
    """Half-life of an interaction in the tie between user and author."""
    topic_half_life_days: Span | None = None
    """Half-life of an interaction in the user's present interest in an item's topics; null leaves it out."""
    last_impressions: tuple[PositiveInt, ...] = (5, 20)
    """Lengths of the user's latest behaviour: share of each positive action in that many impressions."""
    max_topics: PositiveInt = 4
    """Topics of an item that count, its first ones."""
    length_edges_seconds: tuple[PositiveFloat, ...] = (7.0, 12.0, 20.0, 35.0, 60.0, 120.0, 300.0)
    """Bounds of the length classes of items that have a duration."""
    user_attributes: tuple[str, ...] | None = None
    """User attributes that become features, beside those in `columns`; null takes all but free text."""
    item_attributes: tuple[str, ...] | None = None
    """Item attributes that become features, likewise."""
    columns: ColumnsConfig = ColumnsConfig()
    """What columns of the dataset become."""
    max_categories: PositiveInt = 1000
    """Codes of a categorical feature; further ones share codes by hashing."""
