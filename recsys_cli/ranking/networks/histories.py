"""Hashed embeddings of ids, and networks that attend from a candidate to what its user did last."""

from __future__ import annotations

import torch
from torch import nn

from recsys_cli.ranking.networks.config import HeavyNetworkConfig
from recsys_cli.ranking.serving.side_inputs import SideSpec

PRIME = 2**31 - 1
HASHED = ("user", "item", "author")
"""Codes that are always hashed: new ones come every day."""
FAR = -1e4
"""Attention score of an empty slot: finite, so that a history of empty slots alone gives no NaN."""


class CodeTable(nn.Module):
    """Codes int64[..., C] → one vector a code [..., C, dim]; -1 gives zeros.

    A column that is hashed adds up one row of its buckets for each of several hash functions, so that two codes
    that share one row rarely share all (Svenstrup et al., NeurIPS 2017), and a code that training never saw
    has a vector too. The functions are ((a·x + b) mod p) mod buckets (Carter & Wegman, 1979). Other columns have a
    row a code; codes beyond those known count as unknown. Columns of one name share their rows.
    """

    def __init__(self, names: list[str], sizes: list[int], dim: int, buckets: int, hashes: int):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        plans: dict[str, tuple[int, int, list[list[int]]]] = {}
        rows = 0
        for name, size in dict(zip(names, sizes, strict=True)).items():
            hashed = name in HASHED or size > buckets
            pairs = torch.randint(1, PRIME, (hashes, 2), generator=generator).tolist() if hashed else []
            plans[name] = rows, buckets if hashed else size, pairs
            rows += buckets * hashes if hashed else max(size, 1)
        self.plan = [plans[name] for name in names]
        self.embedding = nn.Embedding(rows, dim)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        out = []
        for c, (start, size, functions) in enumerate(self.plan):
            code = codes[..., c]
            known = code >= 0 if functions else (code >= 0) & (code < size)
            code = torch.where(known, code, torch.zeros_like(code))
            if functions:
                rows = [start + i * size + ((a * code + b) % PRIME) % size for i, (a, b) in enumerate(functions)]
                vector = self.embedding(torch.stack(rows, dim=-1)).sum(dim=-2)
            else:
                vector = self.embedding(start + code)
            out.append(vector * known.unsqueeze(-1))
        return torch.stack(out, dim=-2)


