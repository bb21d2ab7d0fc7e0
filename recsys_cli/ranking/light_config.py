"""Settings of the light ranker."""

from __future__ import annotations

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from recsys_cli.config import Section


class LightRankerConfig(Section):
    """Light ranker: logistic regression of what is taken among a request's candidates, on cheap features."""

    features: list[str] = [
        "item_age", "item_interactions_1h", "item_interactions_1d", "item_trend", "item_impressions",
        "item_positive_logodds", "author_followers", "author_positive_logodds", "user_author_positive_logodds",
        "tie_strength", "follows_author", "topic_match", "user_topic_positive_logodds",
    ]
    """Names of the features it may use beside those of the request; those that a dataset does not have are left out."""
    l2: NonNegativeFloat = 1.0
    """Ridge penalty on the weights of standardised features, in rows."""
    max_iterations: PositiveInt = 50
    """Most Newton steps."""
    max_rows: PositiveInt = 500_000
    """Training rows used at most, the latest ones."""
    distil: bool = False
    """Learn which candidates the heavy ranker places among a user's best 100 instead, from what the sources propose to
    some users before the test window."""
    measured_users: NonNegativeInt = 50
    """Users on whom training measures how much of the heavy ranker's best the light ranker's cut keeps; 0 for none."""
