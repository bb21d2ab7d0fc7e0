"""Tastes from before the log: what is watched together, as a factorisation of the table `history`."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.as_of import AsOf, Past
from recsys_cli.features.family import Arrays, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import FrozenFeatures, Request
from recsys_cli.features.spec import Feature


class PriorTastes(FeatureFamily):
    """Likeness of an item to what a user did before the log begins, of which the order is known and no time."""

    name = "prior_tastes"

    def define(self, facts: DatasetFacts) -> Iterable[Feature]:
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

    def compute(self, features: Sequence[Feature], rows: AsOf) -> Values:
        vectors = _vectors_of(rows.past)
        for f in features:
            yield f.name, vectors.value(f, rows.rows.user, rows.rows.item)

    def freeze(self, features: Sequence[Feature], inputs: SnapshotInputs) -> Arrays:
        vectors = _vectors_of(inputs.past)
        return {f"{part.name}/{a}": v for part in fields(vectors) for a, v in getattr(vectors, part.name).items()}

    def prepare(self, features: Sequence[Feature], frozen: FrozenFeatures) -> TasteVectors:
        arrays, actions = frozen.arrays[self.name], dict.fromkeys(f.argument for f in features)
        return TasteVectors(*({a: arrays[f"{part.name}/{a}"] for a in actions} for part in fields(TasteVectors)))

    def serve(self, features: Sequence[Feature], request: Request, held: TasteVectors) -> Served:
        for f in features:
            yield f.name, held.value(f, request.users[:, None], request.items)


@dataclass(frozen=True)
class TasteVectors:
    """Vectors of users and items by action; the last row stands for the unknown and is of zeros."""

    users: dict[str, np.ndarray]
    """action → float32[n_users + 1, D]"""
    items: dict[str, np.ndarray]
    """action → float32[n_items + 1, D]"""
    user_length: dict[str, np.ndarray]
    """action → float32[n_users + 1], 1 where the vector is 0"""
    item_length: dict[str, np.ndarray]
    """action → float32[n_items + 1] of the vector before it was scaled by (rows)^½, likewise 1"""

    @classmethod
    def build(cls, catalogue: Catalogue, actions: Sequence[str], dims: int) -> TasteVectors:
        """Of the rows of some actions in the table `history`."""
        out = cls({}, {}, {}, {})
        for action in actions:
            user, item, scale = _factors(catalogue.before[action], catalogue.n_items, dims)
            for vectors, held, length in ((user, out.users, out.user_length), (item, out.items, out.item_length)):
                norm = np.linalg.norm(vectors, axis=1)
                held[action] = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])
                length[action] = np.append(np.where(norm > 1e-9, norm, 1), 1).astype(np.float32)
            out.items[action][:-1] *= scale[:, None]
            out.item_length[action][:-1] *= scale
        return out

    def value(self, f: Feature, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32, for users and items of shapes that broadcast; -1 is unknown."""
        mine = self.users[f.argument].take(users, axis=0, mode="wrap")
        dot = np.einsum("...d,...d->...", mine, self.items[f.argument].take(items, axis=0, mode="wrap"))
        if f.measure == "dot":
            return dot
        length = self.user_length[f.argument].take(users, mode="wrap")
        return dot / (length * self.item_length[f.argument].take(items, mode="wrap"))


_KEPT: dict[str, tuple] = {}
"""The latest vectors with what they are of: every table and snapshot of one dataset asks for the same."""


def _vectors_of(past: Past) -> TasteVectors:
    actions = tuple(dict.fromkeys(f.argument for f in past.spec.of_family("prior_tastes")))
    of = actions, past.spec.config.before_taste_dims
    kept = _KEPT.get("of")
    if kept is None or kept[0]() is not past.catalogue or kept[1] != of:
        _KEPT["of"] = kept = weakref.ref(past.catalogue), of, TasteVectors.build(past.catalogue, *of)
    return kept[2]


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
