"""How long ago: time since the last impression and interaction, and impressions in the visit that goes on."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.families.sessions import served_visits
from recsys_cli.features.family import Arrays, AsOf, CountedFamily, DatasetFacts, Served, SnapshotInputs, Values, View
from recsys_cli.features.keys import counting_key
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Definitions, Feature, Features
from recsys_cli.features.visits import Visits, session_gap, visits_as_of

_OF_KEYS = {
    "user": ("since_shown", "since_positive"),
    "user_author": ("session", "since_shown", "since_positive"),
    "user_topic": ("session", "since_positive"),
    "user_item": ("since_shown",),
}


class Recency(CountedFamily):
    """Time since the last impression and interaction of a user, with an author, a topic or the very item."""

    name = "recency"
    needs = ("sessions",)

    def define(self, facts: DatasetFacts) -> Definitions:
        for key, measures in _OF_KEYS.items():
            k = counting_key(key)
            for measure in measures if key in facts.keys else ():
                if measure == "session" and "user" in facts.keys:
                    yield Feature(
                        f"{key}_session", k.group, k.place, measure, f"impressions of {k.of} in this visit so far",
                        "ln(1 + impressions)", key=key,
                    )
                elif measure != "session":
                    what = "impression" if measure == "since_shown" else "interaction"
                    yield Feature(
                        f"{key}_{measure}", k.group, k.place, measure, f"time since the last {what} of {k.of}",
                        "ln(1 + minutes since then), a year where never", key=key,
                        unit="ln minutes ago",
                    )

    def compute(self, features: Features, rows: AsOf) -> Values:
        view, time, gap = rows.view(features[0].key), rows.time, session_gap(rows.past.spec.config)
        for f in features:
            if f.measure == "session":
                yield f.name, formulas.size(view.since(visits_as_of(rows).begins(time, gap)))
            else:
                mask = rows.column("positive") if f.measure == "since_positive" else None
                yield f.name, formulas.recency(time, view.last(mask))

    def counters(self, features: Features, view: View, inputs: SnapshotInputs, users: np.ndarray) -> Arrays:
        out, positive = {}, inputs.past.column("positive")
        for f in features:
            if f.measure == "session":
                visits = Visits.of(inputs.users, positive, session_gap(inputs.past.spec.config))
                out["session"] = view.since(visits.start[users])
            else:
                out[f.measure] = view.last(positive if f.measure == "since_positive" else None)
        return out

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        positive = inputs.past.column("positive")
        return {"since_shown": inputs.users.last(), "since_positive": inputs.users.last(positive)}

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in features:
            if f.place == "user":
                yield f.name, formulas.recency(request.now, held[f.measure].take(request.users, mode="wrap"))
            elif f.measure == "session":
                current = served_visits(request).current(request.now, session_gap(request.frozen.spec.config))
                yield f.name, formulas.size(request.counted(f.key).count("session") * current[:, None])
            else:
                yield f.name, formulas.recency(request.now, request.counted(f.key).moment(f.measure))
