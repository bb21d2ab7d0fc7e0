"""How old the user's account and the item are, and how long ago the dates of other columns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features import formulas
from recsys_cli.features.family import (
    Arrays,
    AsOf,
    DatasetFacts,
    FeatureFamily,
    Request,
    Served,
    SnapshotInputs,
    Values,
)
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Definitions, Feature, Features


class Ages(FeatureFamily):
    """Time since users and items were created, as far as it is known."""

    name = "ages"

    def define(self, facts: DatasetFacts) -> Definitions:
        for side, name in (("user", "user_account_age"), ("item", "item_age")):
            there = self.moments(facts.catalogue, side, "") > 0
            if there.any():
                formula = "ln(1 + hours since created)"
                yield Feature(name, side, side, "age", f"age of the {side}", formula, unit="ln hours")
                if there.mean() < 0.99:
                    yield Feature(f"{name}_missing", side, side, "missing", f"the {side}'s age is unknown", "1 or 0")

    def moments(self, catalogue: Catalogue, side: str, column: str) -> np.ndarray:
        """int64[n] µs of users or items, 0 unknown"""
        return catalogue.user_created if side == "user" else catalogue.item_created

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            moments = known(self.moments(rows.past.catalogue, f.place, f.argument), rows.who(f.place), 0)
            yield f.name, formulas.age(rows.time, moments) if f.measure == "age" else moments == 0

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        ages, catalogue = [f for f in features if f.measure == "age"], inputs.past.catalogue
        return {f.vocabulary: np.append(self.moments(catalogue, f.place, f.argument), 0) for f in ages}

    def moves(self, feature: Feature) -> bool:
        return feature.measure == "age"

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in (f for f in features if f.measure == "age"):
            who = request.users if f.place == "user" else request.items
            yield f.name, formulas.age(request.now, held[f.vocabulary].take(who, mode="wrap"))


class Dates(Ages):
    """Time since the dates that further columns of users and items hold."""

    name = "dates"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for side, name in ((c.side, c.name) for c in facts.columns if c.becomes == "age"):
            moments, what = self.moments(facts.catalogue, side, name), f"the {side}'s {name}"
            if moments.any():
                formula = "ln(1 + hours since), 0 while it lies ahead or is unknown"
                yield Feature(
                    f"{side}_{name}_age", side, side, "age", f"time since {what}", formula, name, unit="ln hours"
                )
                if np.mean(moments == 0) >= 0.01:
                    yield Feature(
                        f"{side}_{name}_missing", side, side, "missing", f"{what} is unknown", "1 or 0", name
                    )

    def moments(self, catalogue: Catalogue, side: str, column: str) -> np.ndarray:
        return getattr(catalogue, f"{side}_columns").times[column]

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        return [(feature.place, feature.argument)]