class SideLayer(nn.Module):
    """Everything that enters a network beside its features: [n, width], ids last in the order of `SideSpec.ids`."""

    def __init__(self, config: HeavyNetworkConfig, spec: SideSpec):
        super().__init__()
        self.ids, self.inputs, dim = spec.ids, spec.inputs, config.id_dim
        columns = [spec.columns[p] for p in spec.places]
        table = config.id_dim, config.id_buckets, config.id_hashes
        self.items = CodeTable([c.name for c in columns], [c.size for c in columns], *table)
        self.users = CodeTable(["user"], [spec.users], *table) if "user" in self.ids else None
        self.history = HISTORIES[config.history](config, spec) if spec.length else None
        self.width = (self.history.width if self.history is not None else 0) + len(self.ids) * dim

    def forward(self, sides: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The vectors, and the squared norm of the looked-up embeddings of each row [n]."""
        items, candidate = self.items(sides["items"]), sides["candidate"]
        penalty = items.square().sum(dim=(1, 2))[candidate]
        parts, vectors = [], {"item": items[:, 0], "author": items[:, 1]}
        if self.history is not None:
            parts.append(self.history(items.sum(dim=1), sides))
        for name in self.ids:
            if name == "user":
                user = self.users(sides["user"].unsqueeze(1))[:, 0]
                penalty = penalty + user.square().sum(dim=1)
                parts.append(user)
            else:
                parts.append(vectors[name][candidate])
        return torch.cat(parts, dim=1), penalty


class _HistoryInput(nn.Module):
    """Histories [U, L, dim] and candidates [n, dim] from vectors of items, and which slots are filled [U, L]."""

    def __init__(self, config: HeavyNetworkConfig, spec: SideSpec):
        super().__init__()
        dim = config.history_dim
        self.item = nn.Linear(config.id_dim, dim)
        self.facts = nn.Linear(1 + len(spec.actions), dim)
        self.place = nn.Parameter(torch.randn(spec.length, dim) * 0.02)

    def forward(self, items: torch.Tensor, sides: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        history, facts = sides["history"], sides["history_facts"]
        filled = history >= 0
        vectors = self.item(items)
        held = vectors[torch.where(filled, history, torch.zeros_like(history))]
        facts = torch.cat([facts[..., :1] / 5, facts[..., 1:]], dim=2)
        held = (held + self.facts(facts) + self.place) * filled.unsqueeze(2)
        return held, vectors[sides["candidate"]], filled


def _attend(
    held: torch.Tensor, candidate: torch.Tensor, asker: torch.Tensor, of_history: torch.Tensor, bias: torch.Tensor,
    of_candidate: torch.Tensor, of_both: torch.Tensor, weigh: torch.Tensor, weigh_bias: torch.Tensor,
) -> torch.Tensor:
    """Sums of histories [U, L, dim] weighed for candidates [n, dim], float[n, dim].

    A weight is weigh·ReLU(of_history·h + of_candidate·c + of_both·(h ⊙ c)). For one asker, as in a request, the last
    two are one product of the candidates with a matrix that the history makes. Empty slots are zeros and add
    nothing; the bias of the weight, alike for all, is added once a history.
    """
    from_history = torch.matmul(held, of_history.t()) + bias
    rest = held.sum(dim=1) * weigh_bias
    if held.shape[0] == 1:
        slots, dim = held.shape[1], held.shape[2]
        made = (held[0].unsqueeze(1) * of_both + of_candidate).reshape(slots * dim, dim)
        hidden = torch.relu(torch.matmul(candidate, made.t()) + from_history.reshape(1, slots * dim))
        weight = torch.matmul(hidden.reshape(-1, slots, dim), weigh.t())[:, :, 0]
        interest = torch.matmul(weight, held[0]) + rest
    else:
        mine = held[asker]
        hidden = from_history[asker] + torch.matmul(candidate, of_candidate.t()).unsqueeze(1)
        hidden = torch.relu(hidden + torch.matmul(mine * candidate.unsqueeze(1), of_both.t()))
        weight = torch.matmul(hidden, weigh.t()).transpose(1, 2)
        interest = torch.matmul(weight, mine)[:, 0] + rest[asker]
    return interest


class Din(nn.Module):
    """Deep interest network: a small MLP weighs each interaction by what the candidate is (Zhou et al., KDD 2018).

    Weights are not normalised, so that their sum keeps the strength of the interest. The first layer over
    [h, c, h − c, h ⊙ c] is taken apart: what depends on the history alone is computed once a history.
    """

    def __init__(self, config: HeavyNetworkConfig, spec: SideSpec):
        super().__init__()
        dim = config.history_dim
        self.input = _HistoryInput(config, spec)
        self.of_history, self.of_candidate = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.of_both, self.weigh = nn.Linear(dim, dim, bias=False), nn.Linear(dim, 1)
        self.drop = nn.Dropout(config.dropout)
        self.width = 3 * dim

    def forward(self, items: torch.Tensor, sides: dict[str, torch.Tensor]) -> torch.Tensor:
        held, candidate, _ = self.input(items, sides)
        # a traced graph would hold the branch of its example alone
        attend = torch.jit.script(_attend) if torch.onnx.is_in_onnx_export() else _attend
        interest = attend(
            held, candidate, sides["asker"], self.of_history.weight, self.of_history.bias, self.of_candidate.weight,
            self.of_both.weight, self.weigh.weight, self.weigh.bias,
        )
        return self.drop(torch.cat([interest, candidate, interest * candidate], dim=1))


class CandidateTransformer(nn.Module):
    """Transformer with candidate isolation, as in X's Phoenix: a score does not depend on the batch.

    The interactions of a history attend to one another; a candidate attends to the history and to itself, never
    to another candidate. Histories are encoded once however many candidates ask. Layers are of the pre-norm kind.
    """

    def __init__(self, config: HeavyNetworkConfig, spec: SideSpec):
        super().__init__()
        dim = config.history_dim
        self.input, self.heads = _HistoryInput(config, spec), config.history_heads
        self.layers = nn.ModuleList(_Layer(dim, config.dropout) for _ in range(config.history_layers))
        self.norm, self.width = nn.LayerNorm(dim), 3 * dim

    def forward(self, items: torch.Tensor, sides: dict[str, torch.Tensor]) -> torch.Tensor:
        held, asked, filled = self.input(items, sides)
        asker, candidate = sides["asker"], asked
        for number, layer in enumerate(self.layers):
            q, k, v = (_split(x, self.heads) for x in layer.qkv(layer.before(held)).chunk(3, dim=-1))
            qc, kc, vc = (_split(x, self.heads) for x in layer.qkv(layer.before(candidate)).chunk(3, dim=-1))
            scale = q.shape[-1] ** -0.5
            empty = (~filled).to(q.dtype) * FAR  # [U, L]
            # [n, heads, L]: of the candidate with its history; [n, heads, 1]: with itself
            keys, values = k.transpose(1, 2)[asker], v.transpose(1, 2)[asker]
            outer = torch.matmul(keys, qc.unsqueeze(3)).squeeze(3) * scale + empty[asker].unsqueeze(1)
            own = (qc * kc).sum(dim=2, keepdim=True) * scale
            share = torch.softmax(torch.cat([outer, own], dim=2), dim=2)
            seen = torch.matmul(share[..., :-1].unsqueeze(2), values).squeeze(2) + share[..., -1:] * vc
            candidate = layer.after(candidate, seen.flatten(1))
            if number + 1 < len(self.layers):  # nobody reads the history beyond the last layer
                scores = torch.matmul(q.transpose(1, 2), k.permute(0, 2, 3, 1)) * scale + empty[:, None, None]
                mixed = torch.matmul(torch.softmax(scores, dim=3), v.transpose(1, 2))
                held = layer.after(held, mixed.transpose(1, 2).flatten(2))
        read = self.norm(candidate)
        return torch.cat([read, asked, read * asked], dim=1)


class _Layer(nn.Module):
    """Weights of one layer, the same for histories and candidates."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.wide, self.narrow, self.drop = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim), nn.Dropout(dropout)

    def after(self, x: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
        """What follows attention."""
        x = x + self.drop(self.out(attended))
        return x + self.drop(self.narrow(torch.relu(self.wide(self.between(x)))))


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[..., dim] → [..., heads, dim / heads]"""
    return x.unflatten(-1, (heads, x.shape[-1] // heads))


HISTORIES: dict[str, type[nn.Module]] = {"din": Din, "transformer": CandidateTransformer}
"""`history` of the configuration → network."""
