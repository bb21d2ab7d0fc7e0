"""A bundle of the planted world, fitted in a moment: two sources, no ranker."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.pipeline.bundle import Bundle, Labels
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.testing.planted_world import NOW, make_window, planted

PLANTED_SOURCES = ("item_neighbours", "popularity")


def planted_bundle() -> Bundle:
    """As of the end of the planted log; ids are positions."""
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, NOW, follows)
    sources = {}
    for kind in PLANTED_SOURCES:
        sources[kind] = SOURCES[kind](SOURCES[kind].config_type())
        sources[kind].fit(window, Progress())
    spec = FeatureSpec(FeatureConfig(), (), log.positive_actions, log.negative_actions, 0, 0)
    return Bundle(
        user_ids=Vocabulary(np.arange(catalogue.n_users)),
        item_ids=Vocabulary(np.arange(catalogue.n_items)),
        author_ids=Vocabulary(np.arange(catalogue.n_authors)),
        catalogue=catalogue,
        state=State.build(catalogue, log, NOW, follows),
        spec=spec,
        snapshot=Snapshot.build(spec, catalogue, log, NOW, follows),
        retrievers=sources,
        configured=PLANTED_SOURCES,
        light=None,
        heavy=None,
        negative_actions=log.negative_actions,
        labels=Labels(np.zeros(catalogue.n_items + 1, np.int64), np.zeros(0, np.uint8)),
        candidates=60,
    )
