"""Whether it is weekend, and how much of what a user saw fell on weekends."""

import numpy as np

from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Request
from recsys_cli.features.spec import Feature

DAY = 86_400_000_000


def weekend(time):
    """True on Saturdays and Sundays, UTC. time: µs since 1970, which began on a Thursday."""
    return (np.asarray(time) // DAY + 3) % 7 >= 5


class Weekend(FeatureFamily):
    name = "weekend"

    def define(self, facts: DatasetFacts):
        yield Feature("is_weekend", "context", "context", "now", "the request comes at a weekend", "1 or 0")
        yield Feature(
            "user_weekend_share", "user", "user", "share", "share of the user's impressions that fell on weekends",
            "(impressions at weekends + 2) / (impressions + 7)", unit="share",
        )

    def compute(self, features: list[Feature], rows: AsOf):
        for f in features:
            if f.measure == "now":
                yield f.name, weekend(rows.time)
            else:
                past = rows.view("user")  # what each row's user saw strictly before the row's moment
                yield f.name, (past.sum(weekend(rows.past.log.time)) + 2) / (past.shown() + 7)

    def serve(self, features: list[Feature], request: Request, held):
        for f in features:
            if f.measure == "now":
                yield f.name, weekend(request.now)
