"""Slates of any number of systems as arrays over one vocabulary of users and items, beside what was right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError
from recsys_cli.evaluation.day_intervals import UserDays


@dataclass(frozen=True)
class Judged:
    """Lists of several systems for the same users, and what these turned to."""

    users: pl.Series
    """ids of the U users with something to find, ascending"""
    items: pl.Series
    """ids of all N items that anything names"""
    relevant: Ragged
    """int32 positions of what each user turned to, ascending"""
    gains: np.ndarray
    """float64 beside `relevant.values`, above 0"""
    lists: dict[str, np.ndarray]
    """system → int32[U, K], best first, -1 in empty slots, no item twice in a row"""
    counts: dict[str, dict[str, int]]
    """system → what was found wrong with its rows; see `tell`"""
    truth_counts: dict[str, int] = field(default_factory=dict)
    owner: np.ndarray | None = None
    """int64[rows of lists and of `relevant`] the place in `users` whose session each row is; None: a row a user"""

    session: np.ndarray | None = None
    """int64[rows] the place of each row's session among the distinct ones, ascending"""
    by_day: bool = False
    """whether sessions are days, whose differences are then counted in intervals"""

    @property
    def user_days(self) -> UserDays | None:
        """The clusters of intervals over users and days; None where days do not count."""
        return UserDays(self.owner, self.session) if self.by_day else None

    def of_users(self, values: np.ndarray) -> np.ndarray:
        """float64[U, …] means over the sessions of each user of values float64[rows, …], NaN left out."""
        if self.owner is None:
            return values
        flat = values.reshape(len(values), -1)
        known = np.isfinite(flat)
        sums = np.zeros((2, len(self.users), flat.shape[1]))
        np.add.at(sums[0], self.owner, np.where(known, flat, 0.0))
        np.add.at(sums[1], self.owner, known)
        with np.errstate(invalid="ignore", divide="ignore"):
            return (sums[0] / sums[1]).reshape(len(self.users), *values.shape[1:])

    @property
    def graded(self) -> bool:
        """Whether one relevant item is worth more than another."""
        return bool(len(self.gains)) and bool((self.gains != self.gains[0]).any())

    def matched(self, name: str) -> np.ndarray:
        """float64[U, K] gain of the item in each slot, 0 where it is not relevant."""
        return matched_gains(self.lists[name], self.relevant, self.gains)

    def ideal(self, k: int) -> np.ndarray:
        """float64[U, k] the highest gains of each user, descending, 0 behind them."""
        out = np.zeros((len(self.relevant), k))
        rows = self.relevant.rows
        order = np.lexsort((-self.gains, rows))
        slot = np.arange(len(order)) - np.repeat(self.relevant.offsets[:-1], self.relevant.lengths)
        kept = slot < k
        out[rows[kept], slot[kept]] = self.gains[order][kept]
        return out


def matched_gains(items: np.ndarray, relevant: Ragged, gains: np.ndarray) -> np.ndarray:
    """float64[U, K] gain of each slot of `items`, int32[U, K]: 0 where it is empty or not relevant.

    relevant: ascending items by row. gains: float64 beside its values.
    """
    out = np.zeros(items.shape)
    if not len(relevant.values) or not items.size:
        return out
    width = np.int64(max(int(items.max(initial=0)), int(relevant.values.max()))) + 2
    keys = relevant.rows.astype(np.int64) * width + relevant.values
    for start in range(0, len(items), 8192):  # so that the keys of ten million slots never stand beside one another
        part = items[start : start + 8192]
        wanted = np.arange(start, start + len(part))[:, None] * width + part
        at = np.minimum(np.searchsorted(keys, wanted.ravel()), len(keys) - 1).reshape(part.shape)
        out[start : start + 8192] = np.where((keys[at] == wanted) & (part >= 0), gains[at], 0.0)
    return out


def pack(slates: Mapping[str, pl.DataFrame], truth: pl.DataFrame, k: int, items: pl.Series | None = None) -> Judged:
    """Arrays of slates and of what was right.

    slates: name → columns user, item and, where there are, rank and score (see `read.read_slates`). Lists are ordered
    by rank, else by score, else as the rows stand; equal ranks or scores keep the order of the rows. truth: user, item
    and maybe relevance. k: lists are cut there. items: ids of the catalogue, so that it counts in coverage whole.

    Users without anything relevant are left out, users without a list have an empty one, and a further row of the
    same user and item is left out; all are counted. Raises DataError where nothing is relevant.
    """
    frames, ids = _same_kinds({"truth": truth, **{f"slates {n}": f for n, f in slates.items()}}, items)
    truth, told = _clean_truth(frames.pop("truth"))
    users = truth["user"].unique().sort()
    parts = [truth["item"], *(frame["item"].unique() for frame in frames.values())]
    known = pl.concat([*parts, ids] if ids is not None else parts).drop_nulls().unique().sort()
    user_at = pl.DataFrame({"user": users, "u": np.arange(len(users), dtype=np.int32)})
    item_at = pl.DataFrame({"item": known, "i": np.arange(len(known), dtype=np.int32)})
    placed = truth.join(user_at, on="user").join(item_at, on="item").sort("u", "i")
    relevant = Ragged.group(placed["u"].to_numpy(), placed["i"].to_numpy(), len(users))
    lists, counts = {}, {}
    for name, frame in zip(slates, frames.values(), strict=True):
        lists[name], counts[name] = _lists(frame, user_at, item_at, k)
        if ids is not None:
            counts[name]["items that the catalogue does not know"] = (
                frame["item"].drop_nulls().unique().is_in(ids.implode()).not_().sum()
            )
    gains = placed["relevance"].to_numpy().astype(float)
    return Judged(users, known, relevant, gains, lists, counts, told)


