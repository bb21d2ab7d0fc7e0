"""Likeness of a user's interests and an item's topics."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.families.interests import profile_column
from recsys_cli.features.family import Arrays, AsOf, CountedFamily, DatasetFacts, Served, SnapshotInputs, Values, View
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Definitions, Feature, Features


class TopicMatch(CountedFamily):
    """Cosine of what the user interacted with, by topic, and the item's topics."""

    name = "topic_match"

    def define(self, facts: DatasetFacts) -> Definitions:
        if "user_topic" in facts.keys:
            yield Feature(
                "topic_match", "pair", "pair", "match", "likeness of the user's interests and the item's topics",
                "cosine of the counts of the user's interactions by topic with the item's set of topics",
                key="user_topic",
            )

    def compute(self, features: Features, rows: AsOf) -> Values:
        past, view = rows.past, rows.view("user_topic")
        shared, norm = view.sum(rows.column("positive")), rows.view("user").sum(profile_column(past, "square"))
        topics = (past.keys.key("topic", rows.user, rows.item, None) >= 0).sum(axis=1)
        for f in features:
            yield f.name, formulas.cosine(shared, np.sqrt(norm).astype(np.float32), topics)

    def counters(self, features: Features, view: View, inputs: SnapshotInputs, users: np.ndarray) -> Arrays:
        return {"positive": view.sum(inputs.past.column("positive"))}

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        return {"norm": np.sqrt(inputs.users.sum(profile_column(inputs.past, "square"))).astype(np.float32)}

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        topics = (request.frozen.keys.key("topic", request.users[:, None], request.items, None) >= 0).sum(axis=-1)
        norm = held["norm"].take(request.users, mode="wrap")[:, None]
        for f in features:
            yield f.name, formulas.cosine(request.counted(f.key).count("positive"), norm, topics)
