"""Training of the generative retriever: the codes of each next item, from the codes of those before it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys_cli.parallel import torch_threads, train_on
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.semantic.generative_config import GenerativeConfig


class _Teller(nn.Module):
    """Logits of a level's codes from the history and the codes before."""

    def __init__(self, hidden: int, codes: int):
        super().__init__()
        self.history = nn.Linear(hidden, hidden)
        self.codes = nn.Linear(hidden, hidden, bias=False)
        self.out = nn.Linear(hidden, codes)

    def forward(self, history: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return self.out(torch.relu(self.history(history) + self.codes(before)))


class _Network(nn.Module):
    def __init__(self, levels: int, codes: int, hidden: int, dropout: float):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(levels, codes, hidden) / hidden**0.5)
        self.read = nn.GRU(hidden, hidden, batch_first=True)
        self.tell = nn.ModuleList(_Teller(hidden, codes) for _ in range(levels))
        self.dropout = nn.Dropout(dropout)

    def embedded(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """Of codes int64[…, L], the embedding of each level."""
        return [self.embedding[level][codes[..., level]] for level in range(codes.shape[-1])]

    def loss(self, codes: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Mean over the places of Σ over levels of −ln P; codes: int64[B, T + 1, L] from left, lengths: items each."""
        history, _ = self.read(self.dropout(sum(self.embedded(codes[:, :-1]))))
        there = torch.arange(codes.shape[1] - 1, device=codes.device)[None] < (lengths - 1)[:, None]
        history, wanted = history[there], codes[:, 1:][there]
        before, total = torch.zeros_like(history), 0.0
        for level, embedded in enumerate(self.embedded(wanted)):
            total = total + F.cross_entropy(self.tell[level](history, before), wanted[:, level])
            before = before + embedded
        return total


def train_generative(
    config: GenerativeConfig, codes: np.ndarray, users: np.ndarray, items: np.ndarray, window: Window,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Arrays of the network: "embedding" [L, C, H], "read.…" of the recurrent unit, "tell.LEVEL.…".

    users, items: interactions in the order of time; those of items without codes are passed over.
    """
    known = codes[items, 0] >= 0
    order = np.argsort(users[known], kind="stable")
    rows, lengths = _segments(users[known][order], items[known][order], config.history + 1)

    def train(device: torch.device, parts: int) -> dict[str, np.ndarray]:
        with torch_threads(1), torch.random.fork_rng():
            torch.manual_seed(window.seed)
            network = _Network(codes.shape[1], config.codes_per_level, config.hidden, config.dropout).to(device)
            _fit(network, config, torch.from_numpy(codes.astype(np.int64)), rows, lengths, window.seed, device, parts,
                 progress)
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
        return {name.replace("_l0", ""): np.ascontiguousarray(array) for name, array in arrays.items()}

    return train_on(window.device, "generative", progress, train)


def _fit(network, config, codes, rows, lengths, seed, device, parts, progress) -> None:
    optimiser = torch.optim.Adam(network.parameters(), config.learning_rate)
    codes, size = codes.to(device), max(1, config.batch_size // parts)
    rng, network = np.random.default_rng([seed, 7]), network.train()
    with progress.step("generative", total=config.epochs) as bar:
        for _ in range(config.epochs):
            order = rng.permutation(len(rows))
            for start in range(0, len(order), size):
                part = order[start : start + size]
                longest = int(lengths[part].max())
                batch = codes[torch.from_numpy(rows[part, :longest]).to(device)]
                loss = network.loss(batch, torch.from_numpy(lengths[part]).to(device))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            bar.advance()


def _segments(users: np.ndarray, items: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[S, length] items from left, 0 behind them; int64[S] how many) of stretches of each user's items, each of
    which begins with the last item of the one before; those of one item alone tell nothing and are left out."""
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]])) if len(users) else np.zeros(0, np.int64)
    counts = np.diff(np.append(starts, len(users)))
    pieces = np.maximum(-(-(counts - 1) // (length - 1)), 0)
    owner = np.repeat(np.arange(len(starts)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    # from the end, so that only the first stretch is short
    stop = counts[owner] - (pieces[owner] - 1 - number) * (length - 1)
    begin = np.maximum(stop - length, 0)
    lengths = (stop - begin).astype(np.int64)
    at = starts[owner][:, None] + begin[:, None] + np.arange(length)[None]
    inside = np.arange(length)[None] < lengths[:, None]
    return np.where(inside, items[np.minimum(at, max(len(items) - 1, 0))], 0).astype(np.int64), lengths