def _same_kinds(
    frames: dict[str, pl.DataFrame], items: pl.Series | None
) -> tuple[dict[str, pl.DataFrame], pl.Series | None]:
    """Ids as whole numbers where all are, else as text: CSV gives text where Parquet gives numbers."""
    for column in ("user", "item"):
        kinds = [frame.schema[column] for frame in frames.values()]
        if column == "item" and items is not None:
            kinds.append(items.dtype)
        kind = pl.Int64 if all(k.is_integer() for k in kinds) else pl.String
        for name, frame in frames.items():
            if not (frame.schema[column].is_integer() or frame.schema[column] in (pl.String, pl.Categorical, pl.Enum)):
                raise DataError(
                    f"{name}, column {column}: ids are whole numbers or text, not {frame.schema[column]}",
                    "write the ids as they are in the other table",
                )
        frames = {n: f.with_columns(pl.col(column).cast(kind)) for n, f in frames.items()}
        if column == "item" and items is not None:
            items = items.cast(kind)
    return frames, items


def _clean_truth(truth: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    rows = truth.height
    if "relevance" not in truth.columns:
        truth = truth.with_columns(relevance=pl.lit(1.0))
    truth = truth.with_columns(pl.col("relevance").cast(pl.Float64))
    whole = truth.drop_nulls().filter(pl.col("relevance").is_finite())
    positive = whole.filter(pl.col("relevance") > 0)
    kept = positive.group_by("user", "item").agg(pl.col("relevance").max())
    told = {
        "rows of the truth without id or relevance": rows - whole.height,
        "rows of the truth that repeat another": positive.height - kept.height,
        "users with nothing relevant": whole["user"].n_unique() - kept["user"].n_unique(),
    }
    if not kept.height:
        raise DataError("the truth holds no relevant item", "a relevance above 0 marks what is relevant")
    return kept, told


def _lists(
    frame: pl.DataFrame, user_at: pl.DataFrame, item_at: pl.DataFrame, k: int
) -> tuple[np.ndarray, dict[str, int]]:
    """int32[U, ≤ k] of one system, and what was found wrong with its rows."""
    rows, users = frame.height, frame["user"].n_unique() - (frame["user"].null_count() > 0)
    frame = frame.drop_nulls(["user", "item"])
    counts = {"rows without user or item": rows - frame.height}
    frame = frame.join(user_at, on="user", maintain_order="left").join(item_at, on="item", maintain_order="left")
    u, i = frame["u"].to_numpy(), frame["i"].to_numpy()
    listed = np.bincount(u, minlength=len(user_at))
    counts["users without anything to find"] = users - int((listed > 0).sum())
    counts["users without a list"] = int((listed == 0).sum())
    order, unordered, ties = _order(frame, u)
    counts |= {"rows without rank or score": unordered, "ties": ties}
    u, i = u[order], i[order]
    width = int(listed.max(initial=0))
    packed = np.full((len(user_at), width), -1, np.int32)
    packed[u, np.arange(len(u)) - (np.cumsum(listed) - listed)[u]] = i
    packed, counts["rows of an item that the list has"] = _each_once(packed)
    return packed[:, :k], counts


def _order(frame: pl.DataFrame, u: np.ndarray) -> tuple[np.ndarray, int, int]:
    """int64[n] the rows by user and place, how many have neither rank nor score, and how many tie with another."""
    by = next((column for column in ("rank", "score") if column in frame.columns), None)
    if by is None:
        return np.argsort(u, kind="stable"), 0, 0
    value = frame[by].cast(pl.Float64).fill_null(np.nan).to_numpy()
    value = value if by == "rank" else -value
    unknown = int(np.isnan(value).sum())
    if len(u) > 1 and not unknown:
        same = u[1:] == u[:-1]
        in_place = bool((u[1:] >= u[:-1]).all() and (value[1:] >= value[:-1])[same].all())
    else:
        in_place = False
    order = np.arange(len(u)) if in_place else np.lexsort((value, u))  # NaN stands last
    ordered, value = u[order], value[order]
    return order, unknown, int(((ordered[1:] == ordered[:-1]) & (value[1:] == value[:-1])).sum())


def _each_once(packed: np.ndarray) -> tuple[np.ndarray, int]:
    """The same lists with the first of each item alone, and how many further ones were left out."""
    doubled = []
    for start in range(0, len(packed), 8192):
        ordered = np.sort(packed[start : start + 8192], axis=1)
        again = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
        doubled.append(start + np.flatnonzero(again.any(axis=1)))
    left_out = 0
    for row in np.concatenate(doubled) if doubled else ():
        items = packed[row][packed[row] >= 0]
        kept = items[np.sort(np.unique(items, return_index=True)[1])]
        packed[row] = -1
        packed[row, : len(kept)] = kept
        left_out += len(items) - len(kept)
    return packed, left_out
