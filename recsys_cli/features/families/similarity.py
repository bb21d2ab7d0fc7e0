"""Scores that retrievers give a user and an item."""

from __future__ import annotations

import numpy as np

from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Request, Served, Values
from recsys_cli.features.spec import Definitions, Feature, Features

_PAIRS_AT_ONCE = 2**16
"""Scored at a time, those of one user together: retrievers make more of a user than of a pair."""


class SimilarityOfRetrievers(FeatureFamily):
    """The score of each retriever that scores pairs; it is given from outside, by the retrievers themselves."""

    name = "similarity"

    def define(self, facts: DatasetFacts) -> Definitions:
        for name in facts.similarities:
            yield Feature(
                f"sim_{name}", "pair", "pair", "score", f"score of the retriever {name} for the pair",
                "as the retriever gives it, 0 where it has none", name,
            )

    def compute(self, features: Features, rows: AsOf) -> Values:
        out = {f.argument: np.zeros(len(rows), np.float32) for f in features}
        score = rows.similarity
        order = np.zeros(0, np.int64) if score is None else np.argsort(rows.user, kind="stable")
        for low in range(0, len(order), _PAIRS_AT_ONCE):
            assert score is not None  # else there is no part
            part = order[low : low + _PAIRS_AT_ONCE]
            scores = score(rows.user[part], rows.item[part])
            for name in out.keys() & scores.keys():
                out[name][part] = scores[name]
        for f in features:
            yield f.name, out[f.argument]

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in features:
            scores = request.similarities.get(f.argument)
            yield f.name, np.zeros((), np.float32) if scores is None else scores
