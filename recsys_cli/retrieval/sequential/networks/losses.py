"""What the next item is learned by: softmax over all items or a sample of them, and gBCE."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from recsys_cli.retrieval.sequential.networks.config import SequentialConfig

ROWS_AT_ONCE = 512
ROWS_PER_DRAW = 128
"""Events that are set against the same negatives."""
BARRED = -1e9
"""Logit of what is no negative."""


class Repeats(NamedTuple):
    """Pairs of a row and an item of its history, and what is added to their logits."""

    offsets: np.ndarray
    """int64[N + 1] of the rows"""
    items: np.ndarray
    """int64[m] places in the table of items"""
    bias: float

    def part(self, start: int, rows: int) -> Repeats:
        """Those of some rows."""
        offsets = self.offsets[start : start + rows + 1]
        return Repeats(offsets - offsets[0], self.items[offsets[0] : offsets[-1]], self.bias)


class _Softmax(torch.autograd.Function):
    """Mean cross-entropy of hidden @ itemsᵀ, a few rows at a time.

    The logits of all rows at once would be the largest array of the training by far; here those of a few rows live
    in the cache just long enough to give both gradients.
    """

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, repeats: Repeats | None):
        w = items.detach().to(hidden.dtype)
        h, total = hidden.detach(), 0.0
        to_hidden, to_items = torch.empty_like(h), torch.zeros_like(items, dtype=torch.float32)
        for start in range(0, len(h), ROWS_AT_ONCE):
            rows, chosen = h[start : start + ROWS_AT_ONCE], targets[start : start + ROWS_AT_ONCE]
            logits = rows @ w.T
            if repeats is not None:
                _lift(logits, repeats.part(start, len(rows)))
            p = torch.softmax(logits, dim=1)
            at = torch.arange(len(rows), device=h.device)
            right = p[at, chosen].float()
            total -= float(right.clamp_min(1e-12).log().sum())
            p[at, chosen] = (right - 1).to(p.dtype)
            torch.mm(p, w, out=to_hidden[start : start + ROWS_AT_ONCE])
            to_items += p.T @ rows
        ctx.save_for_backward(to_hidden, to_items.to(items.dtype))
        ctx.count = len(h)
        return torch.tensor(total / max(len(h), 1), device=h.device)

    @staticmethod
    def backward(ctx, gradient):
        to_hidden, to_items = ctx.saved_tensors
        scale = gradient / max(ctx.count, 1)
        return to_hidden * scale, to_items * scale, None, None


def _lift(logits: torch.Tensor, repeats: Repeats) -> None:
    """Add the bias to the logits of the items of the rows' histories, once each."""
    row = np.repeat(np.arange(len(logits)) * logits.shape[1], np.diff(repeats.offsets))
    at = torch.from_numpy(row + repeats.items).to(logits.device)
    flat = logits.view(-1)
    flat[at] = flat[at] + repeats.bias


def full_softmax(
    hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, repeats: Repeats | None = None
) -> torch.Tensor:
    """Mean −log softmax of hidden [N, D] against all items [V, D] at the targets int64[N]."""
    return _Softmax.apply(hidden, items, targets, repeats)


def sampled_softmax(positive: torch.Tensor, negative: torch.Tensor, others: int) -> torch.Tensor:
    """Mean −log softmax of positive float32[N] against negative float32[N, K], which stand for `others` items."""
    negative = negative + math.log(others / negative.shape[1])
    return (torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive).mean()


def gbce(positive: torch.Tensor, negative: torch.Tensor, others: int, calibration: float) -> torch.Tensor:
    """gBCE (Petrov and Macdonald, RecSys 2023): −(β·ln σ(s⁺) + Σ ln σ(−s⁻)) / (K + 1), the mean over N.

    β = α (t (1 − 1/α) + 1/α) with the sampling rate α = K / others and t = `calibration`: without it, being set
    against few negatives makes every probability too high.
    """
    rate = negative.shape[1] / others
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    total = beta * F.logsigmoid(positive) + F.logsigmoid(-negative).sum(dim=1)
    return -(total / (negative.shape[1] + 1)).mean()


def next_item_loss(
    config: SequentialConfig,
    hidden: torch.Tensor,
    items: torch.Tensor,
    targets: torch.Tensor,
    repeats: Repeats | None,
    rng: np.random.Generator,
) -> torch.Tensor:
    """The configured loss of hidden [N, D] and items [V, D] at targets int64[N]."""
    hidden = hidden.to(torch.bfloat16 if config.precision == "bfloat16" else torch.float32)
    if config.loss == "softmax" or config.uniform_negatives >= len(items) - 1:
        return full_softmax(hidden, items, targets, repeats)
    total = hidden.new_zeros((), dtype=torch.float32)
    for start in range(0, len(hidden), ROWS_PER_DRAW):
        rows = slice(start, start + ROWS_PER_DRAW)
        part = None if repeats is None else repeats.part(start, len(targets[rows]))
        positive, negative = _sampled_logits(config.uniform_negatives, hidden[rows], items, targets[rows], part, rng)
        if config.loss == "gbce":
            loss = gbce(positive, negative, len(items) - 1, config.calibration)
        else:
            loss = sampled_softmax(positive, negative, len(items) - 1)
        total = total + loss * len(positive)
    return total / max(len(hidden), 1)


def _sampled_logits(
    negatives: int, hidden: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, repeats: Repeats | None,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32[N] logits of the targets and float32[N, K] of one draw of items; a target is no negative."""
    drawn = np.sort(rng.choice(len(items), negatives, replace=False))
    at = torch.from_numpy(drawn).to(items.device)
    positive = (hidden.float() * items[targets]).sum(dim=1)
    negative = (hidden @ items[at].to(hidden.dtype).T).float()
    if repeats is not None:
        up, across = (x.to(items.device) for x in _sampled_repeats(repeats, targets.cpu().numpy(), drawn))
        positive, negative = positive + up * repeats.bias, negative + across * repeats.bias
    return positive, negative.masked_fill(targets[:, None] == at, BARRED)


def _sampled_repeats(repeats: Repeats, targets: np.ndarray, drawn: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """float32[N] and float32[N, K]: 1 where the target, or the drawn item, is in the row's history."""
    rows = np.repeat(np.arange(len(targets)), np.diff(repeats.offsets))
    up, across = torch.zeros(len(targets)), torch.zeros(len(targets), len(drawn))
    up[torch.from_numpy(rows[repeats.items == targets[rows]])] = 1
    at = np.minimum(np.searchsorted(drawn, repeats.items), len(drawn) - 1)
    held = drawn[at] == repeats.items
    across[torch.from_numpy(rows[held]), torch.from_numpy(at[held])] = 1
    return up, across
