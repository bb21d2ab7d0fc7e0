"""What was served and what came of it: one row an item of an answer, for experiments and off-policy estimates.

An outcome belongs to an answer by its request, user and item, and to no other: that is what the request's id is for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from recsys_cli.serving.event_log import read_log
from recsys_cli.serving.fold_table import fold_of, table_of

if TYPE_CHECKING:
    import polars as pl


def served_table(log: str | os.PathLike, actions: tuple[str, ...]) -> pl.DataFrame:
    """Every item that the answers of a log held, in their order, with what the user did with it.

    Columns: request_id, user_id, timestamp (of the answer), run, arm, position, item_id, propensity, source, shown
    (an event told of the item), one Boolean a column of `actions`, dwell_seconds. An answer that is logged twice stands
    once. Raises DataError where the folder holds no log.
    """
    import polars as pl

    answers: dict[tuple[str, str], tuple[int, object]] = {}
    for entry in read_log(log):
        event = entry.event
        if event.type == "served":
            answers.setdefault((event.request_id, event.user_id), (event.timestamp, event.served))
    rows = [
        (
            request, user, time, served.run, served.arm, place, item,
            served.propensities[place] if place < len(served.propensities) else None,
            served.sources[place] if place < len(served.sources) else None,
        )
        for (request, user), (time, served) in answers.items()
        for place, item in enumerate(served.items)
    ]
    schema = {
        "request_id": pl.String, "user_id": pl.String, "timestamp": pl.Int64, "run": pl.String, "arm": pl.String,
        "position": pl.Int64, "item_id": pl.String, "propensity": pl.Float32, "source": pl.String,
    }
    table = pl.DataFrame(rows, schema=schema, orient="row")
    table = table.with_columns(pl.col("timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))
    outcomes = table_of(fold_of(log, actions)).filter(pl.col("request_id").is_not_null())
    keys = ["request_id", "user_id", "item_id"]
    # an action that came after its impression was settled stands in a row of its own
    told = outcomes.group_by(keys, maintain_order=True).agg(
        *(pl.col(action).any() for action in actions), pl.col("dwell_seconds").max()
    )
    table = table.join(told.with_columns(shown=True), on=keys, how="left", maintain_order="left")
    filled = [pl.col(name).fill_null(False) for name in ("shown", *actions)]
    return table.with_columns(filled).select(*schema, "shown", *actions, "dwell_seconds")
