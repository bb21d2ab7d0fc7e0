"""Every family keeps the contract, families that are wrong do not, and one of another package joins the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from replayed import replayed
from weekend import Weekend, weekend

from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.features import registry
from recsys_cli.features.build import build_table
from recsys_cli.features.define import spec_of
from recsys_cli.features.families import FAMILIES
from recsys_cli.features.families.clock import Clock
from recsys_cli.features.family import FeatureFamily
from recsys_cli.features.readings import reading
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import Feature, FeatureSpec
from recsys_cli.testing import check_feature_family
from recsys_cli.testing.small_world import small_world

HERE = Path(__file__).parent


OFF = ("semantic_codes",)
"""Off by default, proved in a file of their own."""


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.name not in OFF], ids=lambda family: family.name)
def test_as_of_served_and_replayed_are_the_same(family):
    check_feature_family(family, replayed=replayed)


class Wrong(FeatureFamily):
    """Counts a user's impressions; each of its children is wrong in one way."""

    name = "wrong"
    place = "user"

    def define(self, facts):
        yield Feature("wrong_count", "user", self.place, "shown", "impressions of the user", "ln(1 + impressions)")

    def compute(self, features, rows):
        yield "wrong_count", self.count(rows)

    def count(self, rows):
        return np.log1p(rows.view("user").shown())


class KnowsTheFuture(Wrong):
    def count(self, rows):
        return np.bincount(rows.past.log.user, minlength=rows.past.catalogue.n_users + 1)[rows.user]


class KnowsItsMoment(Wrong):
    def count(self, rows):
        return rows.past.history("user").view(rows.user.astype(np.int64), rows.time + 1).sum(rows.column("click"))


class LooksAtItsNeighbours(Wrong):
    def count(self, rows):
        return super().count(rows) / len(rows)


class ServesNothing(Wrong):
    place = "pair"


class ServesOtherwise(Wrong):
    place = "context"

    def serve(self, features, request, held):
        yield "wrong_count", np.float32(0.5)


class IsInfinite(Wrong):
    def count(self, rows):
        return np.full(len(rows), np.inf)


class Writes(Wrong):
    def count(self, rows):
        rows.past.log.actions["click"][:1] ^= True
        return super().count(rows) * 0


class SaysNothing(Wrong):
    def define(self, facts):
        return [replace(f, meaning="") for f in super().define(facts)]


class DefinesNothing(Wrong):
    def define(self, facts):
        return []


@pytest.mark.parametrize(
    ("family", "says"),
    [
        (KnowsTheFuture, "changes when the log ends before row"),
        (KnowsItsMoment, "changes w(hen the log ends before row|ith what happens at the same moment)"),
        (LooksAtItsNeighbours, "changes w(hen the log ends before row|ith the rows beside it)"),
        (ServesNothing, "and as served then differ"),
        (ServesOtherwise, "and as served then differ"),
        (IsInfinite, "not finite"),
        (Writes, "writes into the catalogue or the log"),
        (SaysNothing, "meaning, formula or measure is empty"),
        (DefinesNothing, "defines no feature"),
    ],
)
def test_a_family_that_is_wrong_does_not_pass(family, says):
    check_feature_family(Wrong())
    with pytest.raises(AssertionError, match=says):
        check_feature_family(family())


def test_a_family_may_be_checked_in_place_of_one_of_its_name():
    class AlwaysNoon(Clock):
        def serve(self, features, request, held):
            yield from ((f.name, np.float32(0)) for f in features)

    check_feature_family(Clock())
    with pytest.raises(AssertionError, match="family 'clock', hour_sine: as of row"):
        check_feature_family(AlwaysNoon())
    assert registry.family_of("clock") in FAMILIES


def test_a_value_by_other_means_is_compared():
    with pytest.raises(AssertionError, match="is not what it is by other means"):
        check_feature_family(Wrong(), replayed=lambda world, spec, feature, row: -1.0)


