"""Fixtures of the ranking tests."""

import pytest

from recsys_cli.ranking.networks.kinds import SharedBottomConfig
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table


@pytest.fixture(scope="session")
def fitted():
    """A small ranker with an isotonic and affine corrections, and the rows it was validated on."""
    config = SharedBottomConfig(hidden=[32, 16], epochs=6, min_steps=0, batch_size=256, dropout=0.1, learning_rate=5e-3)
    valid = make_table(1500, seed=1)
    return fit_heavy(config, make_table(4000), valid, seed=3), valid
