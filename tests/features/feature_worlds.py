"""The small worlds of the toolkit's contracts, as tests of single functions take them."""

from __future__ import annotations

from dataclasses import replace

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.features.define import spec_of
from recsys_cli.features.registry import all_families
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.testing.small_world import CONFIG, small_world


def make_world(seed: int, n: int = 120) -> tuple[FeatureSpec, Catalogue, Log, dict]:
    """A small world without a time before its log, and its features."""
    world = small_world(seed, n)
    config = CONFIG.model_copy(update={"before_taste_dims": 64})
    world = replace(world, catalogue=replace(world.catalogue, before={}), config=config)
    return spec_of(world.facts, all_families().values()), world.catalogue, world.log, world.edges


def with_before(seed: int, base: str = "watch") -> tuple[FeatureSpec, Catalogue, Log]:
    """A small world with a time before its log, whose base action is of the given name."""
    world = small_world(seed)
    before = {base if action == "watch" else action: rows for action, rows in world.catalogue.before.items()}
    config = CONFIG.model_copy(update={"before_taste_dims": 64})
    world = replace(world, catalogue=replace(world.catalogue, before=before), config=config)
    return spec_of(replace(world).facts, all_families().values()), world.catalogue, world.log
