"""Trunks of the heavy ranker: from the input vector to one representation a task.

A trunk is made for an input width and maps float32[n, input width] to float32[tasks, n, `width`], or to float32[n,
`width`] where all tasks share one representation. Any heads go on any trunk.
`networks.kinds` says which kind has which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn


class Dropout(nn.Module):
    """Dropout (Srivastava et al., JMLR 2014) whose mask on the CPU is drawn eight units at a time, a byte for each:
    torch draws one number a unit, which takes as long as the product before it. The share is rounded to 1/256 there."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped = min(round(256 * self.share), 255)
        if not self.training or not dropped:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.share)
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = drawn.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept * (256 / (256 - dropped))


@dataclass(frozen=True)
class Layers:
    """Dense layers: linear → batch norm → ReLU → dropout, for each width of `hidden`."""

    hidden: tuple[int, ...]
    dropout: float
    batch_norm: bool

    def mlp(self, width: int) -> nn.Sequential:
        """The layers over an input float32[n, width]."""
        layers: list[nn.Module] = []
        for size in self.hidden:
            layers.append(nn.Linear(width, size, bias=not self.batch_norm))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers += [nn.ReLU(), Dropout(self.dropout)]
            width = size
        return nn.Sequential(*layers)

    def width(self, width: int) -> int:
        """Width of the output for an input of `width`."""
        return self.hidden[-1] if self.hidden else width


class SharedBottom(nn.Module):
    """One representation for all tasks."""

    def __init__(self, width: int, layers: Layers):
        super().__init__()
        self.layers = layers.mlp(width)
        self.width = layers.width(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Mmoe(nn.Module):
    """Experts shared by all tasks, mixed per task by a softmax gate on the input."""

    def __init__(self, width: int, tasks: int, experts: int, layers: Layers):
        super().__init__()
        self.experts = nn.ModuleList(layers.mlp(width) for _ in range(experts))
        self.gate = nn.Linear(width, tasks * experts)
        self.tasks, self.width = tasks, layers.width(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        gates = torch.softmax(self.gate(x).view(-1, self.tasks, len(self.experts)), dim=2)
        return torch.matmul(gates, outputs).transpose(0, 1)


class _Extraction(nn.Module):
    """Own experts, one a task, and shared experts; a gate a task mixes its own with the shared ones.

    Below the top a gate over all experts mixes what the shared experts of the next level take. All experts are one
    product, or one stacked product where they take different inputs: many small ones take longer than they need.
    """

    def __init__(self, size: int, tasks: int, shared: int, layers: Layers, top: bool):
        super().__init__()
        self.tasks, self.size, self.shared, self.top = tasks, size, shared, top
        self.experts, self.choices = tasks + shared, shared + 1
        self.norm = nn.BatchNorm1d(self.experts * size) if layers.batch_norm else nn.Identity()
        self.drop = Dropout(layers.dropout)
        self.register_buffer("itself", torch.eye(tasks), persistent=False)

    def mixed(self, experts: torch.Tensor, gates: torch.Tensor, everything: torch.Tensor | None) -> torch.Tensor:
        """[n, tasks (+ 1 below the top), size] of outputs [n, experts · size] and of logits of the gates: [n, tasks,
        choices] of each task's own expert and the shared ones, [n, experts] of the gate over all."""
        experts = self.drop(torch.relu(self.norm(experts))).unflatten(1, (self.experts, self.size))
        gates = torch.softmax(gates, dim=2)
        # one row of weights an output, so that one product mixes them all
        gates = torch.cat([gates[..., :1] * self.itself, gates[..., 1:]], dim=2)
        if everything is not None:
            gates = torch.cat([gates, torch.softmax(everything, dim=1).unsqueeze(1)], dim=1)
        return torch.matmul(gates, experts)


class _FirstExtraction(_Extraction):
    """The level that takes the input itself, [n, width]."""

    def __init__(self, width: int, size: int, tasks: int, shared: int, layers: Layers, top: bool):
        super().__init__(size, tasks, shared, layers, top)
        self.expert = nn.Linear(width, self.experts * size, bias=not layers.batch_norm)
        self.gate = nn.Linear(width, tasks * self.choices)
        self.shared_gate = None if top else nn.Linear(width, self.experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        everything = None if self.shared_gate is None else self.shared_gate(x)
        return self.mixed(self.expert(x), self.gate(x).unflatten(1, (self.tasks, self.choices)), everything)


class _LaterExtraction(_Extraction):
    """A level above: [n, tasks + 1, width], of each task and then of the shared experts."""

    def __init__(self, width: int, size: int, tasks: int, shared: int, layers: Layers, top: bool):
        super().__init__(size, tasks, shared, layers, top)
        bound = (1 / width) ** 0.5
        self.own = nn.Parameter(torch.empty(tasks, width, size + self.choices).uniform_(-bound, bound))
        self.gate_bias = nn.Parameter(torch.zeros(tasks, self.choices))
        self.others = nn.Linear(width, self.shared * size, bias=False)
        self.bias = None if layers.batch_norm else nn.Parameter(torch.zeros(self.experts * size))
        self.shared_gate = None if top else nn.Linear(width, self.experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = torch.matmul(x[:, : self.tasks].transpose(0, 1), self.own).transpose(0, 1)
        experts = torch.cat([own[..., : self.size].flatten(1), self.others(x[:, self.tasks])], dim=1)
        if self.bias is not None:
            experts = experts + self.bias
        everything = None if self.shared_gate is None else self.shared_gate(x[:, self.tasks])
        return self.mixed(experts, own[..., self.size :] + self.gate_bias, everything)


class Ple(nn.Module):
    """Progressive layered extraction: experts of each task beside shared ones, level upon level."""

    def __init__(self, width: int, tasks: int, shared_experts: int, layers: Layers):
        super().__init__()
        widths = [width, *layers.hidden]
        top = len(layers.hidden) - 1
        self.levels = nn.Sequential(
            *(
                (_LaterExtraction if i else _FirstExtraction)(
                    widths[i], widths[i + 1], tasks, shared_experts, layers, i == top
                )
                for i in range(top + 1)
            )
        )
        self.width = widths[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.levels(x).transpose(0, 1)


class Dcn(nn.Module):
    """Cross layers of low rank beside an MLP: x ← x₀ ⊙ (U·V·x + b) + x, so that a layer adds one order of crosses."""

    def __init__(self, width: int, cross_layers: int, rank: int, layers: Layers):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, rank, bias=False) for _ in range(cross_layers))
        self.up = nn.ModuleList(nn.Linear(rank, width) for _ in range(cross_layers))
        for layer in self.up:  # crosses begin small, so that products of clipped numbers do not run away
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.deep = layers.mlp(width)
        self.width = width + (layers.hidden[-1] if layers.hidden else 0)
        self.has_deep = bool(layers.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        crossed = x
        for down, up in zip(self.down, self.up, strict=True):
            crossed = x * up(down(crossed)) + crossed
        return torch.cat([crossed, self.deep(x)], dim=1) if self.has_deep else crossed


class MaskNet(nn.Module):
    """Parallel mask blocks: each weighs the normalised input by a mask made of that very input, then one MLP."""

    def __init__(self, width: int, blocks: int, mask_width: int, block_width: int, layers: Layers):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.masks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, mask_width), nn.ReLU(), nn.Linear(mask_width, width))
            for _ in range(blocks)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, block_width, bias=False), nn.LayerNorm(block_width), nn.ReLU())
            for _ in range(blocks)
        )
        joined = blocks * block_width
        self.layers = layers.mlp(joined)
        self.width = layers.width(joined)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = self.norm(x)
        parts = [block(normal * mask(x)) for mask, block in zip(self.masks, self.blocks, strict=True)]
        return self.layers(torch.cat(parts, dim=1))


