"""LightGCN in torch: embeddings spread over the user–item graph, trained end to end."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from recsys_cli.data.ragged import Ragged
from recsys_cli.optimisers import Adam
from recsys_cli.parallel import torch_seed
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.embeddings.sampled_softmax import log_q, on, sampled_softmax
from recsys_cli.retrieval.linear.item_filter import leading_space

if TYPE_CHECKING:
    from recsys_cli.retrieval.embeddings.lightgcn_config import LightGcnConfig

CPU = torch.device("cpu")
GROUP = 512
"""Interactions of a step are softmaxed in groups of so many, which share their negatives."""
ROWS_AT_ONCE = 256
"""Users whose scores of all items are held at once by the full softmax."""
START = 0.1
"""Size of the numbers in the first embeddings."""


class _Spread(torch.autograd.Function):
    """Â @ x; since Â is symmetric, so is its gradient."""

    @staticmethod
    def forward(ctx, adjacency: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        ctx.adjacency = adjacency
        return adjacency @ x

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[None, torch.Tensor]:
        return None, ctx.adjacency @ gradient.contiguous()


def adjacency(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> torch.Tensor:
    """Sparse [U + I, U + I] with 1 / √(degree of user × degree of item) at each edge; edges must be distinct."""
    degree_u, degree_i = np.bincount(users, minlength=n_users), np.bincount(items, minlength=n_items)
    weights = (1 / np.sqrt(degree_u[users].astype(np.float64) * degree_i[items])).astype(np.float32)
    rows = np.concatenate([users, items + n_users]).astype(np.int64)
    columns = np.concatenate([items + n_users, users]).astype(np.int64)
    order = np.lexsort((columns, rows))
    n = n_users + n_items
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    values = np.concatenate([weights, weights])[order]
    with warnings.catch_warnings():
        # torch calls every sparse matrix of this layout a beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
        return torch.sparse_csr_tensor(
            torch.from_numpy(starts),
            torch.from_numpy(columns[order]),
            torch.from_numpy(values),
            (n, n),
            check_invariants=False,
        )


class _FullSoftmax(torch.autograd.Function):
    """Σ over users of the sum of −log softmax(u · V / t) of their items, for cosines of users [B, D] and items [I, D].

    Gradients are taken on the way, block by block of users, so that no more than a block of scores ever exists. Cosines
    need no maximum taken off before the exponential unless t is tiny. Products are in bfloat16 where the processor has
    it: four to seven times the speed, and of no consequence for what is learnt.
    """

    @staticmethod
    def forward(ctx, users: torch.Tensor, items: torch.Tensor, rows: Ragged, temperature: float) -> torch.Tensor:
        quick = users.is_cuda or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        kind = torch.bfloat16 if quick else torch.float32
        scaled, table = (users / temperature).to(kind), items.to(kind)
        lengths = on(users.device, rows.lengths.astype(np.float32))
        at = tuple(on(users.device, a.astype(np.int64)) for a in (rows.rows, rows.values))
        to_users, to_items = torch.empty_like(users), torch.zeros_like(items)
        loss = -(users[at[0]] * items[at[1]]).sum() / temperature
        for start in range(0, len(users), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            mass = (scaled[part] @ table.T - 1 / temperature).exp_()
            total = mass.sum(dim=1, dtype=torch.float32)
            loss += (lengths[part] * (total.log() + 1 / temperature)).sum()
            share = (lengths[part] / total)[:, None]
            to_users[part] = (mass @ table).float() * share
            to_items += (mass.T @ (scaled[part] * share.to(kind))).float()
        to_users.index_add_(0, at[0], items[at[1]], alpha=-1)
        to_items.index_add_(0, at[1], users[at[0]] / temperature, alpha=-1)
        ctx.save_for_backward(to_users / temperature, to_items)
        return loss

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None]:
        to_users, to_items = ctx.saved_tensors
        return to_users * gradient, to_items * gradient, None, None


class LightGcnTrainer:
    """users, items: int64[m] distinct edges."""

    def __init__(
        self, config: LightGcnConfig, seed: int, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int,
        device: torch.device = CPU,
    ):
        self.device = device
        self.config, self.users, self.items, self.n_users, self.n_items = config, users, items, n_users, n_items
        self.adjacency = adjacency(users, items, n_users, n_items).to(device)
        with torch_seed(seed):
            self.weight = torch.randn(n_users + n_items, config.dim) * START
        if config.initial == "spectral":
            self.weight = self._spectral(seed)
        self.weight = self.weight.to(device).requires_grad_()
        self.optimiser = Adam([self.weight], lr=config.learning_rate)
        self.touched = Ragged.group(users, items, n_users).sorted_rows()
        self.correction = log_q(
            np.bincount(items, minlength=n_items), min(GROUP, len(users)), config.uniform_negatives
        )
        self.done = 0

    def _spectral(self, seed: int) -> torch.Tensor:
        """The leading singular vectors of the normalised graph times the roots of their values, as large as draws.

        Dimensions that the graph has no rank for keep their draws.
        """
        from scipy.sparse import csr_matrix

        degree_u, degree_i = np.bincount(self.users), np.bincount(self.items)
        values = (1 / np.sqrt(degree_u[self.users].astype(np.float64) * degree_i[self.items])).astype(np.float32)
        graph = csr_matrix((values, (self.users, self.items)), shape=(self.n_users, self.n_items))
        sigma, right = leading_space(graph, self.config.dim, seed)
        root = np.sqrt(np.maximum(sigma, 1e-6))
        out = self.weight.clone()
        sides = (slice(0, self.n_users), graph @ right / root), (slice(self.n_users, None), right * root)
        for rows, vectors in sides:
            found = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
            size = found.norm(dim=1).mean().clamp(min=1e-12)
            out[rows, : found.shape[1]] = found * (START * math.sqrt(found.shape[1]) / size)
        return out

    def _on(self, array: np.ndarray) -> torch.Tensor:
        return on(self.device, array)

    def layers(self) -> list[torch.Tensor]:
        """The embeddings and what they become after each spread, [U + I, D] each."""
        out = [self.weight]
        for _ in range(self.config.layers):
            out.append(_Spread.apply(self.adjacency, out[-1]))
        return out

    def epoch(self, rng: np.random.Generator) -> float:
        parts = self._users_parts(rng) if self.config.loss == "full_softmax" else self._edges_parts(rng)
        loss_of = {"softmax": self._softmax, "full_softmax": self._full_softmax, "bpr": self._bpr}[self.config.loss]
        losses = []
        for at, rows in enumerate(parts):
            if self.config.annealing == "cosine":
                passed = (self.done + at / len(parts)) / self.config.epochs
                self.optimiser.param_groups[0]["lr"] = self.config.learning_rate * (1 + math.cos(math.pi * passed)) / 2
            loss = loss_of(rows, torch.stack(self.layers()).mean(dim=0), rng)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            losses.append(float(loss.detach()))
        self.done += 1
        return float(np.mean(losses))

    def _edges_parts(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Interactions in random order, in steps of `batch_size`."""
        order = rng.permutation(len(self.users))
        return np.array_split(order, -(-len(order) // self.config.batch_size))

    def _users_parts(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Users in random order, in steps of at most `batch_size` interactions."""
        people = rng.permutation(np.flatnonzero(self.touched.lengths))
        return [people[part] for part in chunks(self.touched.lengths[people], self.config.batch_size)]

    def _full_softmax(self, people: np.ndarray, final: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Multinomial likelihood of the items of each user (Liang et al., WWW 2018), by cosines, an interaction."""
        final = F.normalize(final, dim=-1)
        places, items = self.touched.take(people)
        rows = Ragged.group(places, items, len(people))
        users, table = final[self._on(people)], final[self.n_users :]
        loss = _FullSoftmax.apply(users, table, rows, self.config.temperature) / len(items)
        return loss + self._penalty_of(people, np.unique(items), len(items))

    def _softmax(self, rows: np.ndarray, final: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Sampled softmax of cosines, corrected for sampling (Wu et al., TOIS 2024), by groups of GROUP edges."""
        final, total = F.normalize(final, dim=-1), torch.zeros((), device=self.device)
        for part in np.array_split(rows, -(-len(rows) // GROUP)):
            negatives = rng.integers(0, self.n_items, self.config.uniform_negatives)
            candidates = np.concatenate([self.items[part], negatives])
            users, items = final[self._on(self.users[part])], final[self._on(candidates + self.n_users)]
            correction = self._on(self.correction[candidates])
            loss = sampled_softmax(users, items, candidates, correction, self.config.temperature)
            total = total + (loss + self._penalty(part, candidates)) * (len(part) / len(rows))
        return total

    def _bpr(self, rows: np.ndarray, final: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """−log σ(positive − negative), one even draw a positive (Rendle et al., UAI 2009)."""
        users, items = self.users[rows], self.items[rows]
        negatives = rng.integers(0, self.n_items, len(rows))
        for _ in range(3):
            clash = self.touched.contains(users, negatives[:, None])[:, 0]
            negatives[clash] = rng.integers(0, self.n_items, int(clash.sum()))
        mine = final[self._on(users)]
        candidates = np.concatenate([items, negatives])
        good, bad = final[self._on(candidates + self.n_users)].chunk(2)
        return F.softplus(((bad - good) * mine).sum(dim=-1)).mean() + self._penalty(rows, candidates)

    def _penalty(self, rows: np.ndarray, candidates: np.ndarray) -> torch.Tensor:
        return self._penalty_of(self.users[rows], candidates, len(rows))

    def _penalty_of(self, users: np.ndarray, items: np.ndarray, edges: int) -> torch.Tensor:
        """Squared norm of the embeddings of the batch before any spread, per edge."""
        if not self.config.l2:
            return torch.zeros((), device=self.device)
        mine = self.weight[self._on(users)]
        theirs = self.weight[self._on(items.astype(np.int64) + self.n_users)]
        return self.config.l2 * (mine.square().sum() + theirs.square().sum()) / (2 * edges)

    def state(self) -> dict:
        return {"weight": self.weight.detach().clone(), "optimiser": self.optimiser.state_dict(), "done": self.done}

    def load(self, state: dict) -> None:
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]

    def export(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(items' final embeddings [I, D], what an item adds to a new neighbour [I, D], users' own part [U, D]).

        A user's final embedding is own + Σ over items of adds / √(number of items): the mean over layers, each of
        which is the neighbours' mean of the layer before.
        """
        with torch.no_grad():
            layers = [layer.cpu() for layer in self.layers()]
            count = len(layers)
            final = (torch.stack(layers).mean(dim=0))[self.n_users :]
            degree = np.maximum(np.bincount(self.items, minlength=self.n_items), 1)
            before = sum(layer[self.n_users :] for layer in layers[:-1]) if count > 1 else torch.zeros_like(final)
            adds = before.numpy() / (count * np.sqrt(degree, dtype=np.float64)[:, None])
            return final.numpy().copy(), adds.astype(np.float32), layers[0][: self.n_users].numpy() / count
