"""Columns of dates: how long ago each of them is."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import Request
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Definitions, Feature, Features


class Dates(FeatureFamily):
    """Time since the dates that columns of users and items hold."""

    name = "dates"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for column in (c for c in facts.columns if c.becomes == "age"):
            side, name = column.side, column.name
            times = _times(facts.catalogue, side, name)
            if times.any():
                yield Feature(
                    f"{side}_{name}_age", side, side, "age", f"time since the {side}'s {name}",
                    "ln(1 + hours since), 0 while it lies ahead or is unknown", name,
                    unit="ln hours",
                )
                if np.mean(times == 0) >= 0.01:
                    told = f"the {side}'s {name} is unknown"
                    yield Feature(f"{side}_{name}_missing", side, side, "missing", told, "1 or 0", name)

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            times = known(_times(rows.past.catalogue, f.place, f.argument), rows.who(f.place), 0)
            yield f.name, formulas.age(rows.time, times) if f.measure == "age" else times == 0

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        catalogue = inputs.past.catalogue
        return {f"{f.place}.{f.argument}": np.append(_times(catalogue, f.place, f.argument), 0) for f in features}

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in (f for f in features if f.measure == "age"):
            who = request.users if f.place == "user" else request.items
            yield f.name, formulas.age(request.now, held[f"{f.place}.{f.argument}"].take(who, mode="wrap"))

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        return [(feature.place, feature.argument)]



def _times(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """int64[n] µs, 0 unknown"""
    return getattr(catalogue, f"{side}_columns").times[name]
