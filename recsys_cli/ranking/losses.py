"""Losses of the heavy ranker, each a mean over the rows that count."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def weighted_bce(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None, mask: torch.Tensor | None = None,
    pos_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross-entropy per task: float[T] for logits and labels [n, T].

    weight [n] weighs rows, mask [n, T] is False where a label is unknown. pos_weight [T] multiplies the loss of
    positives; predictions are then no longer probabilities, so it is off unless given.
    """
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none", pos_weight=pos_weight)
    if weight is None and mask is None:
        return loss.mean(dim=0)
    share = torch.ones_like(loss) if weight is None else weight[:, None].expand_as(loss)
    if mask is not None:
        share = share * mask
    return (loss * share).sum(dim=0) / share.sum(dim=0).clamp_min(1e-12)


def gaussian_nll(
    mean: torch.Tensor, log_variance: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean negative log-likelihood (nats, without the constant ½·ln 2π) of `target` [n], NaN where unknown."""
    known = ~torch.isnan(target)
    error = torch.where(known, target, mean.detach()) - mean
    loss = 0.5 * (log_variance + error.square() * torch.exp(-log_variance))
    share = known.to(loss.dtype) if weight is None else known * weight
    return (loss * share).sum() / share.sum().clamp_min(1e-12)
