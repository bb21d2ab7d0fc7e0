"""How the losses of several tasks become one step: as set, or weighed so that no task is drowned by another."""

from __future__ import annotations

import torch
from torch import nn

from recsys_cli.ranking.networks.config import HeavyNetworkConfig

GRADNORM_RATE = 0.01
"""Step of gradnorm's weights, in shares of the mean norm."""


class TaskBalance(nn.Module):
    """Takes the losses of T tasks and leaves the gradients of the network's weights."""

    def __init__(self, config: HeavyNetworkConfig, tasks: int, seed: int):
        super().__init__()
        self.kind, self.alpha = config.balance, config.gradnorm_alpha
        self.log_variance = nn.Parameter(torch.zeros(tasks)) if self.kind == "uncertainty" else None
        self.register_buffer("weight", torch.ones(tasks))
        self.register_buffer("begin", torch.zeros(tasks))
        self.generator = torch.Generator().manual_seed(seed)

    def backward(self, losses: torch.Tensor, rest: torch.Tensor, network: nn.Module) -> torch.Tensor:
        """Gradients of the weighed losses [T] and of `rest`, which every task shares; returns their plain sum.

        The gradients lie in `.grad` of the network's parameters afterwards, and in those of the balance itself.
        """
        if self.kind == "none":
            (losses.sum() + rest).backward()
        elif self.kind == "uncertainty":
            # exp(−s)·L + s/2 for s = ln σ² of each task, from the likelihood of a softened prediction
            (torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance).sum().add(rest).backward()
        elif self.kind == "gradnorm":
            self._gradnorm(losses, network)
            ((self.weight * losses).sum() + rest).backward()
        else:
            self._pcgrad(losses, rest, network)
        return losses.detach().sum() + rest.detach()

    def _gradients(self, losses: torch.Tensor, parameters: list[nn.Parameter]) -> torch.Tensor:
        """[T, weights]: the gradient of each task's loss."""
        rows = []
        for loss in losses:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([
                torch.zeros(p.numel(), device=p.device) if g is None else g.flatten()
                for p, g in zip(parameters, found, strict=True)
            ]))
        return torch.stack(rows)

    def _gradnorm(self, losses: torch.Tensor, network: nn.Module) -> None:
        """Move each weight towards a gradient whose norm fits how fast its task learns (Chen et al., ICML 2018).

        One step down the sum of |w‖g‖ − target| a batch; weights keep their mean of 1. Norms are over the trunk's
        weights, which all tasks share. Loss rates are ratios to the first batch.
        """
        shared = list(network.trunk.parameters())
        if not shared:
            return
        with torch.no_grad():
            if not self.begin.any():
                self.begin.copy_(losses)
        norms = self._gradients(losses, shared).norm(dim=1)
        with torch.no_grad():
            rate = losses / self.begin.clamp_min(1e-12)
            pace = (rate / rate.mean().clamp_min(1e-12)).clamp_min(1e-12) ** self.alpha
            mine = self.weight * norms
            slope = torch.sign(mine - mine.mean() * pace) * norms / norms.mean().clamp_min(1e-12)
            self.weight.sub_(GRADNORM_RATE * slope).clamp_min_(0.01)
            self.weight.mul_(len(losses) / self.weight.sum())

    def _pcgrad(self, losses: torch.Tensor, rest: torch.Tensor, network: nn.Module) -> None:
        """Take from each task's gradient what points against another's (Yu et al., NeurIPS 2020), then add up."""
        parameters = [p for p in network.parameters() if p.requires_grad]
        plain = self._gradients(losses, parameters)
        last = [None] * len(parameters)
        if rest.requires_grad:
            last = torch.autograd.grad(rest, parameters, allow_unused=True)
        kept = plain.clone()
        squares = plain.square().sum(dim=1).clamp_min(1e-12)
        for task in range(len(losses)):
            for other in torch.randperm(len(losses), generator=self.generator).tolist():
                if other != task:
                    kept[task] -= torch.clamp(kept[task] @ plain[other], max=0) / squares[other] * plain[other]
        total, at = kept.sum(dim=0), 0
        for parameter, more in zip(parameters, last, strict=True):
            own = total[at : at + parameter.numel()].view_as(parameter)
            parameter.grad = own.clone() if more is None else own + more
            at += parameter.numel()
