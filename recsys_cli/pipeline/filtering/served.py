"""What the requests before have brought."""

from __future__ import annotations

from typing import Literal

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, StageConfig


class ServedConfig(StageConfig):
    """Leaves out what a request names as served before (`--served`), as of the page before, whether or not it was
    seen: only impressions of the log count as seen."""

    kind: Literal["served"] = "served"


class Served(Filter):
    """Leaves out the items that the request names as served."""

    config_type = ServedConfig
    config: ServedConfig
    asks = ("served",)

    def enabled(self, query: Query) -> bool:
        return query.served is not None and len(query.served) > 0

    def keep(self, query: Query, candidates: Candidates) -> np.ndarray:
        served = query.served
        if served is None or not len(served):
            return candidates.filled
        return served[np.minimum(np.searchsorted(served, candidates.items), len(served) - 1)] != candidates.items
