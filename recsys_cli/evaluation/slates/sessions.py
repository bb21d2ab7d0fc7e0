"""Lists judged session by session: what was taken in a session, by the list of that session or of its user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from recsys_cli.errors import DataError
from recsys_cli.evaluation.slates.pack import Judged, pack


def pack_sessions(
    slates: Mapping[str, pl.DataFrame], truth: pl.DataFrame, k: int, items: pl.Series | None = None
) -> Judged:
    """As `pack`, a row a session; figures of a user are then means over their sessions (`Judged.of_users`).

    truth: with a column session. slates: those with such a column are of that session, others of all sessions of their
    user. Raises DataError where the truth has no sessions.
    """
    if "session" not in truth.columns:
        raise DataError("the truth has no column session_id", "name each row's session, or leave out --per-session")
    truth = truth.drop_nulls(["user", "session"])
    whole = all(f.schema["user"].is_integer() for f in (truth, *slates.values()))
    keys = {"user": pl.Int64 if whole else pl.String, "session": pl.String}
    truth = truth.with_columns(pl.col(n).cast(kind) for n, kind in keys.items())
    sessions = truth.select("user", "session").unique().sort("user", "session").with_row_index("row")
    sessions = sessions.with_columns(pl.col("row").cast(pl.Int64))
    placed, without = {}, {}
    for name, frame in slates.items():
        on = [n for n in ("user", "session") if n in frame.columns]
        frame = frame.with_columns(pl.col(n).cast(keys[n]) for n in on).drop_nulls("user")
        joined = frame.join(sessions, on=on, how="left", maintain_order="left")
        unmatched = joined.filter(pl.col("row").is_null())
        without[name] = unmatched.select(on).n_unique() if unmatched.height else 0
        placed[name] = joined.filter(pl.col("row").is_not_null()).drop(on).rename({"row": "user"})
    rows = truth.join(sessions, on=["user", "session"]).drop("user", "session").rename({"row": "user"})
    judged = pack(placed, rows, k, items)
    kept = sessions[judged.users.cast(pl.UInt32)]
    users = kept["user"].unique().sort()
    owner = np.searchsorted(np.arange(len(users)), kept["user"].rank("dense").to_numpy() - 1)
    session = kept["session"].rank("dense").to_numpy().astype(np.int64) - 1
    counts = {
        name: {what.replace("users", "sessions"): n for what, n in told.items()}
        | {"users or sessions without anything to find": without[name]}
        for name, told in judged.counts.items()
    }
    told = {what.replace("users", "sessions"): n for what, n in judged.truth_counts.items()}
    return replace(judged, users=users, owner=owner, session=session, counts=counts, truth_counts=told)
