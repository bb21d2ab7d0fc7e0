"""Losses of the heavy ranker, each a mean over the rows that count."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def weighted_bce(
    logits: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor | None = None, gamma: float = 0.0
) -> torch.Tensor:
    """Binary cross-entropy per task: float[T] for logits and labels [n, T].

    weight [n] weighs rows. gamma above 0 gives the focal loss (1 − p)^γ · cross-entropy, p being the probability of
    what happened (Lin et al., ICCV 2017); its minimum is no longer at the true probabilities, which calibration has
    to mend.
    """
    loss = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if gamma:
        loss = loss * torch.sigmoid(torch.where(labels > 0.5, -logits, logits)) ** gamma
    if weight is None:
        return loss.mean(dim=0)
    share = weight[:, None].expand_as(loss)
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


def pinball(
    predicted: torch.Tensor, target: torch.Tensor, quantile: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Mean pinball loss of a quantile of `target` [n], NaN where unknown (Koenker & Bassett, Econometrica 1978)."""
    known = ~torch.isnan(target)
    error = torch.where(known, target, predicted.detach()) - predicted
    loss = torch.maximum(quantile * error, (quantile - 1) * error)
    share = known.to(loss.dtype) if weight is None else known * weight
    return (loss * share).sum() / share.sum().clamp_min(1e-12)


def listwise_softmax(
    logits: torch.Tensor, labels: torch.Tensor, group: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax cross-entropy within groups, per task: float[T] for logits and labels [n, T].

    group int64[n]: rows of one number compete (Cao et al., "Learning to Rank", ICML 2007; one positive at a time).
    A group counts where a task has both outcomes in it, once for each positive, weighted by that row's weight; a
    task without such a group gives 0.
    """
    _, place = torch.unique(group, return_inverse=True)
    groups, tasks = int(place.max()) + 1, logits.shape[1]
    at = place[:, None].expand_as(logits)

    def total(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(groups, tasks, dtype=values.dtype, device=values.device).scatter_add(0, at, values)

    top = torch.full((groups, tasks), -1e9, dtype=logits.dtype, device=logits.device)
    top = top.scatter_reduce(0, at, logits.detach(), "amax")
    normaliser = top + torch.log(total(torch.exp(logits - top[place])).clamp_min(1e-30))
    mixed = (total(labels) > 0) & (total(1 - labels) > 0)
    share = labels * mixed[place] * (1 if weight is None else weight[:, None])
    return ((normaliser[place] - logits) * share).sum(dim=0) / share.sum(dim=0).clamp_min(1e-12)
