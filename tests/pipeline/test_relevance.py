"""Relevance multiplies the utility and always pushes the unlikely down."""

import numpy as np

from recsys_cli.pipeline.config import HeavyStageConfig, UtilityConfig
from recsys_cli.pipeline.scoring import Utility


def utilities(make, power):
    query = make.query(make.state(make.catalogue([0, 0, 0])), [0])
    candidates = make.candidates(
        [[0, 1, 2]], p_like=[[0.5, 0.5, 0.0]], p_hide=[[0.0, 0.0, 0.1]], relevance=[[0.04, 0.64, 0.25]]
    )
    stage = Utility(UtilityConfig(relevance=power), HeavyStageConfig())
    out = stage(query, candidates)
    return dict(zip(out.items[0].tolist(), out.scores["utility"][0].tolist(), strict=True))


def test_the_utility_is_multiplied_by_a_power_of_relevance(make):
    value = utilities(make, 0.5)
    np.testing.assert_allclose([value[0], value[1]], [0.5 * 0.2, 0.5 * 0.8], rtol=1e-5)
    np.testing.assert_allclose(value[2], -0.5 / 0.5, rtol=1e-5)


def test_power_zero_leaves_the_actions_alone(make):
    value = utilities(make, 0)
    np.testing.assert_allclose([value[0], value[1], value[2]], [0.5, 0.5, -0.5], rtol=1e-5)
