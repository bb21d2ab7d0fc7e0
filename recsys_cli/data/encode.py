"""Tables of a dataset into the arrays of a Catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.digest import hash_array
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import SAFETY_COLUMNS

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset

MAX_CATEGORIES = 10_000
"""A text attribute with more values than this is free text or an id, not a category: it is left out."""
_CORE = {"user_id", "item_id", "author_id", "created_at", "text", "topics", *SAFETY_COLUMNS}
_WORD = r"[#@]?[\p{L}\p{N}_']+"


def encode_catalogue(dataset: Dataset) -> Catalogue:
    """Every column of `users` and `items` as arrays; names of codes are sorted, so that they depend on the
    data alone."""
    names: dict[str, list[str]] = dict(dataset.categories)
    user_codes, user_numbers = _attributes(dataset.users, "user", names)
    topic_names = _topic_names(dataset.items)
    if topic_names is not None:
        names["topics"] = topic_names
    item = encode_items(dataset.items, dataset.item_author, names)
    authors = dataset.author_ids
    if dataset.manifest.authors_are_users:
        author_user = np.arange(len(authors), dtype=np.int32)
    else:
        author_user = np.full(len(authors), -1, np.int32)
    return Catalogue(
        n_users=dataset.users.height,
        n_authors=len(authors),
        author_user=author_user,
        user_created=_times(dataset.users),
        user_codes=user_codes,
        user_numbers=user_numbers,
        names=names,
        before=_before(dataset),
        **item,
    )


def _before(dataset: Dataset) -> dict[str, Ragged]:
    """Items of each user by action from the table `history`; rows of unknown users and items are left out."""
    from recsys_cli.data.dataset import lookup

    frame = dataset.table("history")
    if frame is None:
        return {}
    frame = frame.select(
        pl.Series("user", lookup(dataset.user_ids, frame["user_id"])),
        pl.Series("item", lookup(dataset.item_ids, frame["item_id"])),
        pl.col("action").cast(pl.String),
        "rank",
    ).filter((pl.col("user") >= 0) & (pl.col("item") >= 0))
    return {
        action: Ragged.group(rows["user"].to_numpy(), rows["item"].to_numpy(), dataset.users.height)
        for (action,), rows in sorted(frame.sort("user", "rank").partition_by("action", as_dict=True).items())
    }


def encode_items(items: pl.DataFrame, author: np.ndarray, names: dict[str, list[str]]) -> dict:
    """The item fields of a Catalogue. Names already in `names` are kept, others are added to it."""
    codes, numbers = _attributes(items, "item", names)
    safety = {
        c: items[c].cast(pl.Float32).fill_null(float("nan")).to_numpy() for c in SAFETY_COLUMNS if c in items.columns
    }
    return {
        "item_author": author,
        "item_created": _times(items),
        "item_topics": _topics(items, names),
        "item_text": _text(items),
        "item_codes": codes,
        "item_numbers": numbers,
        "item_safety": safety,
    }


def _times(frame: pl.DataFrame) -> np.ndarray:
    if "created_at" not in frame.columns:
        return np.zeros(frame.height, np.int64)
    return frame["created_at"].cast(pl.Datetime("us")).cast(pl.Int64).fill_null(0).to_numpy()


def _attributes(frame: pl.DataFrame, group: str, names: dict[str, list[str]]) -> tuple[dict, dict]:
    codes, numbers = {}, {}
    for column in frame.columns:
        if column in _CORE:
            continue
        series = frame[column]
        kind = series.dtype
        if kind.is_numeric() or kind == pl.Boolean:
            numbers[column] = series.cast(pl.Float32).fill_null(float("nan")).to_numpy()
        elif kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
            key, series = f"{group}.{column}", series.cast(pl.String)
            if key not in names:
                values = series.drop_nulls().unique().sort().to_list()
                if len(values) > MAX_CATEGORIES:
                    continue
                names[key] = values
            codes[column] = _codes(series, names[key])
    return codes, numbers


def _codes(series: pl.Series, names: list[str]) -> np.ndarray:
    if not names:
        return np.full(len(series), -1, np.int32)
    codes = pl.Series(range(len(names)), dtype=pl.Int32)
    return series.replace_strict(pl.Series(names), codes, default=None, return_dtype=pl.Int32).fill_null(-1).to_numpy()


def _topic_names(items: pl.DataFrame) -> list[str] | None:
    if "topics" not in items.columns:
        return None
    return items["topics"].explode().drop_nulls().cast(pl.String).unique().sort().to_list()


def _topics(items: pl.DataFrame, names: dict[str, list[str]]) -> Ragged:
    if "topics" not in items.columns:
        return Ragged.empty(items.height)
    lists = items["topics"].fill_null([])
    values = _codes(lists.explode(empty_as_null=False).cast(pl.String), names["topics"])
    flat = Ragged(offsets_of(lists.list.len().to_numpy().astype(np.int64)), values)
    return Ragged.group(np.where(values >= 0, flat.rows, -1), values, items.height).sorted_rows()


def _text(items: pl.DataFrame) -> Ragged:
    if "text" not in items.columns:
        return Ragged.empty(items.height)
    words = items["text"].cast(pl.String).fill_null("").str.to_lowercase().str.extract_all(_WORD)
    flat = words.explode(empty_as_null=False)
    unique = flat.unique()
    bucket = (hash_array(unique.to_arrow()) % np.uint64(TEXT_BUCKETS)).astype(np.int32)
    values = flat.replace_strict(unique, pl.Series(bucket), return_dtype=pl.Int32).to_numpy() if len(flat) else bucket
    return Ragged(offsets_of(words.list.len().to_numpy().astype(np.int64)), values).sorted_rows()
