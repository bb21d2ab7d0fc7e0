"""LightGCN in torch: embeddings spread over the user–item graph, trained end to end."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from recsys_cli.data.ragged import Ragged
from recsys_cli.retrieval.towers import log_q, sampled_softmax

if TYPE_CHECKING:
    from recsys_cli.retrieval.lightgcn import LightGcnConfig

GROUP = 512
"""Interactions of a step are softmaxed in groups of so many, which share their negatives."""


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


class LightGcnTrainer:
    """users, items: int64[m] distinct edges."""

    def __init__(
        self, config: LightGcnConfig, seed: int, users: np.ndarray, items: np.ndarray, n_users: int, n_items: int
    ):
        self.config, self.users, self.items, self.n_users, self.n_items = config, users, items, n_users, n_items
        self.adjacency = adjacency(users, items, n_users, n_items)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.weight = (torch.randn(n_users + n_items, config.dim) * 0.1).requires_grad_()
        self.optimiser = torch.optim.Adam([self.weight], lr=config.learning_rate)
        self.touched = Ragged.group(users, items, n_users).sorted_rows()
        self.correction = torch.from_numpy(
            log_q(np.bincount(items, minlength=n_items), min(GROUP, len(users)), config.uniform_negatives)
        )

    def layers(self) -> list[torch.Tensor]:
        """The embeddings and what they become after each spread, [U + I, D] each."""
        out = [self.weight]
        for _ in range(self.config.layers):
            out.append(_Spread.apply(self.adjacency, out[-1]))
        return out

    def epoch(self, rng: np.random.Generator) -> float:
        order = rng.permutation(len(self.users))
        parts = np.array_split(order, -(-len(order) // self.config.batch_size))
        loss_of = self._softmax if self.config.loss == "softmax" else self._bpr
        losses = []
        for rows in parts:
            loss = loss_of(rows, torch.stack(self.layers()).mean(dim=0), rng)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _softmax(self, rows: np.ndarray, final: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """Sampled softmax of cosines, corrected for sampling (Wu et al., TOIS 2024), by groups of GROUP edges."""
        final, total = F.normalize(final, dim=-1), torch.zeros(())
        for part in np.array_split(rows, -(-len(rows) // GROUP)):
            negatives = rng.integers(0, self.n_items, self.config.uniform_negatives)
            candidates = torch.from_numpy(np.concatenate([self.items[part], negatives]))
            users, items = final[torch.from_numpy(self.users[part])], final[candidates + self.n_users]
            loss = sampled_softmax(users, items, candidates, self.correction[candidates], self.config.temperature)
            total = total + (loss + self._penalty(part, candidates)) * (len(part) / len(rows))
        return total

    def _bpr(self, rows: np.ndarray, final: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        """−log σ(positive − negative), one even draw a positive (Rendle et al., UAI 2009)."""
        users, items = self.users[rows], self.items[rows]
        negatives = rng.integers(0, self.n_items, len(rows))
        for _ in range(3):
            clash = self.touched.contains(users, negatives[:, None])[:, 0]
            negatives[clash] = rng.integers(0, self.n_items, int(clash.sum()))
        mine = final[torch.from_numpy(users)]
        candidates = torch.from_numpy(np.concatenate([items, negatives]))
        good, bad = final[candidates + self.n_users].chunk(2)
        return F.softplus(((bad - good) * mine).sum(dim=-1)).mean() + self._penalty(rows, candidates)

    def _penalty(self, rows: np.ndarray, candidates: torch.Tensor) -> torch.Tensor:
        """Squared norm of the embeddings of the batch before any spread, per edge."""
        if not self.config.regularisation:
            return torch.zeros(())
        users = self.weight[torch.from_numpy(self.users[rows])]
        items = self.weight[candidates + self.n_users]
        return self.config.regularisation * (users.square().sum() + items.square().sum()) / (2 * len(rows))

    def state(self) -> dict:
        return {"weight": self.weight.detach().clone(), "optimiser": self.optimiser.state_dict()}

    def load(self, state: dict) -> None:
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimiser.load_state_dict(state["optimiser"])

    def export(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(items' final embeddings [I, D], what an item adds to a new neighbour [I, D], users' own part [U, D]).

        A user's final embedding is own + Σ over items of adds / √(number of items): the mean over layers, each of
        which is the neighbours' mean of the layer before.
        """
        with torch.no_grad():
            layers = self.layers()
            count = len(layers)
            final = (torch.stack(layers).mean(dim=0))[self.n_users :]
            degree = np.maximum(np.bincount(self.items, minlength=self.n_items), 1)
            before = sum(layer[self.n_users :] for layer in layers[:-1]) if count > 1 else torch.zeros_like(final)
            adds = before.numpy() / (count * np.sqrt(degree, dtype=np.float64)[:, None])
            return final.numpy().copy(), adds.astype(np.float32), layers[0][: self.n_users].numpy() / count
