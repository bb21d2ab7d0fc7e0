"""How widely a user's interests spread over topics."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Values
from recsys_cli.features.spec import Definitions, Feature, Features
from recsys_cli.features.topic_profile import profile_column


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
