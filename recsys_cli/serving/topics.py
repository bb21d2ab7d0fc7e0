"""Topics that a request asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from recsys_cli.serving.live import Live
    from recsys_cli.serving.pooling import Pool


def other_topics(live: Live, pool: Pool, topics: list[str]) -> np.ndarray:
    """Items of a pool that have none of the topics; raises UsageError for a topic that the data do not have."""
    catalogue = live.engine.state.catalogue
    names = catalogue.names.get("topics", [])
    for topic in topics:
        if topic not in names:
            raise UsageError(f"no item has the topic {topic!r}", did_you_mean(topic, names, None))
    wanted = np.array([names.index(topic) for topic in topics])
    candidates = np.unique(np.concatenate([pool.items, live.way().everybody(()).items]))
    places, held = catalogue.item_topics.take(candidates)
    has = np.bincount(places, np.isin(held, wanted), minlength=len(candidates)) > 0
    return candidates[~has].astype(np.int32)

