"""Settings of the networks over the order of what people did."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from recsys_cli.retrieval.config import MaxAge, RetrieverConfig


class SequentialConfig(RetrieverConfig):
    """What all sequential sources have."""

    renamed: ClassVar[dict[str, str]] = {"negatives": "uniform_negatives"}
    max_age_days: MaxAge = "auto"
    """Propose only items published within so many days; "auto" takes the age that items in use have, if age
    matters in the data at all. Items of unknown age always pass."""
    dim: PositiveInt = 64
    """Width of the embeddings; items share theirs between what goes in and what comes out."""
    layers: PositiveInt = 2
    """Layers of the network, one upon the other."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the activations hidden in training, in whole 256ths."""
    history: PositiveInt = 50
    """Latest events of a user that the network sees."""
    loss: Literal["softmax", "sampled_softmax", "gbce"] = "softmax"
    """Softmax over all items, over the target and `uniform_negatives` others, or gBCE (Petrov and Macdonald, RecSys
    2023)."""
    uniform_negatives: PositiveInt = 256
    """Items drawn evenly for every 128 events, which these are set against, where not all items are."""
    calibration: Annotated[float, Field(ge=0, le=1)] = 0.75
    """t of gBCE: 0 is plain binary cross-entropy, 1 makes up for the sampling in full."""
    actions: bool = True
    """Add an embedding of what the user did with each item, where the data has several positive actions."""
    time_gaps: bool = True
    """Add an embedding of the time since the event before, where the data has times that differ."""
    repeats: bool = True
    """Add to the score of the items of the user's history how much likelier (or less likely) than by their share of
    all events people came back to theirs, counted in training."""
    members: PositiveInt = 1
    """Networks trained from different seeds, whose scores are averaged."""
    epochs: PositiveInt = 6
    """Passes over the events."""
    batch_size: PositiveInt = 4096
    """Events in a step, those that fill rows up included."""
    learning_rate: PositiveFloat = 0.002
    """Step size of AdamW; it rises over the first twentieth of the training and then falls to 0."""
    weight_decay: NonNegativeFloat = 0.01
    """Share of the weights, times the step size, taken off at each step."""
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the products in training; bfloat16 is several times faster on a CPU that has it."""


class _AttentionConfig(SequentialConfig):
    heads: PositiveInt = 2
    """Parts of the embedding that attend on their own."""
    widening: PositiveInt = 2
    """Width of the hidden layer of the pointwise networks, in widths of the embedding."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self):
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is no multiple of heads {self.heads}")
        return self


class SasRecConfig(_AttentionConfig):
    """SASRec: self-attention over the past (Kang and McAuley, ICDM 2018)."""

    kind: Literal["sasrec"] = "sasrec"


class Bert4RecConfig(_AttentionConfig):
    """BERT4Rec: attention both ways, trained to fill in hidden events (Sun et al., CIKM 2019)."""

    kind: Literal["bert4rec"] = "bert4rec"
    hidden_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of the events that are hidden and to be found."""
    last_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the rows in which the last event alone is hidden, as when served."""


class Gru4RecConfig(SequentialConfig):
    """GRU4Rec: gated recurrent units over the events (Hidasi et al., ICLR 2016)."""

    kind: Literal["gru4rec"] = "gru4rec"
    layers: PositiveInt = 1
    """Layers of the network, one upon the other."""
    hidden: PositiveInt = 128
    """Width of the recurrent state."""
