"""A tiny world, generated and trained once by real processes, for the tests that use it as a person would."""

from __future__ import annotations

import pytest
from place import Place

TINY = (
    "world:\n  users: 150\n  items: 1500\n  days: 10\n"
    "retrieval:\n  two_tower: {epochs: 2, dim: 32}\n  als: {dim: 16, epochs: 3}\n"
    "ranking:\n  choose: heavy\n  heavy: {kind: shared_bottom, epochs: 3, hidden: [32]}\n"
    "tuning: {budget_seconds: 2}\n"
    "evaluation: {resamples: 100}\n"
)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> Place:
    """Generated, not trained."""
    place = Place(tmp_path_factory.mktemp("loop"))
    (place.folder / "tiny.yaml").write_text(TINY)
    place.ok("generate-data")
    return place


@pytest.fixture(scope="session")
def trained(world, tmp_path_factory) -> Place:
    """Generated and trained."""
    place = world.copy(tmp_path_factory.mktemp("trained") / "place")
    place.ok("train", "--quiet")
    return place
