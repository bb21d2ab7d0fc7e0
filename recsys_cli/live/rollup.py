"""Counts of a day, from which every figure of the monitor follows; kept as one small Parquet file a day.

    artifacts/monitor/days/2026-11-28.parquet     columns what, key, value

`what` and `key` name a count: ("action", "click"), ("source", "als"), ("bin.surface", "feed"). The counts of a day are
made from the log as long as it holds the whole day; a day from which the log was trimmed keeps what was written.
"""

from __future__ import annotations

import datetime as dt
import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from recsys_cli.errors import DataError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

Day = dict[tuple[str, str], float]
"""(what, key) → count."""
DWELL_EDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
AGE_EDGES = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0)
"""Seconds and days at which the bins of dwell time and of the age of items begin."""
DEEPEST = 20
"""Places from this one on share a bin."""


@dataclass(frozen=True)
class Rows:
    """What a log tells, as tables."""

    shown: pl.DataFrame
    """impressions in the columns of `serving.segments.table_of`"""
    served: pl.DataFrame
    """items of answers in the columns of `serving.served.served_table`"""
    trimmed: bool
    """whether the log no longer begins at its beginning"""


def rows_of_log(log: str | os.PathLike, actions: tuple[str, ...]) -> Rows:
    """Read a log. Raises DataError where the folder holds none."""
    from recsys_cli.serving.event_log import read_log
    from recsys_cli.serving.export import fold_of
    from recsys_cli.serving.segments import table_of
    from recsys_cli.serving.served import served_table

    first = next(iter(read_log(log)), None)
    shown = _once(table_of(fold_of(log, actions)), actions)
    return Rows(shown, served_table(log, actions), first is not None and first.offset > 1)


def _once(shown: pl.DataFrame, actions: tuple[str, ...]) -> pl.DataFrame:
    """One row for each item of each answer: what came after an impression was settled joins it."""
    keys = ["request_id", "user_id", "item_id"]
    asked = pl.col("request_id").is_not_null()
    others = [c for c in shown.columns if c not in (*keys, *actions, "timestamp", "dwell_seconds")]
    joined = shown.filter(asked).group_by(keys, maintain_order=True).agg(
        pl.col("timestamp").min(), pl.col("dwell_seconds").max(), *(pl.col(a).any() for a in actions),
        *(pl.col(c).drop_nulls().first() for c in others),
    )
    return pl.concat([joined.select(shown.columns), shown.filter(~asked)])


