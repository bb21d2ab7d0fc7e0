"""Networks of the heavy ranker: raw features in, a probability per action and expected dwell out.

Everything between the raw feature matrix and the predictions is inside the graph — normalisation, embedding
lookup, calibration — so that serving needs nothing but the matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from recsys_cli.data.behaviour import Entities
from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.networks.histories import SideLayer
from recsys_cli.ranking.serving.side_inputs import SideSpec

LOG_VARIANCE_RANGE = (-6.0, 4.0)


@dataclass(frozen=True)
class InputSpec:
    """How columns of the feature matrix, and what stands beside it, enter a network."""

    numeric: list[int]
    """columns of numbers, those to be compressed last"""
    logged: list[bool]
    """which of them are compressed to sign(x)·ln(1+|x|) first"""
    mean: list[float]
    std: list[float]
    """of the (compressed) numbers on the training rows"""
    categorical: list[int]
    """columns of category codes"""
    sizes: list[int]
    """number of codes of each; codes outside [0, size) count as 0, unknown"""
    side: SideSpec | None = None
    """ids and histories, None for neither"""
    behind: list[int] = field(default_factory=list)
    """of each task, the task of the stage before it, -1 for none; empty where no kind of stages is trained"""
    places: list[float] = field(default_factory=list)
    """share of the training rows at each code of place and surface; empty without a position tower"""

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> InputSpec:
        side = content.get("side")
        return cls(**content | {"side": None if side is None else SideSpec.from_dict(side)})


class InputLayer(nn.Module):
    """Raw features float32[n, F] → standardised numbers and embeddings float32[n, width]."""

    def __init__(self, spec: InputSpec, embedding_dim: int, clip: float):
        super().__init__()
        self.clip = clip
        self.register_buffer("numeric", torch.tensor(spec.numeric, dtype=torch.int64))
        self.plain = spec.logged.index(True) if True in spec.logged else len(spec.logged)
        self.register_buffer("mean", torch.tensor(spec.mean, dtype=torch.float32))
        self.register_buffer("scale", 1 / torch.tensor(spec.std, dtype=torch.float32))
        self.register_buffer("categorical", torch.tensor(spec.categorical, dtype=torch.int64))
        sizes = torch.tensor(spec.sizes, dtype=torch.int64)
        self.register_buffer("sizes", sizes)
        self.register_buffer("offsets", torch.cumsum(sizes, 0) - sizes)
        self.embedding = nn.Embedding(int(sizes.sum()), embedding_dim) if spec.sizes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=0.01)
        self.width = len(spec.numeric) + len(spec.sizes) * embedding_dim

    def numbers(self, x: torch.Tensor) -> torch.Tensor:
        """Standardised numbers float32[n, numeric]."""
        x = _columns(x, self.numeric)
        tails = x[:, self.plain :]
        # logarithms are dear: of these columns only
        x = torch.cat([x[:, : self.plain], torch.sign(tails) * torch.log1p(torch.abs(tails))], dim=1)
        return torch.clamp((x - self.mean) * self.scale, -self.clip, self.clip)

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of the embedding matrix int64[n, categorical]."""
        codes = _columns(x, self.categorical).to(torch.int64)
        inside = (codes >= 0) & (codes < self.sizes)
        return torch.where(inside, codes, torch.zeros_like(codes)) + self.offsets

    def prepare(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Numbers and codes of raw features; codes are None without categories."""
        return self.numbers(x), self.codes(x) if self.embedding is not None else None

    def forward(self, numbers: torch.Tensor, codes: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Both parts joined, and the looked-up embeddings [n, categorical, dim] (None without categories)."""
        if self.embedding is None:
            return numbers, None
        embedded = self.embedding(codes)
        return torch.cat([numbers, embedded.flatten(1)], dim=1), embedded


def _columns(x: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """x[:, columns], by rows of the transpose: onnxruntime copies whole rows, and elements one by one."""
    return x.t().index_select(0, columns).t().contiguous()


class Heads(nn.Module):
    """One small head a task, all computed together: [tasks, n, width], or [n, width] for all → [tasks, n, outputs]."""

    def __init__(self, tasks: int, width: int, hidden: int, outputs: int):
        super().__init__()
        self.hidden = nn.ParameterList()
        if hidden:
            bound = (6 / width) ** 0.5
            self.hidden.append(nn.Parameter(torch.empty(tasks, width, hidden).uniform_(-bound, bound)))
            self.hidden.append(nn.Parameter(torch.zeros(tasks, 1, hidden)))
            width = hidden
        bound = (1 / width) ** 0.5
        self.weight = nn.Parameter(torch.empty(tasks, width, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(tasks, 1, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(self.hidden):
            x = torch.relu(_each(x, self.hidden[0]) + self.hidden[1])
        return _each(x, self.weight) + self.bias


def _each(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Products of [tasks, n, width] or [n, width] with [tasks, width, outputs]: [tasks, n, outputs]."""
    tasks, width, outputs = weight.shape
    if tasks == 1:  # a plain product, which int8 knows
        return torch.matmul(x if x.ndim == 2 else x[0], weight[0]).unsqueeze(0)
    if x.ndim == 3:
        return torch.matmul(x, weight)
    # one product for all tasks: a wide representation repeated for each would not fit in the cache
    joined = torch.matmul(x, weight.permute(1, 0, 2).reshape(width, tasks * outputs))
    return joined.view(-1, tasks, outputs).transpose(0, 1)


class HeavyNetwork(nn.Module):
    """Trunk and heads over the input layer.

    `raw` gives logits and the parameters of log dwell.
    """

    def __init__(self, config: HeavyNetworkConfig, spec: InputSpec, tasks: int, dwell: bool):
        super().__init__()
        self.input = InputLayer(spec, config.embedding_dim, config.clip)
        self.sides = None if spec.side is None else SideLayer(config, spec.side)
        width = self.input.width + (0 if self.sides is None else self.sides.width)
        self.behind, head = spec.behind, getattr(config, "head", 0)
        behind = spec.behind + [-1] * int(dwell) if spec.behind else []
        self.trunk = config.trunk(width, tasks + int(dwell), behind)
        self.heads = Heads(tasks, self.trunk.width, head, 1)
        self.dwell_head = Heads(1, self.trunk.width, head, 2) if dwell else None
        self.place_embedding = nn.Embedding(len(spec.places), tasks) if spec.places else None
        if self.place_embedding is not None:
            nn.init.zeros_(self.place_embedding.weight)
            self.register_buffer("place_share", torch.tensor(spec.places, dtype=torch.float32))
        self.tasks, self.quantile = tasks, config.dwell_loss == "quantile"
        self.embedding_l2, self.id_l2 = config.embedding_l2, config.id_l2

    def raw(
        self, numbers: torch.Tensor, codes: torch.Tensor | None, sides: dict[str, torch.Tensor] | None = None,
        place: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor]:
        """Logits [n, T]; mean and log-variance of ln(1+dwell) [n] or None; penalty on embeddings, a scalar.

        sides: the arrays of `SideSpec.inputs` by name, where the network takes them. place: codes of position and
        surface in training; without them every row stands at the mean of the training rows.
        """
        x, embedded = self.input(numbers, codes)
        penalty = x.new_zeros(()) if embedded is None else self.embedding_l2 * embedded.square().sum(dim=(1, 2)).mean()
        if self.sides is not None:
            beside, norms = self.sides(sides)
            x, penalty = torch.cat([x, beside], dim=1), penalty + self.id_l2 * norms.mean()
        x = self.trunk(x)
        shared = x.ndim == 2
        logits = self.heads(x if shared else x[: self.tasks])[..., 0].transpose(0, 1)
        if self.place_embedding is not None:
            at_mean = self.place_share @ self.place_embedding.weight
            logits = logits + (at_mean if place is None else self.place_embedding(place))
        if any(stage >= 0 for stage in self.behind):
            logits = _product_rule(logits, self.behind)
        if self.dwell_head is None:
            return logits, None, None, penalty
        dwell = self.dwell_head(x if shared else x[self.tasks :])[0]
        return logits, dwell[:, 0], torch.clamp(dwell[:, 1], *LOG_VARIANCE_RANGE), penalty

    def set_base_rates(self, rates: torch.Tensor, log_dwell: tuple[float, float] | None) -> None:
        """Start each head at its base rate, and dwell at the mean and variance of ln(1+dwell)."""
        with torch.no_grad():
            for task, stage in enumerate(self.behind):
                if stage >= 0:  # the head gives the rate among rows that passed the stage before
                    rates = rates.clone()
                    rates[task] = (rates[task] / rates[stage].clamp_min(1e-6)).clamp_max(0.999)
            self.heads.bias[:, 0, 0] = torch.logit(rates, eps=1e-6)
            if self.dwell_head is not None and log_dwell is not None:
                self.dwell_head.bias[0, 0] = torch.tensor([log_dwell[0], max(log_dwell[1], 1e-3)])
                self.dwell_head.bias[0, 0, 1].log_()


def _product_rule(logits: torch.Tensor, behind: list[int]) -> torch.Tensor:
    """Logits of P(stage before) · P(task | stage before) for the tasks behind a stage, the others as they are."""
    out = []
    for task, stage in enumerate(behind):
        if stage < 0:
            out.append(logits[:, task])
        else:
            # −ln of the product, of which the logit is −ln(e^s − 1)
            s = (F.softplus(-logits[:, stage]) + F.softplus(-logits[:, task])).clamp_min(1e-6)
            out.append(-s - torch.log1p(-torch.exp(-s)))
    return torch.stack(out, dim=1)


class ServedNetwork(nn.Module):
    """What is exported: one or more trained networks, their mean logits, corrected and turned into probabilities."""

    def __init__(self, members: list[HeavyNetwork], dwell_max: float):
        super().__init__()
        self.members = nn.ModuleList(members)
        tasks = members[0].tasks
        self.register_buffer("scale", torch.ones(tasks))
        self.register_buffer("shift", torch.zeros(tasks))
        self.dwell_max = dwell_max
        self.inputs = None if members[0].sides is None else members[0].sides.inputs

    def logits(
        self, x: torch.Tensor, *sides: torch.Tensor, place: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean logits before correction [n, T], and mean and log-variance of ln(1+dwell) [n] (zero without).

        sides: the arrays of `SideSpec.inputs`, in that order. place: codes of position and surface, where rows are
        not to stand at their mean.
        """
        parts, named = [], None if self.inputs is None else dict(zip(self.inputs, sides, strict=True))
        numbers, codes = self.members[0].input.prepare(x)
        for member in self.members:
            logits, mean, log_variance, _ = member.raw(numbers, codes, named, place)
            none = logits[:, 0] * 0
            parts.append((logits, none if mean is None else mean, none if log_variance is None else log_variance))
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.stack(values).mean(dim=0) for values in zip(*parts, strict=True))

    def forward(self, x: torch.Tensor, *sides: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, mean, log_variance = self.logits(x, *sides)
        probabilities = torch.sigmoid(logits * self.scale + self.shift)
        if self.members[0].dwell_head is None:
            return probabilities, mean
        if not self.members[0].quantile:  # the mean of a log-normal
            mean = mean + 0.5 * torch.exp(log_variance)
        dwell = torch.exp(torch.clamp(mean, max=20.0)) - 1  # bounded first so that it cannot overflow
        return probabilities, torch.clamp(dwell, 0.0, self.dwell_max)


def batches(
    values: np.ndarray, entities: Entities | None, side: SideSpec | None, rows: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Inputs of `ServedNetwork.logits` for some rows of raw features float32[n, F] at a time."""
    for start in range(0, len(values), rows):
        part = slice(start, start + rows)
        arrays = [np.ascontiguousarray(values[part], np.float32)]
        if side is not None:
            arrays += side.arrays(None if entities is None else entities.take(part)).values()
        yield tuple(torch.from_numpy(a).to(device) for a in arrays)
