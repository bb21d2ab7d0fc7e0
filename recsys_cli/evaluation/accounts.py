"""How well accounts to follow are foretold: a random fifth of the follows is hidden, and found again or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError
from recsys_cli.evaluation.ranking_metrics import hits, ndcg, recall
from recsys_cli.retrieval.graph.accounts import EVIDENCE, AccountModel, Graph, batches, hide, top

if TYPE_CHECKING:
    from recsys_cli.data.state import State

MODEL, MOST_FOLLOWED, TWO_HOP = "model", "most followed", "two-hop counts"
K = 10
RESAMPLES = 1000


@dataclass(frozen=True)
class AccountFigures:
    """Figures of one way to propose accounts, means over users with a hidden follow."""

    name: str
    ndcg: float
    recall: float
    ndcg_gain: float | None
    """of the model over this one; None for the model itself"""
    low: float | None
    """95 % interval of that gain, bootstrap over users"""
    high: float | None


@dataclass(frozen=True)
class AccountEvaluation:
    """What came of hiding follows."""

    users: int
    hidden: int
    share: float
    weights: dict[str, float]
    figures: list[AccountFigures]

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def evaluate_accounts(state: State, share: float = 0.2, seed: int = 0) -> AccountEvaluation:
    """Hide a share of the pairs who follow one another, fit on the rest, and measure; raises DataError where the data
    has too few follows."""
    if len(state.follows.values) < 50:
        raise DataError("the data has too few follows to hide some of them", "accounts need at least 50 follows")
    rng = np.random.default_rng(seed)
    kept, hidden = hide(state.follows, Graph.of(state), share, rng)
    model = AccountModel.fit(state, seed, kept)
    users = np.unique(hidden[0]).astype(np.int32)
    relevant = Ragged.group(np.searchsorted(users, hidden[0]), hidden[1].astype(np.int32), len(users)).sorted_rows()
    lists = {MODEL: model.best(users, K)[0], MOST_FOLLOWED: [], TWO_HOP: []}
    place = {name: EVIDENCE.index(name) for name in ("followers", "circle_evenly")}
    for part in batches(users, model.graph.follows.shape[1]):
        evidence, free = model.graph.evidence(part), model.graph.open(part)
        popular = evidence[place["followers"]]
        # of as many ways, the more followed comes first
        ways = evidence[place["circle_evenly"]] + 1e-6 * popular
        lists[MOST_FOLLOWED].append(top(popular, free, K)[0])
        lists[TWO_HOP].append(top(ways, free, K)[0])
    values = {}
    for name, items in lists.items():
        hit = hits(np.concatenate(items) if isinstance(items, list) else items, relevant)
        values[name] = ndcg(hit, relevant.lengths, K), recall(hit, relevant.lengths, K)
    picks = rng.integers(0, len(users), (RESAMPLES, len(users)))
    figures = []
    for name, (gain, found) in values.items():
        more = values[MODEL][0] - gain
        low, high = np.quantile(more[picks].mean(axis=1), [0.025, 0.975])
        told = (None, None, None) if name == MODEL else (float(more.mean()), float(low), float(high))
        figures.append(AccountFigures(name, float(gain.mean()), float(found.mean()), *told))
    weights = dict(zip(EVIDENCE, model.weights.tolist(), strict=True))
    return AccountEvaluation(len(users), len(hidden[0]), share, weights, figures)
