"""Tastes from before the log: what is watched together, as a factorisation of the table `history`."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.spec import Feature, FeatureSpec

SOURCE = "tastes"


def define_tastes(config: FeatureConfig, catalogue: Catalogue) -> Iterator[Feature]:
    """Where the dataset tells what people did before the log, to more items than the tastes have numbers."""
    dims = config.before_taste_dims
    for action in (a for a in config.before_tastes if dims and a in catalogue.before):
        rows = catalogue.before[action]
        if len(np.unique(rows.values)) <= dims or np.count_nonzero(rows.lengths) <= dims:
            continue
        for measure, formula in (
            ("dot", "entry of that approximation, times (rows of the item)^½"),
            ("cosine", "cosine of the two vectors"),
        ):
            yield Feature(
                f"before_{action}_{measure}", "pair", "pair", SOURCE, measure,
                f"likeness of the item to the user's {action} before the log begins",
                f"{dims} singular vectors of user × item, each entry ÷ (rows of user · rows of item)^½; {formula}",
                action,
            )


@dataclass(frozen=True)
class Tastes:
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
    def build(cls, spec: FeatureSpec, catalogue: Catalogue) -> Tastes | None:
        """None where no feature reads them."""
        actions = tuple(dict.fromkeys(f.argument for f in spec.features if f.source == SOURCE))
        if not actions:
            return None
        dims = spec.config.before_taste_dims
        kept = _KEPT.get("of")
        if kept is not None and kept[0]() is catalogue and kept[1:3] == (actions, dims):
            return kept[3]
        out = cls({}, {}, {}, {})
        for action in actions:
            user, item, scale = _factors(catalogue.before[action], catalogue.n_items, dims)
            for vectors, held, length in ((user, out.users, out.user_length), (item, out.items, out.item_length)):
                norm = np.linalg.norm(vectors, axis=1)
                held[action] = np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])
                length[action] = np.append(np.where(norm > 1e-9, norm, 1), 1).astype(np.float32)
            out.items[action][:-1] *= scale[:, None]
            out.item_length[action][:-1] *= scale
        _KEPT["of"] = weakref.ref(catalogue), actions, dims, out
        return out

    def value(self, f: Feature, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """float32, for users and items of shapes that broadcast; -1 is unknown."""
        mine = self.users[f.argument].take(users, axis=0, mode="wrap")
        dot = np.einsum("...d,...d->...", mine, self.items[f.argument].take(items, axis=0, mode="wrap"))
        if f.measure == "dot":
            return dot
        length = self.user_length[f.argument].take(users, mode="wrap")
        return dot / (length * self.item_length[f.argument].take(items, mode="wrap"))

    def to_arrays(self) -> dict[str, np.ndarray]:
        return {f"tastes/{part}/{a}": v for part in _PARTS for a, v in getattr(self, part).items()}

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> Tastes:
        def held(part: str) -> dict[str, np.ndarray]:
            start = f"tastes/{part}/"
            return {name.removeprefix(start): v for name, v in arrays.items() if name.startswith(start)}

        return cls(*(held(part) for part in _PARTS))


_KEPT: dict[str, tuple] = {}
"""The latest result with what it is of: every table and snapshot of one dataset asks for the same."""
_PARTS = ("users", "items", "user_length", "item_length")


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
