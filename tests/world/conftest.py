from __future__ import annotations

import pytest

from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate

SMALL = WorldConfig(users=160, items=900, days=5, impressions_per_user=60, horizon_days=3)


@pytest.fixture(scope="session")
def small_config():
    return SMALL


@pytest.fixture(scope="session")
def small_world(tmp_path_factory):
    """Folder of a small generated dataset with its truth."""
    path = tmp_path_factory.mktemp("world") / "small"
    generate(SMALL, 7, path, threads=2)
    return path


@pytest.fixture(scope="session")
def default_world(tmp_path_factory):
    """Folder of the world that `generate-data` makes without further ado, its manifest and interactions."""
    path = tmp_path_factory.mktemp("world") / "default"
    return path, generate(WorldConfig(), 42, path, threads=2)