@dataclass
class Described:
    """Ids as texts → what a dataset knows of them, and what is to be counted."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    items: pl.DataFrame
    """item_id (text), maybe created_at, topic, media_type, language"""
    users: pl.DataFrame
    """user_id (text), maybe country"""
    fallback: frozenset[str] = frozenset()
    """sources that fill where others find nothing"""
    n_items: int = 0

    @classmethod
    def of(cls, dataset: Dataset, fallback: tuple[str, ...] = ()) -> Described:
        actions = dataset.manifest.actions
        items = dataset.items
        kept = [pl.col("item_id").cast(pl.String)]
        kept += [pl.col(c) for c in ("created_at", "media_type", "language") if c in items.columns]
        if "topics" in items.columns:
            kept.append(pl.col("topics").list.first().cast(pl.String).alias("topic"))
        users = dataset.users
        known = [pl.col("user_id").cast(pl.String)] + [pl.col(c) for c in ("country",) if c in users.columns]
        return cls(
            tuple(a for a, info in actions.items() if info.polarity == "positive"),
            tuple(a for a, info in actions.items() if info.polarity == "negative"),
            items.select(kept), users.select(known), frozenset(fallback), items.height,
        )

    @property
    def actions(self) -> tuple[str, ...]:
        return (*self.positive, *self.negative)


@dataclass
class Rollup:
    """Days and what was left out of them."""

    days: dict[dt.date, Day] = field(default_factory=dict)
    bots: dict[dt.date, list[str]] = field(default_factory=dict)
    """people who were shown more in a day than a person sees"""


def roll_up(rows: Rows, described: Described, bot_events: int) -> Rollup:
    """The counts of every day that the rows tell of."""
    out = Rollup()
    shown = rows.shown.filter(pl.col("user_id").is_not_null()).with_columns(day=pl.col("timestamp").dt.date())
    served = rows.served.filter(pl.col("user_id").is_not_null()).with_columns(day=pl.col("timestamp").dt.date())
    heavy = shown.group_by("day", "user_id").len().filter(pl.col("len") > bot_events)
    for day, user, _ in heavy.sort("day", "user_id").iter_rows():
        out.bots.setdefault(day, []).append(user)
    shown = shown.join(heavy, on=["day", "user_id"], how="anti", maintain_order="left")
    served = served.join(heavy, on=["day", "user_id"], how="anti", maintain_order="left")
    for day in sorted({*shown["day"].unique(), *served["day"].unique()}):
        today = counts_of_shown(shown.filter(pl.col("day") == day), described)
        today |= counts_of_served(served.filter(pl.col("day") == day), described)
        today["bots", ""] = float(len(out.bots.get(day, ())))
        out.days[day] = today
    return out


def counts_of_shown(shown: pl.DataFrame, described: Described) -> Day:
    """Counts of impressions: of actions, dwell time, people, and bins of what drifts."""
    found: Day = {("shown", ""): float(shown.height), ("users", ""): float(shown["user_id"].n_unique())}
    actions = [a for a in described.actions if a in shown.columns]
    for action in actions:
        found["action", action] = float(shown[action].sum())
    for name, group in (("positive", described.positive), ("negative", described.negative)):
        of = [pl.col(a) for a in group if a in shown.columns]
        found[name, ""] = float(shown.select(pl.any_horizontal(of).sum()).item()) if of and shown.height else 0.0
    if "dwell_seconds" in shown.columns:
        dwell = shown["dwell_seconds"].drop_nulls().drop_nans()
        found |= {("dwell_sum", ""): float(dwell.sum()), ("dwell_rows", ""): float(len(dwell))}
    for feature, bins in binned(shown, described).items():
        counts = bins.drop_nulls().value_counts(name="n")
        found |= {(f"bin.{feature}", str(b)): float(n) for b, n in counts.iter_rows()}
    return found


def binned(shown: pl.DataFrame, described: Described) -> dict[str, pl.Series]:
    """Feature → the bin of each row, null where it is unknown."""
    ids = shown.select(pl.col("item_id").cast(pl.String), pl.col("user_id").cast(pl.String), "timestamp")
    known = ids.join(described.items, on="item_id", how="left", maintain_order="left")
    known = known.join(described.users, on="user_id", how="left", maintain_order="left")
    out = {c: known[c].cast(pl.String) for c in ("topic", "media_type", "language", "country") if c in known.columns}
    for name in ("surface", "device"):
        if name in shown.columns:
            out[name] = shown[name].cast(pl.String)
    if "created_at" in known.columns:
        days = (known["timestamp"] - known["created_at"]).dt.total_seconds() / 86_400
        out["item_age_days"] = _between(days, AGE_EDGES)
    if "position" in shown.columns:
        out["position"] = shown["position"].clip(0, DEEPEST).cast(pl.String)
    if "dwell_seconds" in shown.columns:
        out["dwell_seconds"] = _between(shown["dwell_seconds"], DWELL_EDGES)
    return {name: bins for name, bins in out.items() if bins.null_count() < len(bins)}


def _between(values: pl.Series, edges: tuple[float, ...]) -> pl.Series:
    """The bin of each number, named by where it begins; null where it is unknown."""
    numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    names = pl.Series([f"under {edges[0]:g}", *(f"from {e:g}" for e in edges), None], dtype=pl.String)
    at = np.searchsorted(edges, numbers, side="right")
    return names.gather(np.where(np.isnan(numbers), len(edges) + 1, at))


def counts_of_served(served: pl.DataFrame, described: Described) -> Day:
    """Counts of answers: requests, items, how many of the catalogue, and what proposed them."""
    found: Day = {
        ("requests", ""): float(served["request_id"].n_unique()), ("served", ""): float(served.height),
        ("served_items", ""): float(served["item_id"].n_unique()), ("catalogue", ""): float(described.n_items),
    }
    sources = served["source"].drop_nulls()
    each = sources.str.split("+").explode()
    for source, n in each.filter(each != "").value_counts(name="n").iter_rows():
        found["source", source] = float(n)
    names = sources.unique().to_list()
    alone = [n for n in names if n and described.fallback.issuperset(n.split("+"))]
    found["fallback", ""] = float(sources.is_in(alone).sum())
    found["sourced", ""] = float(len(sources))
    return found


class DayStore:
    """The days below an artifacts folder."""

    def __init__(self, artifacts: str | os.PathLike):
        self.folder = Path(artifacts) / "monitor" / "days"

    def read(self) -> dict[dt.date, Day]:
        """Every day that was kept. Raises DataError naming a file that cannot be read."""
        out = {}
        for path in sorted(self.folder.glob("????-??-??.parquet")) if self.folder.is_dir() else ():
            try:
                day, table = dt.date.fromisoformat(path.stem), pl.read_parquet(path)
                out[day] = {(what, key): value for what, key, value in table.iter_rows()}
            except (ValueError, pl.exceptions.PolarsError) as error:
                first = str(error).splitlines()[0]
                raise DataError(f"{path} cannot be read: {first}", "remove it: it is made again from the log") from None
        return out

    def update(self, days: dict[dt.date, Day], *, trimmed: bool) -> dict[dt.date, Day]:
        """Keep days that were counted anew, and return all. trimmed: of the first one, part may be missing."""
        from recsys_cli.files import write_bytes

        kept = self.read()
        first = min(days, default=None)
        for day, counts in days.items():
            if counts == kept.get(day) or (trimmed and day == first and day in kept):
                continue
            kept[day] = counts
            rows = [(what, key, value) for (what, key), value in sorted(counts.items())]
            table = pl.DataFrame(rows, orient="row", schema={"what": pl.String, "key": pl.String, "value": pl.Float64})
            buffer = io.BytesIO()
            table.write_parquet(buffer, compression="zstd")
            self.folder.mkdir(parents=True, exist_ok=True)
            write_bytes(self.folder / f"{day}.parquet", buffer.getvalue())
        return dict(sorted(kept.items()))
