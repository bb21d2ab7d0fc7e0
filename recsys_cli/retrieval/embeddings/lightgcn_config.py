"""Settings of LightGCN."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from recsys_cli.retrieval.history_weighting import HistoryConfig


class LightGcnConfig(HistoryConfig):
    """LightGCN (He et al., SIGIR 2020)."""

    kind: Literal["lightgcn"] = "lightgcn"
    renamed: ClassVar[dict[str, str]] = {"regularisation": "l2"}
    dim: PositiveInt = 64
    """Width of the embeddings."""
    layers: NonNegativeInt = 3
    """Times that embeddings spread to their neighbours; 0 is plain matrix factorisation."""
    loss: Literal["softmax", "full_softmax", "bpr"] = "softmax"
    """Sampled softmax of cosines with the batch's other items as negatives, the softmax over all items, or pairs
    with one negative each."""
    initial: Literal["random", "spectral"] = "random"
    """What embeddings begin as: draws, or the leading singular vectors of the graph, from which fewer epochs are
    needed."""
    temperature: PositiveFloat = 0.3
    """Cosines are divided by it before the softmax."""
    epochs: PositiveInt = 10
    """Passes over the interactions."""
    batch_size: PositiveInt = 2048
    """Interactions in a step; each step spreads over the whole graph. The full softmax takes those of whole users,
    at least one."""
    uniform_negatives: NonNegativeInt = 256
    """Further negatives of each 512 interactions in the softmax, drawn evenly from all items."""
    learning_rate: PositiveFloat = 0.02
    """Step size of Adam."""
    annealing: Literal["none", "cosine"] = "none"
    """Whether the step size stays, or falls to nothing by the last epoch along half a cosine."""
    l2: NonNegativeFloat = 1e-4
    """Weight of the squared norm of the embeddings in a batch."""
