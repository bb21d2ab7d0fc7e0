"""Heads that give every row the same probability: noticed while they are trained, confirmed before training stops.

A unit of a network that is never active learns no more, and where all of a layer are, what follows is one value for
every row. Rare actions start at their base rate with the spread of random weights, which is thousands of times
COLLAPSED: only heads that say nothing at all are meant.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from recsys_cli.errors import RecsysError
from recsys_cli.ranking.logistic import sigmoid

COLLAPSED = 1e-4
"""Logits that differ by less over all rows tell nothing."""
SATURATED = 30.0
"""Beyond, logits are the same probability to more digits than are kept."""
STEPS = 50
"""Batches in a row in which a head must give one value to be looked at."""
FEW_POSITIVES = 50
TOLD = 3
"""Heads that an error names."""


def constant_heads(logits: np.ndarray) -> np.ndarray:
    """bool[T]: whether a head gives all rows of [n, T] the same."""
    return np.ptp(np.clip(logits, -SATURATED, SATURATED), axis=0) < COLLAPSED


class ConstantHeadWatch:
    """Counts batch after batch in which heads gave all rows one value; reads the device every STEPS batches."""

    def __init__(self, tasks: int, device: torch.device):
        self.batches, self.steps = torch.zeros(tasks, dtype=torch.int32, device=device), 0

    def see(self, logits: torch.Tensor) -> list[int]:
        """Take a batch of logits [n, T] into account; heads that have been flat for STEPS batches, when looked at."""
        low, high = torch.aminmax(logits.detach().clamp(-SATURATED, SATURATED), dim=0)
        self.batches = torch.where(high - low < COLLAPSED, self.batches + 1, 0)
        self.steps += 1
        if self.steps % STEPS:
            return []
        return torch.nonzero(self.batches >= STEPS)[:, 0].tolist()


def collapsed(
    epoch: int, tasks: Sequence[str], logits: np.ndarray, labels: np.ndarray, heads: Sequence[int], learning_rate: float
) -> RecsysError:
    """The error that names the heads, their one value, how frequent the action is, and what to do.

    logits [n, T] of some rows; labels [m, T] of all training rows.
    """
    values, rates = sigmoid(logits[0].astype(np.float64)), labels.mean(axis=0)
    told = ", ".join(f"{tasks[t]} {values[t]:.4f} (of the training rows {rates[t]:.4f} have it)" for t in heads[:TOLD])
    if len(heads) > TOLD:
        told += f" and {len(heads) - TOLD} more heads likewise"
    rare = [f"{tasks[t]} {int(labels[:, t].sum())}" for t in heads if labels[:, t].sum() < FEW_POSITIVES]
    hint = f"lower ranking.heavy.learning_rate ({learning_rate:g}), weight_decay or dropout, or give it more rows"
    if rare and len(heads) < len(tasks):
        hint += f"; few positives: {', '.join(rare)}: ranking.heavy.min_positives leaves them out"
    return RecsysError(f"the heavy ranker's probabilities collapsed in epoch {epoch}: every row gets {told}", hint)
