"""A slate takes no more memory than the catalogue, however long it is asked to be."""

import numpy as np

from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle


def test_a_slate_is_no_longer_than_the_catalogue():
    settings = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    engine = RecommendationEngine(planted_bundle(), PipelineConfig.model_validate({"sourcing": settings}))
    n_items = engine.state.catalogue.n_items
    longest = engine.slates(np.arange(3, dtype=np.int32), 10**9).items
    assert longest.shape == (3, n_items)
    assert np.array_equal(longest, engine.slates(np.arange(3, dtype=np.int32), n_items).items)
