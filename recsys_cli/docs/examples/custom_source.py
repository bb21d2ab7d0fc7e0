"""A candidate source of your own, measured against popularity on the test window.

    python custom_source.py data/world

The class is the one of the page "add a source": there it becomes part of the program.
"""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.state import State
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.evaluation.ranking_metrics import accuracy
from recsys_cli.evaluation.truth import find_truth
from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.topk import topk


class LoyalConfig(RetrieverConfig):
    """Items by the authors whom the user turned to most."""

    kind: Literal["loyal"] = "loyal"


class Loyal(Retriever):
    """score = decayed interactions of the user with the author of the item."""

    config_type = LoyalConfig

    def missing(self, window):
        return None if (window.catalogue.item_author >= 0).any() else "needs items with authors"

    def retrieve(self, state, users, k):
        scores = self.score(state, users, np.tile(np.arange(state.catalogue.n_items), (len(users), 1)))
        scores[:, ~eligible(state, self.config.max_age_days)] = -np.inf
        scores[scores == 0] = -np.inf
        return topk(scores, k, state.seen.take(users) if self.config.exclude_seen else None)

    def score(self, state, users, items):
        strength = np.zeros((len(users), state.catalogue.n_authors + 1), np.float32)  # last column: no author
        row, at = state.ties.take(users)
        strength[row, at] = state.tie_strength.take(users)[1]
        author = np.where(items >= 0, state.catalogue.item_author[items], -1)
        return np.take_along_axis(strength, author, axis=1)

    def explain(self, state, user, items):
        return [Reason("tie", int(author)) for author in state.catalogue.item_author[items]]


def main(data: str) -> None:
    """Recall and NDCG of both sources at 10, with 95 % intervals over users."""
    dataset = Dataset.open(data)
    split = make_split(WindowsConfig(), dataset, seed=42)
    start, end = split.windows.test_start, split.windows.end
    state = State.build(dataset.catalogue, split.log, start, dataset.edges("follows"), dataset.edges("blocks"))
    truth = find_truth(split.log, state, start, end, never_again=True)
    for source in (Loyal(LoyalConfig()), Popularity(PopularityConfig())):
        figures = accuracy(source.retrieve(state, truth.users, 10)[0], truth.relevant, [10])
        for name in ("recall@10", "ndcg@10"):
            mean, low, high = bootstrap_means(figures[name][:, None])
            print(f"{source.config.kind:<12} {name:<10} {mean[0]:.4f} ({low[0]:.4f} to {high[0]:.4f})")


if __name__ == "__main__":
    main(*sys.argv[1:])
