"""Settings of the two towers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.retrieval.config import MaxAge, RetrieverConfig
from recsys_cli.retrieval.history_weighting import BY_WEEKS, RecencyWeighting

ENTITIES_AT_ONCE = 2**16
"""Items or users whose inputs and vectors are made at once."""
CELLS_AT_ONCE, MEASURED = 2**25, 2000
"""Scores of users for items that are held at once, and held-out rows on which recall is measured at most."""


class TwoTowerConfig(RetrieverConfig):
    """Two-tower retriever trained with sampled softmax (Yi et al., RecSys 2019)."""

    kind: Literal["two_tower"] = "two_tower"
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    dim: PositiveInt = 128
    """Width of the shared embedding space."""
    hidden: PositiveInt = 128
    """Width of the hidden layer of each tower."""
    temperature: PositiveFloat = 0.05
    """Cosines are divided by it before the softmax."""
    epochs: PositiveInt = 8
    """Passes over the interactions at most."""
    epochs_again: PositiveInt = 1
    """Passes over what is new where training goes on from what an earlier part of the data taught; nothing is held
    out then, and the step size is smaller."""
    patience: PositiveInt = 1
    """Passes without a better recall on the held-out slice before training stops."""
    holdout: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Share of the interactions, the latest, held out to choose the number of passes."""
    batch_size: PositiveInt = 1024
    """Interactions in a step; each serves the others as a negative."""
    uniform_negatives: NonNegativeInt = 0
    """Further negatives in each step, drawn evenly from all items (mixed negatives)."""
    hard_negatives: NonNegativeInt = 0
    """Further negatives of each interaction alone, drawn before each pass but the first from the items that the towers
    rank highest for it and that its user did not turn to (Xiong et al., ICLR 2021)."""
    hard_depth: PositiveInt = 100
    """Items, the highest ranked, that hard negatives are drawn from."""
    learning_rate: PositiveFloat = 0.003
    """Step size of Adam."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of ids hidden in training, so that attributes can stand in for them."""
    history: PositiveInt = 30
    """Latest interactions that make up the user's history."""
    history_weighting: RecencyWeighting = BY_WEEKS
    """How much each of those interactions counts, in training and when the source is asked."""
    max_words: PositiveInt = 8192
    """Words of the items' texts that have an embedding, the commonest."""
