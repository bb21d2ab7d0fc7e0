"""Settings of the relevance ranker."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from recsys_cli.config import Section


class RelevanceConfig(Section):
    """Relevance ranker: the probability that a proposed candidate is taken, from rows of requests."""

    renamed: ClassVar[dict[str, str]] = {"rows": "max_rows"}

    enabled: bool = True
    """Whether to fit one."""
    features: list[str] = [
        "user_impressions", "item_age", "item_age_missing", "item_interactions_1h",
        "item_interactions_1d", "item_trend", "item_impressions", "item_positive_logodds", "item_burst",
        "author_followers", "author_positive_logodds", "user_author_positive_logodds", "tie_strength",
        "follows_author", "topic_match", "user_topic_positive_logodds",
    ]
    """Features beside those of the request (standardised score and place by every source, and figures over all of
    them); names that a dataset does not have are left out."""
    attributes: bool = True
    """Take the attributes of users and items as features too."""
    moments: PositiveInt = 1
    """Moments of the ranker's window at which its users are asked for, where windows are cut in time."""
    requests: PositiveInt = 4_000
    """Requests at most, each of one user at one moment, drawn with the seed."""
    max_rows: PositiveInt = 300_000
    """Rows at most: everything taken, and as many of the other candidates of each request as there is room for."""
    folds: PositiveInt = 4
    """Where rows have no order, every user's rows are cut into so many parts, and each is foretold from the others."""
    leaves: PositiveInt = Field(15, ge=2)
    """Leaves a tree."""
    rounds: PositiveInt = 80
    """Trees."""
    learning_rate: PositiveFloat = 0.105
    """Weight of each tree."""
    min_rows_in_leaf: PositiveInt = 50
    """Fewest rows in a leaf."""
    feature_share: float = Field(0.7, gt=0, le=1)
    """Share of the features that a tree may use."""
    row_share: float = Field(0.8, gt=0, le=1)
    """Share of the rows that a tree sees."""
    l2: NonNegativeFloat = 5.0
    """Ridge penalty on the leaves."""
