"""A metric that the report does not have, on the slates that the run in use would have served.

    python custom_metric.py artifacts data/world

How much of a slate goes to small authors: those with fewer followers than half of all authors have.
"""

from __future__ import annotations

import sys

import numpy as np

from recsys_cli import RecommendationEngine
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import split_again
from recsys_cli.evaluation.intervals import bootstrap_means


def small_author_share(recommended: np.ndarray, author: np.ndarray, followers: np.ndarray) -> np.ndarray:
    """Share of a list by authors with fewer followers than the median author, float64[B]; NaN for an empty list.

    recommended: int32[B, K], -1 in empty slots. author: int32[n_items]. followers: int[n_authors].
    """
    small = followers < np.median(followers)
    filled = recommended >= 0
    counted = np.where(filled, small[author[recommended]], False).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return counted / filled.sum(axis=1)


def main(artifacts: str, data: str) -> None:
    """The figure over everybody, as of the start of the test window."""
    dataset = Dataset.open(data)
    engine = RecommendationEngine.load(artifacts, measured=True)  # the half that knows nothing of the test window
    split = split_again(engine.manifest.windows, dataset)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = engine.as_of(split.log, split.windows.test_start, **edges)
    people = np.arange(past.state.catalogue.n_users, dtype=np.int32)
    slates = past.slates(people).items
    share = small_author_share(slates, past.state.catalogue.item_author, past.state.author_followers)
    mean, low, high = bootstrap_means(share[:, None])
    print(f"share of small authors: {mean[0]:.3f} ({low[0]:.3f} to {high[0]:.3f}), {len(people)} people")


if __name__ == "__main__":
    main(*sys.argv[1:])
