"""Trunks of the heavy ranker: from the input vector to one representation a task.

A trunk takes (config, input width, number of tasks) and maps float32[n, input width] to float32[tasks, n, `width`],
or to float32[n, `width`] where all tasks share one representation. Any heads go on any trunk.
"""

from __future__ import annotations

import torch
from torch import nn

from recsys_cli.ranking.config import (
    DcnConfig,
    DeepFmConfig,
    DinConfig,
    EsmmConfig,
    FmConfig,
    MaskNetConfig,
    MmoeConfig,
    NcfConfig,
    PleConfig,
    SharedBottomConfig,
    TransformerConfig,
    WideDeepConfig,
)


def mlp(width: int, hidden: list[int], dropout: float, batch_norm: bool) -> nn.Sequential:
    """Linear → batch norm → ReLU → dropout, for each width of `hidden`."""
    layers: list[nn.Module] = []
    for size in hidden:
        layers.append(nn.Linear(width, size, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(size))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers)


class SharedBottom(nn.Module):
    """One representation for all tasks."""

    def __init__(self, config: SharedBottomConfig | DinConfig | TransformerConfig, width: int, tasks: int):
        super().__init__()
        self.layers = mlp(width, config.hidden, config.dropout, config.batch_norm)
        self.width = config.hidden[-1] if config.hidden else width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Mmoe(nn.Module):
    """Experts shared by all tasks, mixed per task by a softmax gate on the input."""

    def __init__(self, config: MmoeConfig, width: int, tasks: int):
        super().__init__()
        self.experts = nn.ModuleList(
            mlp(width, config.hidden, config.dropout, config.batch_norm) for _ in range(config.experts)
        )
        self.gate = nn.Linear(width, tasks * config.experts)
        self.tasks, self.width = tasks, config.hidden[-1] if config.hidden else width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        gates = torch.softmax(self.gate(x).view(-1, self.tasks, len(self.experts)), dim=2)
        return torch.matmul(gates, outputs).transpose(0, 1)


class _Extraction(nn.Module):
    """Own experts, one a task, and shared experts; a gate a task mixes its own with the shared ones.

    Below the top a gate over all experts mixes what the shared experts of the next level take. All experts are one
    product, or one stacked product where they take different inputs: many small ones take longer than they need.
    """

    def __init__(self, config: PleConfig, size: int, tasks: int, top: bool):
        super().__init__()
        self.tasks, self.size, self.shared, self.top = tasks, size, config.shared_experts, top
        self.experts, self.choices = tasks + config.shared_experts, config.shared_experts + 1
        self.norm = nn.BatchNorm1d(self.experts * size) if config.batch_norm else nn.Identity()
        self.drop = nn.Dropout(config.dropout)
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

    def __init__(self, config: PleConfig, width: int, size: int, tasks: int, top: bool):
        super().__init__(config, size, tasks, top)
        self.expert = nn.Linear(width, self.experts * size, bias=not config.batch_norm)
        self.gate = nn.Linear(width, tasks * self.choices)
        self.shared_gate = None if top else nn.Linear(width, self.experts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        everything = None if self.shared_gate is None else self.shared_gate(x)
        return self.mixed(self.expert(x), self.gate(x).unflatten(1, (self.tasks, self.choices)), everything)


class _LaterExtraction(_Extraction):
    """A level above: [n, tasks + 1, width], of each task and then of the shared experts."""

    def __init__(self, config: PleConfig, width: int, size: int, tasks: int, top: bool):
        super().__init__(config, size, tasks, top)
        bound = (1 / width) ** 0.5
        self.own = nn.Parameter(torch.empty(tasks, width, size + self.choices).uniform_(-bound, bound))
        self.gate_bias = nn.Parameter(torch.zeros(tasks, self.choices))
        self.others = nn.Linear(width, self.shared * size, bias=False)
        self.bias = None if config.batch_norm else nn.Parameter(torch.zeros(self.experts * size))
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

    def __init__(self, config: PleConfig, width: int, tasks: int):
        super().__init__()
        widths = [width, *config.hidden]
        top = len(config.hidden) - 1
        self.levels = nn.Sequential(
            *(
                (_LaterExtraction if i else _FirstExtraction)(config, widths[i], widths[i + 1], tasks, i == top)
                for i in range(top + 1)
            )
        )
        self.width = widths[-1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.levels(x).transpose(0, 1)


class Dcn(nn.Module):
    """Cross layers of low rank beside an MLP: x ← x₀ ⊙ (U·V·x + b) + x, so that a layer adds one order of crosses."""

    def __init__(self, config: DcnConfig, width: int, tasks: int):
        super().__init__()
        self.down = nn.ModuleList(nn.Linear(width, config.rank, bias=False) for _ in range(config.cross_layers))
        self.up = nn.ModuleList(nn.Linear(config.rank, width) for _ in range(config.cross_layers))
        for layer in self.up:  # crosses begin small, so that products of clipped numbers do not run away
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        self.deep = mlp(width, config.hidden, config.dropout, config.batch_norm)
        self.width = width + (config.hidden[-1] if config.hidden else 0)
        self.has_deep = bool(config.hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        crossed = x
        for down, up in zip(self.down, self.up, strict=True):
            crossed = x * up(down(crossed)) + crossed
        return torch.cat([crossed, self.deep(x)], dim=1) if self.has_deep else crossed


class MaskNet(nn.Module):
    """Parallel mask blocks: each weighs the normalised input by a mask made of that very input, then one MLP."""

    def __init__(self, config: MaskNetConfig, width: int, tasks: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.masks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, config.mask_width), nn.ReLU(), nn.Linear(config.mask_width, width))
            for _ in range(config.blocks)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, config.block_width, bias=False), nn.LayerNorm(config.block_width), nn.ReLU())
            for _ in range(config.blocks)
        )
        joined = config.blocks * config.block_width
        self.layers = mlp(joined, config.hidden, config.dropout, config.batch_norm)
        self.width = config.hidden[-1] if config.hidden else joined

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normal = self.norm(x)
        parts = [block(normal * mask(x)) for mask, block in zip(self.masks, self.blocks, strict=True)]
        return self.layers(torch.cat(parts, dim=1))


