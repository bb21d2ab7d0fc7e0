"""Networks of the heavy ranker: raw features in, a probability per action and expected dwell out.

Everything between the raw feature matrix and the predictions is inside the graph — normalisation, embedding
lookup, calibration — so that serving needs nothing but the matrix.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn

from recsys_cli.ranking.config import HeavyNetworkConfig
from recsys_cli.ranking.trunks import TRUNKS

LOG_VARIANCE_RANGE = (-6.0, 4.0)


@dataclass(frozen=True)
class InputSpec:
    """How columns of the feature matrix enter a network."""

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

    def to_dict(self) -> dict:
        return asdict(self)


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
        x = x.index_select(1, self.numeric)
        tails = x[:, self.plain :]
        # logarithms are dear: of these columns only
        x = torch.cat([x[:, : self.plain], torch.sign(tails) * torch.log1p(torch.abs(tails))], dim=1)
        return torch.clamp((x - self.mean) * self.scale, -self.clip, self.clip)

    def codes(self, x: torch.Tensor) -> torch.Tensor:
        """Rows of the embedding matrix int64[n, categorical]."""
        codes = x.index_select(1, self.categorical).to(torch.int64)
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
    if x.ndim == 3:
        return torch.matmul(x, weight)
    # one product for all tasks: a wide representation repeated for each would not fit in the cache
    tasks, width, outputs = weight.shape
    joined = torch.matmul(x, weight.permute(1, 0, 2).reshape(width, tasks * outputs))
    return joined.view(-1, tasks, outputs).transpose(0, 1)


class HeavyNetwork(nn.Module):
    """Trunk and heads over the input layer.

    `forward` maps raw features float32[n, F] to (probabilities float32[n, T], dwell float32[n] seconds); without
    a dwell head dwell is all zero. `raw` gives logits and the parameters of log dwell for training.
    """

    def __init__(self, config: HeavyNetworkConfig, spec: InputSpec, tasks: int, dwell: bool):
        super().__init__()
        self.input = InputLayer(spec, config.embedding_dim, config.clip)
        representations = tasks + int(dwell)
        self.trunk = TRUNKS[config.kind](config, self.input.width, representations)
        self.heads = Heads(tasks, self.trunk.width, config.head, 1)
        self.dwell_head = Heads(1, self.trunk.width, config.head, 2) if dwell else None
        self.tasks = tasks

    def raw(
        self, numbers: torch.Tensor, codes: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """Logits [n, T]; mean and log-variance of ln(1+dwell) [n] or None; embeddings [n, C, D] or None."""
        x, embedded = self.input(numbers, codes)
        x = self.trunk(x)
        shared = x.ndim == 2
        logits = self.heads(x if shared else x[: self.tasks]).squeeze(2).transpose(0, 1)
        if self.dwell_head is None:
            return logits, None, None, embedded
        dwell = self.dwell_head(x if shared else x[self.tasks :])[0]
        return logits, dwell[:, 0], torch.clamp(dwell[:, 1], *LOG_VARIANCE_RANGE), embedded

    def set_base_rates(self, rates: torch.Tensor, log_dwell: tuple[float, float] | None) -> None:
        """Start each head at its base rate, and dwell at the mean and variance of ln(1+dwell)."""
        with torch.no_grad():
            self.heads.bias[:, 0, 0] = torch.logit(rates, eps=1e-6)
            if self.dwell_head is not None and log_dwell is not None:
                self.dwell_head.bias[0, 0] = torch.tensor([log_dwell[0], max(log_dwell[1], 1e-3)])
                self.dwell_head.bias[0, 0, 1].log_()


class ServedNetwork(nn.Module):
    """What is exported: one or more trained networks, their mean logits, corrected and turned into probabilities."""

    def __init__(self, members: list[HeavyNetwork], dwell_max: float):
        super().__init__()
        self.members = nn.ModuleList(members)
        tasks = members[0].tasks
        self.register_buffer("scale", torch.ones(tasks))
        self.register_buffer("shift", torch.zeros(tasks))
        self.dwell_max = dwell_max

    def logits(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean logits before correction [n, T], and mean and log-variance of ln(1+dwell) [n] (zero without)."""
        parts = []
        numbers, codes = self.members[0].input.prepare(x)
        for member in self.members:
            logits, mean, log_variance, _ = member.raw(numbers, codes)
            none = logits[:, 0] * 0
            parts.append((logits, none if mean is None else mean, none if log_variance is None else log_variance))
        if len(parts) == 1:
            return parts[0]
        return tuple(torch.stack(values).mean(dim=0) for values in zip(*parts, strict=True))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, mean, log_variance = self.logits(x)
        probabilities = torch.sigmoid(logits * self.scale + self.shift)
        if self.members[0].dwell_head is None:
            return probabilities, mean
        # the mean of a log-normal; exp is bounded first so that it cannot overflow
        dwell = torch.exp(torch.clamp(mean + 0.5 * torch.exp(log_variance), max=20.0)) - 1
        return probabilities, torch.clamp(dwell, 0.0, self.dwell_max)