def weekend_by_hand(world, spec, feature, row) -> float:
    log, day = world.log, lambda t: (int(t) // 86_400_000_000 + 3) % 7
    if feature.measure == "now":
        return day(log.time[row]) >= 5
    mine = [t for u, t in zip(log.user, log.time, strict=True) if u == log.user[row] and t < log.time[row]]
    return (sum(day(t) >= 5 for t in mine) + 2) / (len(mine) + 7)


def test_the_worked_example_keeps_the_contract():
    assert weekend(np.array([0, 1, 2, 3, 4]) * 86_400_000_000).tolist() == [False, False, True, True, False]
    check_feature_family(Weekend(), replayed=weekend_by_hand)
    assert "weekend" not in registry.all_families()


def test_the_page_shows_the_worked_example():
    page = resources.files("recsys_cli").joinpath("docs/add-a-feature.md").read_text(encoding="utf-8")
    example = (HERE / "weekend.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in page and len(example.splitlines()) < 40


def test_a_registered_family_gets_columns_behind_the_others():
    world = small_world(3)
    before = spec_of(world.facts, FAMILIES)
    with registry.registered(Weekend()):
        spec = spec_of(world.facts, registry.all_families().values())
        values = build_table(spec, world.catalogue, world.log).values[:, spec.column["is_weekend"]]
        with pytest.raises(ConfigError, match="there is a feature family 'weekend' already"):
            registry.register(Weekend())
    assert [n for n in spec.names if "weekend" not in n] == list(before.names)
    assert [f.family for f in spec.features if "weekend" in f.name] == ["weekend", "weekend"]
    np.testing.assert_array_equal(values, weekend(world.log.time))
    share = spec.features[spec.column["user_weekend_share"]]
    assert reading(share, 0.25) == "25.0 %"
    with pytest.raises(ArtifactError, match="family 'weekend', which is not there"):
        registry.family_of("weekend")


def test_two_features_of_one_name_are_refused():
    world = small_world(3)

    class Twin(Weekend):
        name = "twin"

    with pytest.raises(ConfigError, match="two features are named 'is_weekend', of weekend and twin"):
        spec_of(world.facts, [Weekend(), Twin()])


def installed(folder: Path, target: str) -> Path:
    """A folder with an installed package that brings the worked example."""
    information = folder / "weekend_features-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: weekend-features\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\nweekend = {target}\n")
    (folder / "weekend.py").write_text((HERE / "weekend.py").read_text())
    return folder


def features_of(tmp_path: Path, tiny_dataset, target: str) -> subprocess.CompletedProcess:
    paths = [str(installed(tmp_path / "site", target)), str(HERE.parents[1])]
    return subprocess.run(
        [sys.executable, "-m", "recsys_cli", "features", "list", "--data-dir", str(tiny_dataset), "--artifacts-dir",
         str(tmp_path / "artifacts"), "--format", "json"],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, cwd=tmp_path,
    )


def test_an_installed_package_adds_its_family(tmp_path, tiny_dataset):
    done = features_of(tmp_path, tiny_dataset, "weekend:Weekend")
    assert done.returncode == 0, done.stderr
    told = {f["name"]: f for f in json.loads(done.stdout)}
    assert told["is_weekend"]["meaning"] == "the request comes at a weekend" and "user_weekend_share" in told


def test_a_package_whose_family_cannot_be_loaded_is_named(tmp_path, tiny_dataset):
    done = features_of(tmp_path, tiny_dataset, "weekend:Weekday")
    assert done.returncode == 3
    assert "'weekend' of the package weekend-features cannot be loaded" in done.stderr


def test_a_run_is_refused_where_a_family_of_it_is_not_there_or_of_another_version():
    world = small_world(3)
    with registry.registered(Weekend()):
        spec = spec_of(world.facts, registry.all_families().values())
        saved = Snapshot.build(spec, world.catalogue, world.log, int(world.log.time[-1])).to_arrays()
        Snapshot.from_arrays(*saved)
    with pytest.raises(ArtifactError, match="family 'weekend', which is not there"):
        Snapshot.from_arrays(*saved)
    content = spec.to_json()
    content["features"][0] = {k: v for k, v in content["features"][0].items() if k != "family"} | {"source": "user"}
    with pytest.raises(ArtifactError, match="those of another version"):
        FeatureSpec.from_json(content)
