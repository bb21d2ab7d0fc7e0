"""Settings of TwHIN."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.history_weighting import BY_WEEKS, RecencyWeighting


class TwhinConfig(RetrieverConfig):
    """TwHIN: translations over a heterogeneous graph (El-Kishky et al., KDD 2022)."""

    kind: Literal["twhin"] = "twhin"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    relations: list[str] = ["follow", "click", "like"]
    """What joins users to authors (follow) and to items (actions); those that the data lacks are left out, and where
    no action is left every positive one is taken."""
    authorship: bool = True
    """Join authors to their items too, which gives items that nobody engaged with a place."""
    dim: PositiveInt = 128
    """Width of the space."""
    temperature: PositiveFloat = 0.2
    """Cosines are divided by it before the softmax."""
    epochs: PositiveInt = 5
    """Passes over the edges."""
    batch_size: PositiveInt = 1024
    """Edges in a step; each serves the others as a negative."""
    uniform_negatives: NonNegativeInt = 512
    """Further negatives in each step, drawn evenly from all of the target's kind."""
    learning_rate: PositiveFloat = 0.01
    """Step size of Adam."""
    history: PositiveInt = 30
    """Latest interactions that add to the user's vector."""
    history_weight: NonNegativeFloat = 1.0
    """Weight of their mean beside the learnt vector; people who were not in training have the mean alone."""
    history_weighting: RecencyWeighting = BY_WEEKS
    """How much each of those interactions counts."""
