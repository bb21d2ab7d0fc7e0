"""Attributes that user and item have in common, such as their language."""

from __future__ import annotations

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.features.family import Arrays, DatasetFacts, ItemKeys, Past, TimelessFamily, Values
from recsys_cli.features.spec import Definitions, Feature, Features


class SameValue(TimelessFamily):
    """Whether a categorical attribute that users and items both have is of the same value."""

    name = "same_value"

    def define(self, facts: DatasetFacts) -> Definitions:
        catalogue = facts.catalogue
        for name in catalogue.user_codes:
            if name in catalogue.item_codes and all(f"{s}.{name}" in catalogue.names for s in ("user", "item")):
                yield Feature(
                    f"same_{name}", "pair", "pair", "same", f"user and item have the same {name}", "1 or 0", name
                )

    def tables(self, features: Features, past: Past) -> Arrays:
        out = {}
        for f in features:
            users, items = _codes(past.catalogue, f.argument)
            out[f"user/{f.argument}"] = np.append(users, -1).astype(np.int32)
            out[f"item/{f.argument}"] = np.append(items, -2).astype(np.int32)
        return out

    def values(self, features: Features, held: Arrays, keys: ItemKeys, users: np.ndarray, items: np.ndarray) -> Values:
        for f in features:
            mine = held[f"user/{f.argument}"].take(users, mode="wrap")
            yield f.name, mine == held[f"item/{f.argument}"].take(items, mode="wrap")


def _codes(catalogue: Catalogue, attribute: str) -> tuple[np.ndarray, np.ndarray]:
    """int32[n_users] and int32[n_items] codes that are equal where an attribute's value is; -1 and -2 unknown."""
    names = catalogue.names[f"user.{attribute}"]
    place = {name: i for i, name in enumerate(names)}
    into = np.array([place.get(n, -2) for n in catalogue.names[f"item.{attribute}"]] + [-2], np.int32)
    return catalogue.user_codes[attribute].astype(np.int32), into[catalogue.item_codes[attribute]]