class WideDeep(nn.Module):
    """The input itself beside an MLP: with heads of one layer a linear model and a network in one."""

    def __init__(self, width: int, layers: Layers):
        super().__init__()
        self.deep = layers.mlp(width)
        self.width = width + layers.width(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.deep(x)], dim=1)


class DeepFm(nn.Module):
    """The input, the products of its factors and an MLP: ½((xV)² − x²V²) holds every pair in linear time."""

    def __init__(self, width: int, dim: int, layers: Layers):
        super().__init__()
        self.factors = nn.Parameter(torch.randn(width, dim) * 0.01)
        self.norm = nn.BatchNorm1d(dim)
        self.deep = layers.mlp(width)
        self.width = width + dim + layers.width(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.matmul(x, self.factors).square() - torch.matmul(x.square(), self.factors.square())
        return torch.cat([x, self.norm(0.5 * pairs), self.deep(x)], dim=1)


class Esmm(nn.Module):
    """Two towers on one input: one for the first stage and what stands beside it, one for what lies behind it."""

    def __init__(self, width: int, tasks: int, second_tasks: Sequence[int], layers: Layers):
        super().__init__()
        self.first, self.second = (layers.mlp(width) for _ in range(2))
        self.second_tasks = frozenset(second_tasks)
        self.tasks, self.width = tasks, layers.width(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        towers = self.first(x), self.second(x)
        return torch.stack([towers[task in self.second_tasks] for task in range(self.tasks)])


class Fm(nn.Module):
    """The input and, for each task, the sum of all products of two inputs by factors of its own."""

    def __init__(self, width: int, tasks: int, dim: int):
        super().__init__()
        self.factors = nn.Parameter(torch.randn(width, tasks * dim) * 0.01)
        self.tasks, self.width = tasks, width + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.matmul(x, self.factors).square() - torch.matmul(x.square(), self.factors.square())
        pairs = 0.5 * pairs.unflatten(1, (self.tasks, -1)).sum(dim=2)
        return torch.cat([x.expand(self.tasks, -1, -1), pairs.transpose(0, 1).unsqueeze(2)], dim=2)


class Ncf(nn.Module):
    """Products of user and item factors beside an MLP over the other factors and all else.

    The ids stand last in the input, each in two halves: factors of the products, factors of the MLP.
    """

    def __init__(self, width: int, ids: Sequence[str], id_dim: int, layers: Layers):
        super().__init__()
        self.half, self.count = id_dim // 2, len(ids)
        self.user, self.item = ids.index("user"), ids.index("item")
        self.deep = layers.mlp(width - self.count * self.half)
        self.width = self.half + layers.width(width - self.count * self.half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ids = x[:, x.shape[1] - self.count * 2 * self.half :].unflatten(1, (self.count, 2, self.half))
        product = ids[:, self.user, 0] * ids[:, self.item, 0]
        deep = torch.cat([x[:, : x.shape[1] - self.count * 2 * self.half], ids[:, :, 1].flatten(1)], dim=1)
        return torch.cat([product, self.deep(deep)], dim=1)
