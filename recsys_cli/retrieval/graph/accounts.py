"""Accounts to follow: how probably a user takes up an account, from who follows whom and who engages with whom.

The weights of the evidence are learned from the graph itself: a random fifth of the follows of some users is hidden,
and a logistic regression tells these from accounts that nobody hid (link prediction: Liben-Nowell and Kleinberg,
CIKM 2003; the ties are those of RealGraph: Kamath et al., KDD workshop UEO 2014).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.graph.simclusters import SimClusters, SimClustersConfig

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from recsys_cli.data.state import State

HIDDEN = 0.2
"""Share of the follows that is hidden to learn from."""
LEARNERS, OTHERS = 1000, 40
"""Users whose follows are learned from at most, and accounts drawn a user that stand for those not taken up."""
CELLS_AT_ONCE = 4_000_000
EVIDENCE = ("circle", "circle_evenly", "alike", "follows_back", "shared", "interactions", "known_for", "followers")
"""What speaks for an account z: `circle`, accounts followed that follow it, each over √(follows of it × followers of
z), and `circle_evenly`, how many; `alike`, accounts followed whose followers also follow z, by cosine; `follows_back`;
`shared`, accounts that both follow, by cosine; `interactions`, decayed, with its items; `known_for`, how
much it stands for the communities that the user is interested in (SimClusters); `followers`. Counts are logarithmic."""
MUTUAL = 0.9
"""Share of follows that are returned from which on they are friendships: no way tells anything of the other."""


class Graph(NamedTuple):
    """Who follows whom, as matrices of zeros and ones."""

    follows: csr_matrix
    """[users, accounts]"""
    onward: csr_matrix
    """[accounts, accounts] whom the user behind each account follows"""
    ties: csr_matrix
    """[users, accounts] decayed interactions"""
    user_of: np.ndarray
    """int64[accounts] user behind each account, -1 none"""
    account_of: np.ndarray
    """int64[users] account of each user, -1 none"""
    known_for: csr_matrix
    """[accounts, communities] rows of length 1"""

    @classmethod
    def of(cls, state: State, follows: Ragged | None = None, seed: int = 0) -> Graph:
        """follows: in place of the state's. seed: of the communities."""
        from scipy.sparse import csr_matrix, diags

        catalogue = state.catalogue
        held = state.follows if follows is None else follows
        shape = (catalogue.n_users, catalogue.n_authors)
        matrix = csr_matrix((np.ones(len(held.values)), held.values, held.offsets), shape=shape)
        ties = csr_matrix(
            (np.log1p(state.tie_strength.values), state.ties.values, state.ties.offsets), shape=shape
        )
        user_of = catalogue.author_user.astype(np.int64)
        account_of = np.full(catalogue.n_users, -1, np.int64)
        known = np.flatnonzero(user_of >= 0)
        account_of[user_of[known]] = known
        onward = diags((user_of >= 0).astype(float)) @ matrix[np.maximum(user_of, 0)]
        return cls(matrix, onward.tocsr(), ties, user_of, account_of, _known_for(state, held, seed))

    def evidence(self, users: np.ndarray) -> np.ndarray:
        """float32[EVIDENCE, B, accounts] of users int32[B]."""
        from scipy.sparse import diags

        mine = self.follows[users]
        followers = np.asarray(self.follows.sum(axis=0)).ravel()
        onward = np.asarray(self.onward.sum(axis=1)).ravel()
        followed = np.asarray(self.follows.sum(axis=1)).ravel()
        less = 1 / np.sqrt(np.maximum(followers, 1))
        out = np.zeros((len(EVIDENCE), len(users), self.follows.shape[1]), np.float32)
        circle = mine @ diags(1 / np.sqrt(np.maximum(onward, 1))) @ self.onward
        out[0] = (circle @ diags(less)).toarray()
        out[1] = np.log1p((mine @ self.onward).toarray())
        # people who follow what a user follows, by how little they follow besides, and what else they follow
        peers = (mine @ diags(less)) @ self.follows.T @ diags(1 / np.sqrt(np.maximum(followed, 1)))
        out[2] = (peers @ self.follows @ diags(less)).toarray()
        own = self.account_of[users]
        fans = self.onward.T.tocsr()[np.maximum(own, 0)].toarray() * (own >= 0)[:, None]
        out[3] = fans
        shared = (mine @ self.onward.T).toarray()
        size = np.sqrt(np.maximum(np.asarray(mine.sum(axis=1)), 1) * np.maximum(onward, 1)[None, :])
        out[4] = shared / size
        out[5] = self.ties[users].toarray()
        interest = (mine @ self.known_for).toarray()
        interest /= np.maximum(np.linalg.norm(interest, axis=1, keepdims=True), 1e-12)
        out[6] = (self.known_for @ interest.T).T
        out[7] = np.log1p(followers)
        return out

    def open(self, users: np.ndarray) -> np.ndarray:
        """bool[B, accounts]: accounts that a user neither follows nor is."""
        out = self.follows[users].toarray() == 0
        own = self.account_of[users]
        row = np.flatnonzero(own >= 0)
        out[row, own[row]] = False
        return out


