"""Tastes from before the log: what is watched together, as a factorisation of the table `history`."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.family import Arrays, DatasetFacts, ItemKeys, Past, TimelessFamily, Values
from recsys_cli.features.spec import Definitions, Feature, Features


class PriorTastes(TimelessFamily):
    """Likeness of an item to what a user did before the log begins, of which the order is known and no time."""

    name = "prior_tastes"

    def define(self, facts: DatasetFacts) -> Definitions:
        dims, before = facts.config.before_taste_dims, facts.catalogue.before
        for action in (a for a in facts.config.before_tastes if dims and a in before):
            rows = before[action]
            if len(np.unique(rows.values)) <= dims or np.count_nonzero(rows.lengths) <= dims:
                continue
            for measure, formula in (
                ("dot", "entry of that approximation, times (rows of the item)^½"),
                ("cosine", "cosine of the two vectors"),
            ):
                yield Feature(
                    f"before_{action}_{measure}", "pair", "pair", measure,
                    f"likeness of the item to the user's {action} before the log begins",
                    f"{dims} singular vectors of user × item, each entry ÷ (rows of user · rows of item)^½; {formula}",
                    action,
                )

    def tables(self, features: Features, past: Past) -> Arrays:
        of = tuple(dict.fromkeys(f.argument for f in features)), past.spec.config.before_taste_dims
        kept = _KEPT.get("of")
        if kept is None or kept[0]() is not past.catalogue or kept[1] != of:
            _KEPT["of"] = kept = weakref.ref(past.catalogue), of, taste_vectors(past.catalogue, *of)
        return kept[2]

    def values(self, features: Features, held: Arrays, keys: ItemKeys, users: np.ndarray, items: np.ndarray) -> Values:
        for f in features:
            mine = held[f"{f.argument}/users"].take(users, axis=0, mode="wrap")
            dot = np.einsum("...d,...d->...", mine, held[f"{f.argument}/items"].take(items, axis=0, mode="wrap"))
            if f.measure == "cosine":
                length = held[f"{f.argument}/user_length"].take(users, mode="wrap")
                dot = dot / (length * held[f"{f.argument}/item_length"].take(items, mode="wrap"))
            yield f.name, dot


_KEPT: dict[str, tuple[Any, ...]] = {}
"""The latest vectors with what they are of: every table and snapshot of one dataset asks for the same."""


def taste_vectors(catalogue: Catalogue, actions: Sequence[str], dims: int) -> Arrays:
    """Vectors of users and items by action, float32[n + 1, D], the last row of zeros stands for the unknown, and their
    lengths, float32[n + 1], 1 where a vector is 0.

    Vectors of items are scaled by (rows of the item)^½.
    """
    out = {}
    for action in actions:
        user, item, scale = _factors(catalogue.before[action], catalogue.n_items, dims)
        for side, vectors, by in (("user", user, np.float32(1)), ("item", item, scale)):
            norm = np.linalg.norm(vectors, axis=1)
            length = (np.where(norm > 1e-9, norm, 1) * by).astype(np.float32)
            vectors = vectors * np.reshape(by, (-1, 1))
            out[f"{action}/{side}s"] = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])
            out[f"{action}/{side}_length"] = np.append(length, np.float32(1))
    return out


def _factors(rows: Ragged, n_items: int, dims: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors of users (with the singular values) and of items, and (rows of each item)^½, at least 1."""
    from scipy.sparse import csr_array, diags_array
    from scipy.sparse.linalg import svds

    # a copy: adding up repeats would change the rows themselves
    matrix = csr_array((np.ones(len(rows.values)), rows.values, rows.offsets), (len(rows), n_items), copy=True)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    of_user, of_item = (np.sqrt(np.maximum(matrix.sum(axis=a), 1)) for a in (1, 0))
    matrix = diags_array(1 / of_user) @ matrix @ diags_array(1 / of_item)
    left, strength, right = svds(matrix, dims, v0=np.ones(min(matrix.shape)))
    return (left * strength).astype(np.float32), right.T.astype(np.float32), of_item.astype(np.float32)
