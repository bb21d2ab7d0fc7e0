"""The visit so far: what a user saw and did since the last longer pause."""

from __future__ import annotations

import numpy as np

from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Served, SnapshotInputs, Values
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Definitions, Feature, Features
from recsys_cli.features.visits import Visits, session_gap, visits_as_of

PRIOR = "user_positive_logodds"


class Sessions(FeatureFamily):
    """Length and yield of the visit that goes on, and the time since the one before it.

    A visit goes on until `session_gap_minutes` pass without an impression.
    """

    name = "sessions"
    needs = ("rates",)

    def define(self, facts: DatasetFacts) -> Definitions:
        if "user" not in facts.keys:
            return
        gap = session_gap(facts.config)
        none = "0 at the start of a visit"
        for name, meaning, formula, unit in (
            ("session_impressions", "impressions of this visit so far", f"ln(1 + impressions), {none}", ""),
            ("session_minutes", "length of this visit so far", f"ln(1 + minutes), {none}", "ln minutes"),
            (
                "session_positive", "share of interactions in this visit so far",
                "(count + 2·prior) / (impressions + 2)", "share",
            ),
            (
                "since_visit", "time since the last visit ended", "ln(1 + minutes since then), a year where never",
                "ln minutes ago",
            ),
        ):
            yield Feature(f"user_{name}", "context", "user", name, meaning, formula, "positive", gap, unit=unit)

    def compute(self, features: Features, rows: AsOf) -> Values:
        visits = visits_as_of(rows)
        for f in features:
            yield f.name, _value(visits, f, rows.time, rows.read(PRIOR))

    def freeze(self, features: Features, inputs: SnapshotInputs) -> Arrays:
        gap = session_gap(inputs.past.spec.config)
        times, counts = Visits.of(inputs.users, inputs.past.column("positive"), gap).arrays()
        return {"times": times, "counts": counts}

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        visits, prior = served_visits(request), request.of_user(PRIOR)
        for f in features:
            yield f.name, _value(visits, f, request.now, prior)


def served_visits(request: Request) -> Visits:
    """The latest visit of each request's user, as the snapshot keeps it."""
    held = request.frozen.arrays["sessions"]
    return Visits.held(held["times"], held["counts"], request.users)


def _value(visits: Visits, f: Feature, now: np.ndarray | int, prior: np.ndarray | None) -> np.ndarray:
    """now: int64[n] or one moment, µs. prior: float32[n] log-odds of an interaction."""
    current = visits.current(now, f.span)
    if f.measure == "since_visit":
        return formulas.recency(now, np.where(current, visits.previous, visits.last))
    if f.measure == "session_impressions":
        return formulas.size(np.where(current, visits.shown, 0))
    if f.measure == "session_minutes":
        return np.where(current, formulas.recency(now, np.where(current, visits.start, now)), 0)
    assert prior is not None  # `needs` sees to it
    none = np.float32(0)
    return formulas.share(np.where(current, visits.positive, none), np.where(current, visits.shown, none), prior)
