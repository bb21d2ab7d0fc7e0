"""Hour and weekday of the request."""

from __future__ import annotations

from recsys_cli.data.schema import DAY
from recsys_cli.features import formulas
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Request, Served, Values
from recsys_cli.features.spec import Definitions, Feature, Features

_WAVES = ("sine", "cosine")


class Clock(FeatureFamily):
    """The place of the moment in the day and in the week, as points on circles."""

    name = "clock"

    def define(self, facts: DatasetFacts) -> Definitions:
        for name, of, period in (("hour", "day", DAY), ("weekday", "week", 7 * DAY)):
            for wave in _WAVES:
                yield Feature(
                    f"{name}_{wave}", "context", "context", wave, f"time of the {of}",
                    f"{wave} of the place in the {of}, UTC", span=period,
                )

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            yield f.name, formulas.cycle(rows.time, f.span)[_WAVES.index(f.measure)]

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in features:
            yield f.name, formulas.cycle(request.now, f.span)[_WAVES.index(f.measure)]