@dataclass(frozen=True)
class AccountModel:
    """score(u, z) = weights · standardised evidence."""

    graph: Graph
    weights: np.ndarray
    """float64[EVIDENCE] of the raw evidence"""

    @classmethod
    def fit(cls, state: State, seed: int = 0, follows: Ragged | None = None) -> AccountModel:
        """Learn the weights from hidden follows, and use them with all. Where there is too little to learn from, each
        piece of evidence weighs the same.

        follows: the graph, in place of the state's.
        """
        from recsys_cli.ranking.logistic import fit_logistic

        rng = np.random.default_rng(seed)
        held = state.follows if follows is None else follows
        whole = Graph.of(state, held, seed)
        kept, hidden = hide(held, whole, HIDDEN, rng)
        graph = Graph.of(state, kept, seed)
        learners = np.unique(hidden[0])
        learners = np.sort(rng.permutation(learners)[:LEARNERS])
        rows, labels = [], []
        for users in batches(learners, whole.follows.shape[1]):
            evidence, free = graph.evidence(users), graph.open(users) & whole.open(users)
            place = np.searchsorted(users, hidden[0])
            mine = (place < len(users)) & (users[np.minimum(place, len(users) - 1)] == hidden[0])
            rows.append(evidence[:, place[mine], hidden[1][mine]].T)
            labels.append(np.ones(int(mine.sum())))
            # half of what is not taken up is drawn evenly, half from what has some evidence
            near = free & ((evidence[0] > 0) | (evidence[2] > 0) | (evidence[5] > 0))
            for mask in (free, near):
                draw = rng.random(mask.shape) * mask
                column = np.argsort(-draw, axis=1)[:, : OTHERS // 2]
                at = np.repeat(np.arange(len(users)), column.shape[1]), column.ravel()
                real = mask[at]
                rows.append(evidence[:, at[0][real], at[1][real]].T)
                labels.append(np.zeros(int(real.sum())))
        x, y = (np.concatenate(parts) if parts else np.zeros((0, len(EVIDENCE))) for parts in (rows, labels))
        if len(y) < 100 or y.sum() < 20:
            return cls(whole, np.ones(len(EVIDENCE)))
        mean, sd = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
        design = np.column_stack([(x - mean) / sd, np.ones(len(x))])
        penalty = np.append(np.full(len(EVIDENCE), 1.0), 0.0)
        return cls(whole, fit_logistic(design, y, penalty=penalty)[:-1] / sd)

    def best(self, users: np.ndarray, k: int, leave_out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Accounts int32[B, k], best first, -1 filling, and their scores float32[B, k].

        leave_out: bool[B, accounts] not to be proposed.
        """
        users = np.asarray(users)
        n = self.graph.follows.shape[1]
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        for start, part in _places(users, n):
            score = np.einsum("f,fba->ba", self.weights, self.graph.evidence(part))
            free = self.graph.open(part)
            if leave_out is not None:
                free &= ~leave_out[start : start + len(part)]
            items[start : start + len(part)], scores[start : start + len(part)] = top(score, free, k)
        return items, scores


def top(score: np.ndarray, free: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best columns of each row where `free`: int32[B, k], -1 filling, and float32[B, k]."""
    score = np.where(free, score, -np.inf)
    order = np.argsort(-score, axis=1, kind="stable")[:, :k]
    value = np.take_along_axis(score, order, axis=1).astype(np.float32)
    items = np.where(np.isfinite(value), order, -1).astype(np.int32)
    pad = ((0, 0), (0, k - items.shape[1]))
    return np.pad(items, pad, constant_values=-1), np.pad(value, pad, constant_values=-np.inf)


def hide(
    follows: Ragged, graph: Graph, share: float, rng: np.random.Generator
) -> tuple[Ragged, tuple[np.ndarray, np.ndarray]]:
    """Follows without a random share of them, and the hidden ones as (user, account), ordered by user.

    Where nearly all follows are returned (`MUTUAL`), two people who follow each other are one pair, hidden or kept as
    one: else either way would tell the other.
    """
    user, account = follows.rows.astype(np.int64), follows.values.astype(np.int64)
    other, n = graph.user_of[account], graph.follows.shape[0]
    low, high = np.minimum(user, other), np.maximum(user, other)
    key = np.where(other >= 0, low * n + high, -1 - np.arange(len(user)))
    pairs, at, count = np.unique(key, return_inverse=True, return_counts=True)
    friendships = (count[at] > 1).mean() >= MUTUAL
    gone = (rng.random(len(pairs)) < share)[at] if friendships else rng.random(len(user)) < share
    kept = Ragged.group(user[~gone], follows.values[~gone], len(follows))
    return kept, (user[gone], account[gone])


def _known_for(state: State, follows: Ragged, seed: int) -> csr_matrix:
    """[accounts, communities] what each account is known for, rows of length 1."""
    from scipy.sparse import csr_matrix

    n = state.catalogue.n_authors
    if not len(follows.values):
        return csr_matrix((n, 1))
    fitted = SimClusters(SimClustersConfig(graph="follows"))
    log = Log(*(np.zeros(0, kind) for kind in (np.int32, np.int32, np.int64)), {}, (), ())
    fitted.fit(Window(None, state.catalogue, log, state.now, replace(state, follows=follows), seed), Progress())
    ids, weights = fitted.known_for
    row, column = np.nonzero(ids >= 0)
    weight = weights[row, column].astype(np.float64)
    length = np.sqrt(np.bincount(row, weights=weight**2, minlength=n))
    return csr_matrix((weight / np.maximum(length[row], 1e-12), (row, ids[row, column])), shape=(n, fitted.count or 1))


def batches(users: np.ndarray, accounts: int) -> list[np.ndarray]:
    """Users in parts that keep the evidence in bounded memory."""
    return [part for _, part in _places(users, accounts)]


def _places(users: np.ndarray, accounts: int) -> list[tuple[int, np.ndarray]]:
    step = max(1, CELLS_AT_ONCE // max(accounts * len(EVIDENCE), 1))
    return [(start, users[start : start + step]) for start in range(0, len(users), step)]
