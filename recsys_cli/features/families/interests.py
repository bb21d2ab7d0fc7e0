"""How widely a user's interests spread over topics."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Past, Values
from recsys_cli.features.spec import Definitions, Feature, Features


class Interests(FeatureFamily):
    """Entropy and number of the topics that a user interacted with."""

    name = "interests"

    def define(self, facts: DatasetFacts) -> Definitions:
        for measure, meaning, formula in (
            ("entropy", "how widely the user's interests spread", "entropy of the user's interactions by topic, nats"),
            ("topics", "topics that the user interacted with", "ln(1 + topics)"),
        ):
            if {"user", "user_topic"} <= set(facts.keys):
                yield Feature(f"user_interest_{measure}", "user", "user", measure, meaning, formula)

    def compute(self, features: Features, rows: AsOf) -> Values:
        view = rows.view("user")
        for f in features:
            if f.measure == "topics":
                yield f.name, formulas.size(view.sum(profile_column(rows.past, "topics")))
            else:
                total = np.maximum(view.sum(profile_column(rows.past, "total")), 1)
                entropy = np.log(total) - view.sum(profile_column(rows.past, "entropy")) / total
                yield f.name, np.maximum(entropy, 0).astype(np.float32)


def profile_column(past: Past, measure: str) -> np.ndarray:
    """float64[n] what each row of the log adds to a measure of its user's topic profile, which counts the interactions
    with each topic; a view of users adds it up.

    A count of c becomes c + 1: "square" adds (c + 1)² − c², "entropy" (c + 1)·ln(c + 1) − c·ln c, "topics" 1 where c is
    0, "total" 1.
    """
    return past.once(f"topic profiles' {measure}", lambda: _profile_column(past, measure))


def _profile_column(past: Past, measure: str) -> np.ndarray:
    keys = past.keys.key("user_topic", past.log.user, past.log.item, None)
    keys[~past.log.positive] = -1
    flat = keys.ravel()
    events = np.flatnonzero(flat >= 0)
    key, rows = flat[events], events // keys.shape[1]
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    fresh = np.ones(len(key), bool)
    fresh[1:] = ordered[1:] != ordered[:-1]
    first = np.flatnonzero(fresh)
    before = np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))
    if measure == "entropy":
        c = before.astype(np.float64)
        added = (c + 1) * np.log1p(c) - np.where(c > 0, c * np.log(np.maximum(c, 1)), 0)
    else:
        added = {"square": 2.0 * before + 1, "topics": before == 0, "total": np.ones(len(key))}[measure]
    return np.bincount(rows[order], weights=added, minlength=len(past.log))
