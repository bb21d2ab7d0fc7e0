"""Encoders of event sequences in torch: SASRec's and BERT4Rec's transformer, and GRU4Rec's recurrent network.

Rows of a batch are histories, oldest event first, filled up with 0 at the end: what stands after an event can then
never reach it in the causal encoders, whatever fills the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys_cli.retrieval.sequential.networks.encoder import GAPS

if TYPE_CHECKING:
    from recsys_cli.retrieval.sequential.networks.config import SequentialConfig

BARRED = -1e9
"""Added to the logits of what attention may not look at."""


class Noise:
    """Dropout from a stream of random bytes: three times faster on a CPU than torch's, and repeatable alone.

    Probabilities are whole 256ths.
    """

    def __init__(self):
        self.seed(np.random.default_rng(0))

    def seed(self, rng: np.random.Generator) -> None:
        self._rng = np.random.Generator(np.random.SFC64(rng.integers(2**63)))

    def __call__(self, x: torch.Tensor, rate: float) -> torch.Tensor:
        dropped = round(rate * 256)
        if not dropped:
            return x
        count = x.numel()
        words = self._rng.integers(0, 2**64 - 1, -(-count // 8), dtype=np.uint64, endpoint=True)
        keep = torch.from_numpy(words.view(np.uint8)[:count] >= dropped).view(x.shape).to(x.device)
        return x * keep * (256 / (256 - dropped))


class Block(nn.Module):
    """Attention and a pointwise network, each behind a layer norm and beside what came in (pre-norm)."""

    def __init__(self, config: SequentialConfig, noise: Noise):
        super().__init__()
        self.heads, self.rate, self.noise = config.heads, config.dropout, noise
        self.attention_norm, self.point_norm = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.mix = nn.Linear(config.dim, 3 * config.dim)
        self.join = nn.Linear(config.dim, config.dim)
        self.widen = nn.Linear(config.dim, config.widening * config.dim)
        self.narrow = nn.Linear(config.widening * config.dim, config.dim)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """x float32[B, L, D]; mask [1 or B, heads, L, L] is added to the logits of the attention."""
        batch, length, dim = x.shape
        mixed = self.mix(self.attention_norm(x)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        # written out: torch's fused attention takes four times as long backwards on a CPU at such lengths
        logits = torch.matmul(query * (dim // self.heads) ** -0.5, key.transpose(2, 3)) + mask.to(query.dtype)
        with torch.autocast("cpu", enabled=False):
            y = torch.matmul(torch.softmax(logits, dim=3), value)
        y = self.join(y.transpose(1, 2).reshape(batch, length, dim))
        x = x + self._drop(y)
        return x + self._drop(self.narrow(F.gelu(self.widen(self.point_norm(x)))))

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(x, self.rate) if self.training else x


class SequenceNetwork(nn.Module):
    """Embeds events and encodes them; what the sequential networks share.

    dropout draws from `noise`, which a trainer seeds anew for every epoch.
    """

    def __init__(self, config: SequentialConfig, items: int, actions: int, gaps: bool):
        super().__init__()
        self.noise, self.rate = Noise(), config.dropout
        # row 0 fills rows up, rows 1, 2, … are the items, the last one stands for a hidden event
        self.item = nn.Embedding(items + 2, config.dim)
        nn.init.normal_(self.item.weight, std=config.dim**-0.5)
        self.action = nn.Linear(actions, config.dim, bias=False) if actions else None
        self.gap = nn.Embedding(GAPS, config.dim) if gaps else None
        for table in (self.action, self.gap):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)

    @property
    def items(self) -> torch.Tensor:
        """float32[V, D] embeddings of the items, with which they are scored too."""
        return self.item.weight[1:-1]

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        return self.noise(x, self.rate) if self.training else x

    def describe(self, events: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        """Embeddings of the items [B, L, D] with those of the actions [B, L, A] and the gaps int64[B, L] on top."""
        if self.action is not None:
            events = events + self.action(actions)
        if self.gap is not None:
            events = events + self.gap(gaps)
        return events

    def encode(
        self, events: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """float32[B, L, D] from embeddings of the items; rows hold `lengths` int64[B] events."""
        raise NotImplementedError

    def forward(
        self, items: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """float32[B, L, D] from tokens int64[B, L]."""
        return self.encode(self.item(items), actions, gaps, lengths)


class Transformer(SequenceNetwork):
    """Self-attention: of each event over those before it (SASRec), or over all of its row (BERT4Rec)."""

    def __init__(self, config: SequentialConfig, items: int, actions: int, gaps: bool, *, causal: bool):
        super().__init__(config, items, actions, gaps)
        self.causal = causal
        self.position = nn.Embedding(config.history + (not causal), config.dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(config, self.noise) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def encode(
        self, events: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        places = torch.arange(events.shape[1], device=events.device)
        if self.causal:
            numbers = places
            mask = (places[:, None] < places).float()[None, None] * BARRED
        else:
            # counted from the end: the event to be found, one behind a whole history, stands where others were learned
            numbers = (lengths[:, None] - 1 - places).clamp(min=0)
            mask = (places >= lengths[:, None]).float()[:, None, None, :] * BARRED
        x = self.drop(self.describe(events, actions, gaps) + self.position(numbers))
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Recurrent(SequenceNetwork):
    """Gated recurrent units, a state that takes one event after the other in (GRU4Rec)."""

    def __init__(self, config: SequentialConfig, items: int, actions: int, gaps: bool):
        super().__init__(config, items, actions, gaps)
        self.gru = nn.GRU(config.dim, config.hidden, config.layers, batch_first=True)
        self.out = nn.Linear(config.hidden, config.dim)
        self.norm = nn.LayerNorm(config.dim)

    def encode(
        self, events: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        x, _ = self.gru(self.drop(self.describe(events, actions, gaps)))
        return self.norm(self.out(self.drop(x)))


def network(config: SequentialConfig, items: int, actions: int, gaps: bool) -> SequenceNetwork:
    """The network of a kind."""
    if config.kind == "gru4rec":
        return Recurrent(config, items, actions, gaps)
    return Transformer(config, items, actions, gaps, causal=config.kind == "sasrec")


class Served(nn.Module):
    """What is exported: the vectors after the last event of each row, of all members side by side."""

    def __init__(self, members: list[SequenceNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(
        self, events: torch.Tensor, actions: torch.Tensor, gaps: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor:
        """float32[B, members · D] from embeddings [B, L, members · D]."""
        parts = zip(self.members, events.chunk(len(self.members), dim=2), strict=True)
        last = (lengths - 1)[:, None, None].expand(-1, 1, events.shape[2] // len(self.members))
        found = [m.encode(x, actions, gaps, lengths).gather(1, last)[:, 0] for m, x in parts]
        # a product with the items' embeddings side by side is then the mean of the members' scores
        return torch.cat(found, dim=1) / len(self.members)
