"""Attributes that user and item have in common, such as their language."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features.as_of import AsOf
from recsys_cli.features.family import Arrays, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import Request
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Feature


class SameValue(FeatureFamily):
    """Whether a categorical attribute that users and items both have is of the same value."""

    name = "same_value"

    def define(self, facts: DatasetFacts) -> Iterable[Feature]:
        catalogue = facts.catalogue
        for name in catalogue.user_codes:
            if name in catalogue.item_codes and all(f"{s}.{name}" in catalogue.names for s in ("user", "item")):
                yield Feature(
                    f"same_{name}", "pair", "pair", "same", f"user and item have the same {name}", "1 or 0", name
                )

    def compute(self, features: Sequence[Feature], rows: AsOf) -> Values:
        for f in features:
            users, items = _codes(rows.past.catalogue, f.argument)
            yield f.name, known(users, rows.rows.user, -1) == known(items, rows.rows.item, -2)

    def freeze(self, features: Sequence[Feature], inputs: SnapshotInputs) -> Arrays:
        out = {}
        for f in features:
            users, items = _codes(inputs.past.catalogue, f.argument)
            out[f"user/{f.argument}"] = np.append(users, -1).astype(np.int32)
            out[f"item/{f.argument}"] = np.append(items, -2).astype(np.int32)
        return out

    def serve(self, features: Sequence[Feature], request: Request, held: Arrays) -> Served:
        for f in features:
            users = held[f"user/{f.argument}"].take(request.users, mode="wrap")[:, None]
            yield f.name, users == held[f"item/{f.argument}"].take(request.items, mode="wrap")


def _codes(catalogue: Catalogue, attribute: str) -> tuple[np.ndarray, np.ndarray]:
    """int32[n_users] and int32[n_items] codes that are equal where an attribute's value is; -1 and -2 unknown."""
    names = catalogue.names[f"user.{attribute}"]
    place = {name: i for i, name in enumerate(names)}
    into = np.array([place.get(n, -2) for n in catalogue.names[f"item.{attribute}"]] + [-2], np.int32)
    return catalogue.user_codes[attribute].astype(np.int32), into[catalogue.item_codes[attribute]]
