"""What is known of items and users beside the lists: topics, authors, who touched what, ages, vectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import DataError

TOPICS = ("topics", "topic", "tags", "genres", "genre", "category", "categories")
AUTHORS = ("author_id", "author", "provider", "creator", "artist", "seller")
CREATED = ("created_at", "published_at", "created", "published")
TEXTS = ("title", "name", "text", "description")
SENTIMENT = "sentiment"
"""The column of items, negative below 0 and positive above, whose mean over a list is measured."""
SEPARATORS = r"[;|,]"


@dataclass(frozen=True)
class Facts:
    """Facts about the N items of a `Judged` and attributes of its U users; what is unknown is None."""

    open: np.ndarray
    """bool[N] items that a list could hold"""
    topics: Ragged | None = None
    """int32 topic codes by item"""
    authors: np.ndarray | None = None
    """int32[N] author codes, -1 unknown"""
    author_names: list[Any] = field(default_factory=list)
    audience: np.ndarray | None = None
    """int64[N] people who interacted with each item before"""
    n_people: int = 0
    """who could have"""
    popularity: np.ndarray | None = None
    """float64[N] interactions before, NaN for items that no list could hold"""
    profile: np.ndarray | None = None
    """float64[U] mean `audience` of what each user had before, NaN without anything"""
    age_days: np.ndarray | None = None
    """float64[N] age of each item when the lists were made, NaN unknown"""
    vectors: np.ndarray | None = None
    """float32[N, D]"""
    unsafe: np.ndarray | None = None
    """float64[N] highest score of any safety classifier, NaN unknown"""
    sentiment: np.ndarray | None = None
    """float64[N] sentiment of each item as a column of that name tells it, NaN unknown"""
    texts: pl.Series | None = None
    """texts or titles of the items"""
    users: pl.DataFrame | None = None
    """attributes, a row for each of the U users"""

    @property
    def n_open(self) -> int:
        """How many items a list could hold."""
        return int(self.open.sum())


def facts_of_tables(
    users: pl.Series, items: pl.Series, *, item_table: pl.DataFrame | None = None,
    user_table: pl.DataFrame | None = None, history: pl.DataFrame | None = None,
) -> Facts:
    """From tables with columns user or item and whatever else they hold.

    history: interactions before the lists were made, columns user and item, from which novelty and popularity come.
    """
    known: dict[str, Any] = {"open": np.ones(len(items), bool)}
    if item_table is not None:
        table = item_table.with_columns(pl.col("item").cast(items.dtype)).unique("item", keep="first")
        beside = pl.DataFrame({"item": items}).join(table, on="item", how="left", maintain_order="left")
        known |= _of_items(beside)
    if history is not None:
        known |= _of_history(users, items, history)
    if user_table is not None:
        table = user_table.with_columns(pl.col("user").cast(users.dtype)).unique("user", keep="first")
        known["users"] = pl.DataFrame({"user": users}).join(table, on="user", how="left", maintain_order="left")
    return Facts(**known)


def _of_items(table: pl.DataFrame) -> dict[str, Any]:
    out: dict[str, Any] = {}
    topics = next((table[c] for c in TOPICS if c in table.columns), None)
    if topics is not None:
        lists = topics
        if not isinstance(topics.dtype, pl.List):
            text = topics.cast(pl.String).str.replace_all(SEPARATORS, "\x1f")
            lists = text.str.split("\x1f")
        exploded = pl.DataFrame({"i": np.arange(len(lists), dtype=np.int32), "t": lists}).explode("t")
        exploded = exploded.with_columns(pl.col("t").cast(pl.String).str.strip_chars())
        exploded = exploded.filter(pl.col("t").is_not_null() & (pl.col("t") != "")).unique(maintain_order=True)
        codes = exploded["t"].rank("dense").cast(pl.Int32) - 1
        out["topics"] = Ragged.group(exploded["i"].to_numpy(), codes.to_numpy(), len(lists))
    author = next((table[c] for c in AUTHORS if c in table.columns), None)
    if author is not None:
        names = author.drop_nulls().unique().sort()
        places = pl.DataFrame({"a": names, "c": np.arange(len(names), dtype=np.int32)})
        codes = pl.DataFrame({"a": author}).join(places, on="a", how="left", maintain_order="left")["c"]
        out |= {"authors": codes.fill_null(-1).to_numpy(), "author_names": names.to_list()}
    return out | described(table)


def described(table: pl.DataFrame) -> dict[str, Any]:
    """Texts and sentiment of the items of a table, where it has them."""
    out: dict[str, Any] = {}
    text = next((table[c] for c in TEXTS if c in table.columns), None)
    if text is not None:
        out["texts"] = text.cast(pl.String)
    if SENTIMENT in table.columns:
        out["sentiment"] = table[SENTIMENT].cast(pl.Float64, strict=False).fill_null(np.nan).to_numpy()
    return out


def _of_history(users: pl.Series, items: pl.Series, history: pl.DataFrame) -> dict[str, Any]:
    history = history.drop_nulls(["user", "item"])
    if not history.height:
        raise DataError("the history has no rows", "leave it out, or give the interactions before the lists were made")
    history = history.with_columns(pl.col("user").cast(users.dtype), pl.col("item").cast(items.dtype))
    at = pl.DataFrame({"item": items, "i": np.arange(len(items), dtype=np.int32)})
    rows = history.join(at, on="item")
    people = rows.unique(["user", "item"])
    audience = np.bincount(people["i"].to_numpy(), minlength=len(items))
    own = people.join(pl.DataFrame({"user": users, "u": np.arange(len(users), dtype=np.int32)}), on="user")
    u, touched = own["u"].to_numpy(), audience[own["i"].to_numpy()]
    n = np.bincount(u, minlength=len(users))
    with np.errstate(invalid="ignore", divide="ignore"):
        profile = np.where(n > 0, np.bincount(u, weights=touched, minlength=len(users)) / n, np.nan)
    return {
        "audience": audience, "n_people": history["user"].n_unique(), "profile": profile,
        "popularity": np.bincount(rows["i"].to_numpy(), minlength=len(items)).astype(float),
    }
