"""Settings of boosted trees."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.config import Section
from recsys_cli.ranking.heavy_config import HeavyConfig


class LightGbmConfig(HeavyConfig):
    """Gradient-boosted trees, one LightGBM model an action (Ke et al., NeurIPS 2017); numbers and codes alike."""

    renamed: ClassVar[dict[str, str]] = {"bags": "members"}

    kind: Literal["lightgbm"] = "lightgbm"
    leaves: PositiveInt = Field(15, ge=2)
    """Leaves a tree."""
    leaves_rare: PositiveInt = Field(7, ge=2)
    """Leaves a tree for actions of less than a tenth of the rows."""
    learning_rate: PositiveFloat = 0.08
    """Weight of each tree."""
    rounds: PositiveInt = 400
    """Most trees of a model."""
    patience: PositiveInt = 60
    """Trees without a better validation figure before a model stops."""
    min_rows_in_leaf: PositiveInt = 100
    """Fewest rows in a leaf."""
    feature_share: float = Field(0.4, gt=0, le=1)
    """Share of the features that a tree may use."""
    row_share: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree sees."""
    l2: NonNegativeFloat = 10.0
    """Ridge penalty on the leaves."""
    bins: PositiveInt = Field(63, ge=2, le=65_535)
    """Values of a feature that are told apart."""
    members: PositiveInt = 1
    """Models of different seeds whose scores are averaged."""


class LambdaMartConfig(LightGbmConfig):
    """LambdaMART (Burges, MSR-TR-2010-82): one LightGBM ensemble that orders what a user was shown at one moment by
    what it was worth; the probability of each action is a logistic of its score."""

    kind: Literal["lambdamart"] = "lambdamart"
    gains: dict[str, NonNegativeFloat] = {
        "click": 0.5, "like": 1.0, "repost": 1.5, "reply": 3.0, "follow": 4.0, "share": 2.0, "profile_click": 2.0,
        "long_view": 1.0, "favorite": 2.0, "purchase": 5.0, "hide": 5.0, "mute": 10.0, "block": 15.0, "report": 20.0,
    }
    """Worth of each action; negative actions are subtracted, and nothing is worth less than nothing."""
    truncation: PositiveInt = 10
    """Places of the order that count."""


class BaselineConfig(Section):
    """Boosted trees beside the heavy ranker, for the reports to compare it with."""

    enabled: bool = False
    """Whether to fit them; nothing but a column of the reports comes of it."""
    rounds: PositiveInt = 80
    """Most trees an action."""
    learning_rate: PositiveFloat = 0.2
    """Weight of each tree."""
    patience: PositiveInt = 10
    """Trees without a better validation figure before an action's stop."""
    feature_share: float = Field(0.2, gt=0, le=1)
    """Share of the features that a tree may use."""
    max_rows: PositiveInt = 200_000
    """Training rows used at most, the latest ones."""
