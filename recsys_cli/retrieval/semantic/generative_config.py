"""Settings of the generative retriever."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from recsys_cli.retrieval.semantic.item_vectors import ItemVectorConfig


class GenerativeConfig(ItemVectorConfig):
    """Generative retrieval over semantic ids, in the manner of TIGER (Rajput et al., NeurIPS 2023): a recurrent network
    reads the codes of the history, and a network a level tells the codes of the next item one after the other."""

    kind: Literal["generative"] = "generative"
    history: PositiveInt = 30
    """Latest interactions of the user that are read."""
    hidden: PositiveInt = 64
    """Width of the embeddings of codes, of the state of the history and of the layer that tells a code."""
    epochs: PositiveInt = 6
    """Passes over the interactions."""
    batch_size: PositiveInt = 64
    """Histories a step."""
    learning_rate: PositiveFloat = 0.003
    """Step size of Adam."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the embedded codes' numbers that a step leaves out."""
    beams: PositiveInt = 100
    """Beginnings of ids that are followed at each level, beside as many as items are asked for."""
