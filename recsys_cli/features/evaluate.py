"""Features as of each row: every family in turn, those that count over keys first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from recsys_cli.features.as_of import AsOf, Past, Similarity
from recsys_cli.features.family import CountedFamily, FeatureFamily
from recsys_cli.features.registry import family_of
from recsys_cli.features.rows import Rows
from recsys_cli.features.spec import Feature

_ROWS_AT_ONCE = 2**17
"""Rows that features are made of at a time, to bound their memory."""
_COUNTED_AT_ONCE = 2**22
"""Rows that are counted for at a time: each time anew the counters of the whole log are summed up."""


def fill(
    past: Past, rows: Rows, features: Sequence[Feature], out: np.ndarray, similarity: Similarity | None = None
) -> None:
    """Write features into the columns of `out`, float32[n, len(features)].

    What a family's features lean on (see `FeatureFamily.needs`) must be among them. similarity: gives the scores of
    retrievers; None leaves them at 0.
    """
    whole = AsOf(past, rows, [f.name for f in features], out, similarity)
    counted: list[tuple[FeatureFamily, list[Feature]]] = []
    others: list[tuple[FeatureFamily, list[Feature]]] = []
    for family, mine in by_family(features):
        (counted if isinstance(family, CountedFamily) else others).append((family, mine))
    for key in past.spec.keys:
        of_key = [(family, some) for family, mine in counted if (some := [f for f in mine if f.key == key])]
        with past.holding(key):
            for part in whole.parts(_COUNTED_AT_ONCE):
                _write(of_key, part)
    for part in whole.parts(_ROWS_AT_ONCE):
        _write(others, part)


def _write(families: list[tuple[FeatureFamily, list[Feature]]], rows: AsOf) -> None:
    """Compute and write in one stream, which is faster; but a family waits until what it needs is written."""

    def computed(some: list[tuple[FeatureFamily, list[Feature]]]) -> Iterator[tuple[str, np.ndarray]]:
        for family, features in some:
            yield from family.compute(features, rows)

    together: list[tuple[FeatureFamily, list[Feature]]] = []
    for family, features in families:
        if any(other.name in family.needs for other, _ in together):
            rows.write(computed(together))
            together = []
        together.append((family, features))
    rows.write(computed(together))


def by_family(features: Sequence[Feature]) -> Iterator[tuple[FeatureFamily, list[Feature]]]:
    """Families with those of the features that they define; those that another needs come before it."""
    names, done = dict.fromkeys(f.family for f in features), []

    def visit(name: str) -> None:
        if name in names and name not in done:
            for other in family_of(name).needs:
                visit(other)
            done.append(name)

    for name in names:
        visit(name)
    for name in done:
        yield family_of(name), [f for f in features if f.family == name]
