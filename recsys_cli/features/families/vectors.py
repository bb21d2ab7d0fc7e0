"""Texts, lists and vectors as a few numbers, and how close an item is to what a user engaged with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.features.dataset_columns import column_vectors, lacks_vector, unit, width_of
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Past, Served, SnapshotInputs, Values
from recsys_cli.features.history import View
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Column, Definitions, Feature, Features


class Vectors(FeatureFamily):
    """The numbers of a column's vectors and, of items, their match with the user's interactions."""

    name = "vectors"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for c in (c for c in facts.columns if c.dims):
            of = "the item's words" if c.path == "item.text" else f"the {c.side}'s {c.name}"
            told = _numbers_of(facts, c)
            for d in range(c.dims):
                meaning = f"number {d + 1} {told}"
                yield Feature(f"{c.side}_{c.name}_{d + 1}", c.side, c.side, "number", of, meaning, c.path, d)
            if c.becomes == "vector" and lacks_vector(facts.catalogue, c.path)[:-1].mean() >= 0.01:
                yield Feature(
                    f"{c.side}_{c.name}_missing", c.side, c.side, "missing", f"{of} is unknown", "1 or 0", c.path
                )
            if c.side == "item":
                yield Feature(
                    f"{c.name}_match", "pair", "pair", "match", f"likeness of {of} to what the user engaged with",
                    f"cosine of the item's {c.name} vector and the sum of those of the user's interactions", c.path,
                )

    def compute(self, features: Features, rows: AsOf) -> Values:
        past = rows.past
        for f in features:
            who = rows.who(f.argument.partition(".")[0])
            if f.measure == "missing":
                yield f.name, lacks_vector(past.catalogue, f.argument).take(who, mode="wrap")
                continue
            vectors = _vectors(past, f.argument)
            if f.measure == "number":
                yield f.name, vectors[:, f.span].take(who, mode="wrap")
            else:
                vectors = unit(vectors)
                mine = interest(rows.view("user"), vectors, past.log)
                yield f.name, _cosine(mine, vectors.take(who, axis=0, mode="wrap"))

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        out: Arrays = {}
        for f in (f for f in features if f.measure == "match"):
            items = unit(_vectors(inputs.past, f.argument))
            interests = interest(inputs.users, items, inputs.past.log)
            out |= {f"items/{f.argument}": items, f"interests/{f.argument}": interests}
        return out

    def moves(self, feature: Feature) -> bool:
        return False

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in (f for f in features if f.measure == "match"):
            mine = held[f"interests/{f.argument}"].take(request.users, axis=0, mode="wrap")[:, None, :]
            yield f.name, _cosine(mine, held[f"items/{f.argument}"].take(request.items, axis=0, mode="wrap"))

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        side, _, name = feature.argument.partition(".")
        return [(side, name)]


def _numbers_of(facts: DatasetFacts, c: Column) -> str:
    if c.becomes != "vector":
        what = "words'" if c.becomes == "text" else "values'"
        return f"of the {what} random projection to {c.dims} numbers, of length 1"
    whole = c.dims == width_of(facts.catalogue, c.side, c.name)
    return "of the column" if whole else f"of its random projection to {c.dims} numbers"


def _vectors(past: Past, path: str) -> np.ndarray:
    """float32[n + 1, D] of a column of users or items, see `column_vectors`."""
    return past.once(f"vectors of {path}", lambda: column_vectors(past.catalogue, path, past.spec.dims[path]))


def interest(view: View, vectors: np.ndarray, log: Log) -> np.ndarray:
    """float32[q, D]: sum of the vectors (float32[n_items + 1, D]) of the interactions in a view of users."""
    out = np.empty((len(view.time), vectors.shape[1]), np.float32)
    weight = log.positive.astype(np.float32)
    for d in range(vectors.shape[1]):
        out[:, d] = view.sum(vectors[:, d][log.item] * weight)
    return out


def _cosine(interests: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Over the last axis; vectors are of length 1 or 0; 0 where either is 0."""
    length = np.linalg.norm(interests, axis=-1)
    shared = np.einsum("...d,...d->...", interests, vectors)
    return np.where(length > 1e-6, shared / np.maximum(length, 1e-6), 0).astype(np.float32)