class WideDeep(nn.Module):
    """The input itself beside an MLP: with heads of one layer a linear model and a network in one."""

    def __init__(self, config: WideDeepConfig, width: int, tasks: int):
        super().__init__()
        self.deep = mlp(width, config.hidden, config.dropout, config.batch_norm)
        self.width = width + (config.hidden[-1] if config.hidden else width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.deep(x)], dim=1)


class DeepFm(nn.Module):
    """The input, the products of its factors and an MLP: ½((xV)² − x²V²) holds every pair in linear time."""

    def __init__(self, config: DeepFmConfig, width: int, tasks: int):
        super().__init__()
        self.factors = nn.Parameter(torch.randn(width, config.factors) * 0.01)
        self.norm = nn.BatchNorm1d(config.factors)
        self.deep = mlp(width, config.hidden, config.dropout, config.batch_norm)
        self.width = width + config.factors + (config.hidden[-1] if config.hidden else width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.matmul(x, self.factors).square() - torch.matmul(x.square(), self.factors.square())
        return torch.cat([x, self.norm(0.5 * pairs), self.deep(x)], dim=1)


class Esmm(nn.Module):
    """Two towers on one input: one for the first stage and what stands beside it, one for what lies behind it."""

    def __init__(self, config: EsmmConfig, width: int, tasks: int, behind: list[int]):
        super().__init__()
        self.first, self.second = (mlp(width, config.hidden, config.dropout, config.batch_norm) for _ in range(2))
        self.second_tasks = [t for t, stage in enumerate(behind) if stage >= 0]
        self.tasks, self.width = tasks, config.hidden[-1] if config.hidden else width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        towers = self.first(x), self.second(x)
        return torch.stack([towers[task in self.second_tasks] for task in range(self.tasks)])


class Fm(nn.Module):
    """The input and, for each task, the sum of all products of two inputs by factors of its own."""

    def __init__(self, config: FmConfig, width: int, tasks: int):
        super().__init__()
        self.factors = nn.Parameter(torch.randn(width, tasks * config.factors) * 0.01)
        self.tasks, self.width = tasks, width + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.matmul(x, self.factors).square() - torch.matmul(x.square(), self.factors.square())
        pairs = 0.5 * pairs.unflatten(1, (self.tasks, -1)).sum(dim=2)
        return torch.cat([x.expand(self.tasks, -1, -1), pairs.transpose(0, 1).unsqueeze(2)], dim=2)


class Ncf(nn.Module):
    """Products of user and item factors beside an MLP over the other factors and all else.

    The ids stand last in the input, each in two halves: factors of the products, factors of the MLP.
    """

    def __init__(self, config: NcfConfig, width: int, tasks: int):
        super().__init__()
        self.half, self.count = config.id_dim // 2, len(config.ids)
        self.user, self.item = config.ids.index("user"), config.ids.index("item")
        self.deep = mlp(width - self.count * self.half, config.hidden, config.dropout, config.batch_norm)
        self.width = self.half + (config.hidden[-1] if config.hidden else width - self.count * self.half)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ids = x[:, x.shape[1] - self.count * 2 * self.half :].unflatten(1, (self.count, 2, self.half))
        product = ids[:, self.user, 0] * ids[:, self.item, 0]
        deep = torch.cat([x[:, : x.shape[1] - self.count * 2 * self.half], ids[:, :, 1].flatten(1)], dim=1)
        return torch.cat([product, self.deep(deep)], dim=1)


TRUNKS: dict[str, type[nn.Module]] = {
    "shared_bottom": SharedBottom,
    "mmoe": Mmoe,
    "ple": Ple,
    "dcn_v2": Dcn,
    "masknet": MaskNet,
    "wide_deep": WideDeep,
    "deepfm": DeepFm,
    "esmm": Esmm,
    "fm": Fm,
    "ncf": Ncf,
    "din": SharedBottom,
    "transformer": SharedBottom,
}
"""`kind` of the configuration → trunk."""
