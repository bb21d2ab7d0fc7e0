"""A factor for what comes from authors whom the user does not follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.rescale import Rescaler
from recsys_cli.pipeline.stage import StageConfig

if TYPE_CHECKING:
    from recsys_cli.pipeline.bundle import Bundle


class OutOfNetworkConfig(StageConfig):
    """The utility of items whose author the user does not follow is multiplied."""

    kind: Literal["out_of_network"] = "out_of_network"
    factor: Annotated[float, Field(ge=0, le=10)] = 0.75
    """What it is multiplied by, as X publishes it; 1 changes nothing."""


class OutOfNetwork(Rescaler):
    """Lowers what is out of network (twitter/the-algorithm: out-of-network scale factor). Items without an author, and
    the items of somebody who follows nobody, stay as they are."""

    config_type = OutOfNetworkConfig
    config: OutOfNetworkConfig

    def prepare(self, bundle: Bundle) -> str | None:
        return None if len(bundle.state.follows.values) else "needs follows"

    def enabled(self, query: Query) -> bool:
        return self.config.factor != 1

    def factors(self, query: Query, candidates: Candidates) -> np.ndarray:
        outside = (in_network(query, candidates) == 0) & follows_somebody(query)[:, None]
        return np.where(outside, np.float32(self.config.factor), np.float32(1))


def in_network(query: Query, candidates: Candidates) -> np.ndarray:
    """int32[B, K]: 1 where the user follows the author, 0 where not, -1 where there is no author."""
    author = np.where(candidates.filled, query.state.catalogue.item_author[candidates.items], -1)
    followed = query.state.follows.contains(query.users, author)
    return np.where(author >= 0, followed.astype(np.int32), np.int32(-1))


def follows_somebody(query: Query) -> np.ndarray:
    """bool[B]"""
    return (query.users >= 0) & (query.state.follows.lengths[np.maximum(query.users, 0)] > 0)
