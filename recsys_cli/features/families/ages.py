"""How old the user's account and the item are."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import Request
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Definitions, Feature, Features


class Ages(FeatureFamily):
    """Time since users and items were created, as far as it is known."""

    name = "ages"

    def define(self, facts: DatasetFacts) -> Definitions:
        for side, name in (("user", "user_account_age"), ("item", "item_age")):
            there = getattr(facts.catalogue, f"{side}_created") > 0
            if there.any():
                formula = "ln(1 + hours since created)"
                yield Feature(name, side, side, "age", f"age of the {side}", formula, unit="ln hours")
                if there.mean() < 0.99:
                    yield Feature(f"{name}_missing", side, side, "missing", f"the {side}'s age is unknown", "1 or 0")

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            created = known(getattr(rows.past.catalogue, f"{f.place}_created"), rows.who(f.place), 0)
            yield f.name, formulas.age(rows.time, created) if f.measure == "age" else created == 0

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        catalogue = inputs.past.catalogue
        return {
            f.place: np.append(getattr(catalogue, f"{f.place}_created"), 0).astype(np.int64)
            for f in features if f.measure == "age"
        }

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in (f for f in features if f.measure == "age"):
            who = request.users if f.place == "user" else request.items
            yield f.name, formulas.age(request.now, held[f.place].take(who, mode="wrap"))
