"""What the trainers of embeddings share: a table of vectors with sparse gradients, and the sampled softmax."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys_cli.data.ragged import expand

FEW = 16
"""Rows of a table to each that is asked for, from which on these are sorted instead of marked in the table."""


def on(device: torch.device, array: np.ndarray) -> torch.Tensor:
    """The array as a tensor of the device."""
    return torch.from_numpy(array).to(device)


class Table(nn.Module):
    """Rows of embeddings of which a step touches few: only those are gathered, given gradients and updated.

    The update is Adam's with moments that stand still for rows a step leaves out (as torch's SparseAdam).
    """

    def __init__(self, rows: int, dim: int, scale: float):
        super().__init__()
        self.register_buffer("weight", torch.randn(max(rows, 1), dim) * scale)
        self.register_buffer("mean", torch.zeros_like(self.weight))
        self.register_buffer("square", torch.zeros_like(self.weight))
        self._touched: tuple[torch.Tensor, torch.Tensor] | None = None

    def take(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """(the rows asked for, each once; int64 place of each request among them)."""
        once, place = distinct_rows(rows, len(self.weight))
        touched = on(self.weight.device, once)
        values = self.weight[touched]
        if torch.is_grad_enabled():
            values.requires_grad_()
            self._touched = touched, values
        return values, on(self.weight.device, place)

    def update(self, learning_rate: float, step: int, beta1: float = 0.9, beta2: float = 0.999) -> None:
        rows, values = self._touched
        if values.grad is None:
            return
        mean = self.mean[rows].lerp_(values.grad, 1 - beta1)
        square = self.square[rows].mul_(beta2).addcmul_(values.grad, values.grad, value=1 - beta2)
        scale = (square / (1 - beta2**step)).sqrt_().add_(1e-8)
        self.weight[rows] = values.detach().addcdiv_(mean, scale, value=-learning_rate / (1 - beta1**step))
        self.mean[rows], self.square[rows] = mean, square


def distinct_rows(rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64 the rows, each once, ascending; int64 place of each of `rows` among them), of a table of `size` rows.

    By marks over the whole table where it is not much longer than what is asked for, else by sorting: a step must not
    cost in proportion to the catalogue.
    """
    if size > FEW * len(rows):
        once, place = np.unique(rows, return_inverse=True)
        return once.astype(np.int64, copy=False), place
    mark = np.zeros(size, bool)
    mark[rows] = True
    return np.flatnonzero(mark), (np.cumsum(mark) - 1)[rows]


def log_q(counts: np.ndarray, batch: int, uniform: int) -> np.ndarray:
    """float32[n] log of how often each item is expected among the candidates of a batch.

    counts: int[n] interactions of each item. Candidates are `batch` items drawn as they occur in the log
    and `uniform` drawn evenly (mixed negatives: Yang et al., WWW 2020).
    """
    share = counts / max(counts.sum(), 1)
    return np.log(np.maximum(batch * share + uniform / max(len(counts), 1), 1e-9)).astype(np.float32)


def sampled_softmax(
    users: torch.Tensor, candidates: torch.Tensor, candidate_items: np.ndarray, correction: torch.Tensor,
    temperature: float, hard: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean −log softmax of each user's own item among the candidates, corrected for sampling.

    users: [B, D]; candidates: [B + M, D], row b < B being what user b engaged with; candidate_items: int[B + M]
    item positions; correction: [B + M] log expected count (`log_q`), taken off every logit (Bengio and
    Senécal, IEEE TNN 2008; Yi et al., RecSys 2019). Further copies of a user's own item are left out.
    hard: [B, H, D] negatives of each user alone; they are there for certain, so nothing is taken off their logits.
    """
    # the correction rides along as one more dimension, which saves a pass over the whole matrix
    left = torch.cat([users / temperature, torch.ones(len(users), 1, device=users.device)], dim=1)
    logits = left @ torch.cat([candidates, -correction[:, None]], dim=1).T
    row, column = (on(users.device, at) for at in _copies(candidate_items, len(users)))
    logits = logits.index_put((row, column), torch.tensor(-torch.inf, device=users.device))
    if hard is not None:
        logits = torch.cat([logits, torch.einsum("bd,bhd->bh", users, hard) / temperature], dim=1)
    return F.cross_entropy(logits, torch.arange(len(users), device=users.device))


def _copies(items: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) pairs, row < batch and row ≠ column, with items[row] = items[column]."""
    order = np.argsort(items, kind="stable")
    ranked = items[order]
    low, high = np.searchsorted(ranked, items[:batch], "left"), np.searchsorted(ranked, items[:batch], "right")
    row, column = expand(low, high - low, order)
    return row[row != column], column[row != column]
