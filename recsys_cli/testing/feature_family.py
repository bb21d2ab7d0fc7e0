"""The contract of a family of features: what it computes for training is what it serves, and nothing of it comes from
later."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.schema import HOUR
from recsys_cli.features.build import build_table
from recsys_cli.features.context import Context
from recsys_cli.features.define import spec_of
from recsys_cli.features.family import FeatureFamily
from recsys_cli.features.readings import reading
from recsys_cli.features.registry import all_families, registered
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import GROUPS, PLACES, Feature, FeatureSpec
from recsys_cli.testing.small_world import SmallWorld, bare_world, similarity, small_world

Replayed = Callable[[SmallWorld, FeatureSpec, Feature, int], float]
"""(world, its features, one of them, row of its log) → the value as of that row, told by other means"""
_TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def check_feature_family(
    family: FeatureFamily, worlds: Sequence[SmallWorld] = (), replayed: Replayed | None = None, rows: int = 4
) -> None:
    """Prove that training and serving agree on a family, on small random datasets.

    The family need not be registered. worlds: datasets to prove it on, where the small ones of this package have
    nothing for it. replayed: gives a value by other means, such as plain arithmetic over the rows before; it is
    compared too. rows: impressions of each world that are compared with the snapshot of their moment.

    Raises AssertionError that names the feature, the place and both values, for a family

    - whose definitions are incomplete, not the same twice, or that defines nothing for any of the worlds,
    - that fails on a dataset of which nothing is known but who clicked on what and when, or on an empty log,
    - whose values as of a row change with what happened at the same moment or later, or with the rows beside it,
    - that serves other values at a moment than it computes as of it: alone, in a batch, by a choice of columns, or
      after a life in a file,
    - whose values are not finite, or are no codes where they should be, or that writes into what it is given.
    """
    with registered(family):
        defined = 0
        for world in worlds or (small_world(3), small_world(11), small_world(12)):
            check = _Check(family, world)
            defined += len(check.mine)
            if check.mine:
                check.definitions()
                check.past_alone()
                check.rows_alone()
                check.served(rows)
                check.batches()
                check.replayed(replayed, rows)
            check.nothing_written()
        assert defined, f"family {family.name!r} defines no feature for any of the datasets"
        bare = _Check(family, bare_world(3))
        bare.past_alone()
        bare.served(1)


class _Check:
    """One family on one dataset."""

    def __init__(self, family: FeatureFamily, world: SmallWorld):
        self.family, self.world = family, world
        needed = _needed(family)
        self.spec = spec_of(world.facts, [f for name, f in all_families().items() if name in needed])
        self.mine = self.spec.of_family(family.name)
        self.at = [self.spec.column[f.name] for f in self.mine]
        self.before = self._arrays()
        self.table = self._table(world.log)

    def _arrays(self) -> bytes:
        log = self.world.log
        arrays = [*self.world.catalogue.to_arrays()[0].values(), log.user, log.item, log.time]
        return b"".join(a.tobytes() for a in (*arrays, *log.actions.values(), *log.context.values()))

    def _table(self, log, rows=None, edges: dict | None = None) -> np.ndarray:
        """float32[n, F] of the family"""
        edges = self.world.edges if edges is None else edges
        return build_table(self.spec, self.world.catalogue, log, rows, edges, edges, similarity).values[:, self.at]

    def same(self, what: str, got: np.ndarray, wanted: np.ndarray) -> None:
        """Raises AssertionError that names the first feature that differs."""
        for j, f in enumerate(self.mine):
            bad = ~np.isclose(got[..., j], wanted[..., j], **_TOLERANCE)
            if bad.any():
                place = tuple(int(i) for i in np.argwhere(bad)[0])
                raise AssertionError(
                    f"family {self.family.name!r}, {f.name}: {what} at {place}: "
                    f"{got[(*place, j)]:.6g}, not {wanted[(*place, j)]:.6g}"
                )

    def definitions(self) -> None:
        """They are complete, lasting, and their values what they say."""
        again = spec_of(self.world.facts, [self.family]).features
        assert {f.name for f in again} == {f.name for f in self.mine}, "define gives something else the second time"
        assert FeatureSpec.from_json(orjson.loads(orjson.dumps(self.spec.to_json()))) == self.spec
        for f, values in zip(self.mine, self.table.T, strict=True):
            told = f"family {self.family.name!r}, {f.name}"
            assert f.place in PLACES, f"{told}: place {f.place!r} is none of {', '.join(PLACES)}"
            assert f.group in GROUPS, f"{told}: group {f.group!r} is none of {', '.join(GROUPS)}"
            assert f.meaning and f.formula and f.measure, f"{told}: meaning, formula or measure is empty"
            assert np.isfinite(values).all(), f"{told}: a value is not finite"
            if f.codes:
                whole = (values == np.round(values)) & (values >= 0) & (values < f.codes)
                assert whole.all(), f"{told}: a value is no code from 0 to {f.codes - 1}"
            assert reading(f, float(values[-1])), f"{told}: a value has no reading"

    def past_alone(self) -> None:
        """What happens at the moment of a row or later does not change it."""
        log, edges = self.world.log, self.world.edges
        for cut in (len(log) // 4, 2 * len(log) // 3):
            moment = log.time[cut]
            known = {k: v[edges["time"] < moment] for k, v in edges.items()}
            short = self._table(log.window(end=int(moment)), log.take(slice(cut, cut + 1)), known)
            self.same(f"changes when the log ends before row {cut},", short, self.table[cut : cut + 1])
            same = log.time == moment
            flipped = replace(log, actions={k: np.where(same, ~v, v) for k, v in log.actions.items()}, _cache={})
            now = self._table(flipped, np.flatnonzero(same))
            self.same("changes with what happens at the same moment,", now, self.table[same])
        empty = self._table(log.take(slice(0, 0)), log.take(slice(0, 1)))
        assert np.isfinite(empty).all(), f"family {self.family.name!r}: a value of an empty log is not finite"

    def rows_alone(self) -> None:
        """A row is what it is, whatever rows are asked for beside it."""
        some = np.array([len(self.table) - 1, 3, len(self.table) // 2])
        self.same("changes with the rows beside it,", self._table(self.world.log, some), self.table[some])

    def served(self, rows: int) -> None:
        """The snapshot of a row's moment serves what was computed as of it."""
        world, log = self.world, self.world.log
        for row in np.linspace(1, len(log) - 1, rows).astype(int):
            snapshot = Snapshot.build(self.spec, world.catalogue, log, int(log.time[row]), world.edges, world.edges)
            one = log.take(slice(row, row + 1))
            user, item = one.user, one.item
            context = Context(int(log.time[row]), one.surface, one.device, one.context)
            values = snapshot.features(user, item[None], context, {"als": similarity(user, item)["als"][None]})
            self.same(f"as of row {row} and as served then differ:", values[0][:, self.at], self.table[row : row + 1])

    def batches(self) -> None:
        """Many requests at once, a choice of columns and a snapshot from a file give the same."""
        world, log = self.world, self.world.log
        snapshot = Snapshot.build(self.spec, world.catalogue, log, int(log.time[-1]) + 1, world.edges, world.edges)
        users, items = np.array([0, 3, -1, 5], np.int32), np.arange(20, dtype=np.int32).reshape(4, 5)
        items = items % (world.catalogue.n_items + 1) - 1
        context, scores = Context(snapshot.now), similarity(users[:, None], items)
        whole = snapshot.features(users, items, context, scores)[..., self.at]
        told = f"family {self.family.name!r}: "
        assert np.isfinite(whole).all(), f"{told}a served value of an unknown user or item is not finite"
        assert not whole[items < 0].any(), f"{told}an empty slot is not served as zeros"
        for b in range(len(users)):
            part = slice(b, b + 1)
            alone = snapshot.features(users[part], items[part], context, similarity(users[part, None], items[part]))
            self.same(f"served alone and in a batch differ for user {users[b]}:", alone[..., self.at], whole[part])
        for f, j in zip(self.mine, range(len(self.mine)), strict=True):
            chosen = snapshot.features(users, items, context, scores, (f.name,))[..., 0]
            one = np.isclose(chosen, whole[..., j], **_TOLERANCE).all()
            assert one, f"{told}{f.name} is served otherwise when it is asked for alone"
        for hours in (0, 30):
            later = replace(context, now=context.now + hours * HOUR)
            whole_then = snapshot.features(users, items, later, scores)[..., self.at]
            parts = snapshot.parts(users, items, later, scores, self.spec.names)
            apart = np.stack([np.where(items >= 0, parts.column(f.name), 0) for f in self.mine], axis=-1)
            self.same(f"served in parts differs after {hours} hours, `moves` may be wrong:", apart, whole_then)
        with tempfile.TemporaryDirectory() as folder:
            save_arrays(Path(folder) / "snapshot.bin", *snapshot.to_arrays())
            read = Snapshot.from_arrays(*load_arrays(Path(folder) / "snapshot.bin"))
            self.same("served from a file differs", read.features(users, items, context, scores)[..., self.at], whole)

    def replayed(self, replayed: Replayed | None, rows: int) -> None:
        """Another way of counting gives the same."""
        for row in np.linspace(0, len(self.table) - 1, rows).astype(int) if replayed is not None else ():
            wanted = np.array([[replayed(self.world, self.spec, f, int(row)) for f in self.mine]], np.float64)
            self.same(f"as of row {row} is not what it is by other means:", self.table[row : row + 1], wanted)

    def nothing_written(self) -> None:
        """The catalogue and the log are as they were."""
        assert self._arrays() == self.before, f"family {self.family.name!r} writes into the catalogue or the log"


def _needed(family: FeatureFamily) -> set[str]:
    """Names of the family and of those that it needs, directly or not."""
    out, todo = set(), [family.name]
    while todo:
        name = todo.pop()
        if name not in out:
            out.add(name)
            todo += all_families()[name].needs
    return out
