"""Tables of a dataset into the arrays of a Catalogue."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import polars as pl

from recsys_cli.data.catalogue import HASH_BITS, TEXT_BUCKETS, Catalogue, Columns
from recsys_cli.data.digest import hash_array
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import SAFETY_COLUMNS, SECOND, DatasetManifest
from recsys_cli.data.vocabulary import Vocabularies, lookup
from recsys_cli.errors import DataError

MAX_CATEGORIES = 10_000
"""A text attribute with more values than this is free text or an id, not a category."""
_CORE = {"user_id", "item_id", "author_id", "created_at", "text", "topics", *SAFETY_COLUMNS}
_WORD = r"[#@]?[\p{L}\p{N}_']+"


class Tables(Vocabularies, Protocol):
    """What a catalogue is made of: the tables of a dataset and its vocabularies."""

    manifest: DatasetManifest

    @property
    def users(self) -> pl.DataFrame: ...

    @property
    def items(self) -> pl.DataFrame: ...

    @property
    def item_author(self) -> np.ndarray: ...

    @property
    def categories(self) -> dict[str, list[str]]: ...

    def table(self, name: str) -> pl.DataFrame | None: ...


def encode_catalogue(dataset: Tables) -> Catalogue:
    """Every column of `users` and `items` as arrays; names of codes are sorted, so that they depend on the
    data alone."""
    names: dict[str, list[str]] = dict(dataset.categories)
    user_codes, user_numbers, user_columns = _attributes(dataset.users, "user", names)
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
        user_columns=user_columns,
        names=names,
        before=_before(dataset),
        **item,
    )


def _before(dataset: Tables) -> dict[str, Ragged]:
    """Items of each user by action from the table `history`; rows of unknown users and items are left out."""
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
    codes, numbers, columns = _attributes(items, "item", names)
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
        "item_columns": columns,
    }


def _times(frame: pl.DataFrame) -> np.ndarray:
    if "created_at" not in frame.columns:
        return np.zeros(frame.height, np.int64)
    return _microseconds(frame["created_at"])


def _microseconds(series: pl.Series) -> np.ndarray:
    """int64[n] µs since 1970, 0 where unknown."""
    return series.cast(pl.Datetime("us")).cast(pl.Int64).fill_null(0).to_numpy()


def _attributes(frame: pl.DataFrame, group: str, names: dict[str, list[str]]) -> tuple[dict, dict, Columns]:
    """Codes, numbers and columns of other kinds.

    Raises DataError naming a column that holds infinite numbers.
    """
    codes, numbers, columns = {}, {}, Columns()
    for column in frame.columns:
        if column in _CORE:
            continue
        series = frame[column]
        kind = series.dtype
        if kind == pl.Duration:
            series, kind = series.dt.total_microseconds() / SECOND, pl.Float64()
        if kind.is_numeric() or kind == pl.Boolean:
            numbers[column] = series.cast(pl.Float32).fill_null(float("nan")).to_numpy()
            _require_finite(np.isinf(numbers[column]), group, column)
        elif kind in (pl.String, pl.Categorical) or isinstance(kind, pl.Enum):
            key, series = f"{group}.{column}", series.cast(pl.String)
            if key not in names:
                values = series.drop_nulls().unique().sort().to_list()
                if len(values) > MAX_CATEGORIES:
                    columns.words[column] = hashed_words(series)
                    columns.hashes[column] = np.where(series.is_null().to_numpy(), np.int32(-1), _hashes(series))
                    continue
                names[key] = values
            codes[column] = _codes(series, names[key])
        elif kind in (pl.Date, pl.Datetime):
            columns.times[column] = _microseconds(series)
        else:
            _nested(series, group, columns)
    return codes, numbers, columns


def _nested(series: pl.Series, group: str, columns: Columns) -> None:
    """A list of words or ids, a vector, or a column of which nothing can be made."""
    name, kind = series.name, series.dtype
    inner = kind.inner if isinstance(kind, pl.List | pl.Array) else None
    if inner is not None and inner.is_numeric() and (isinstance(kind, pl.Array) or not inner.is_integer()):
        rows = series.cast(pl.List(pl.Float32))
        widths = rows.list.len().drop_nulls().unique().to_list()
        if len(widths) > 1:
            told = f"lists of {min(widths)} to {max(widths)} numbers"
            columns.refused[name] = f"{told}: a vector has the same length in every row"
            return
        columns.vectors[name] = _vectors(rows, widths[0] if widths else 0, group)
    elif inner is not None and (inner in (pl.String, pl.Categorical, pl.Boolean) or inner.is_integer()):
        rows = series.cast(pl.List(pl.String)).fill_null([])
        flat = rows.explode(empty_as_null=False)
        values = Ragged(offsets_of(rows.list.len().to_numpy().astype(np.int64)), _hashes(flat))
        known = np.where(flat.is_not_null().to_numpy(), values.rows, -1)
        columns.lists[name] = Ragged.group(known, values.values, len(rows)).sorted_rows()
    else:
        columns.refused[name] = f"of type {kind}: make numbers, text, dates or lists of numbers or words of it"


def _vectors(rows: pl.Series, width: int, group: str) -> np.ndarray:
    """float32[n, width] with NaN in every place of an unknown row."""
    known = rows.is_not_null().to_numpy()
    out = np.full((len(rows), width), np.nan, np.float32)
    out[known] = rows.drop_nulls().explode(empty_as_null=False).to_numpy().reshape(-1, width)
    _require_finite(~np.isfinite(out).all(axis=1) & known, group, rows.name)
    return out


def _require_finite(bad: np.ndarray, group: str, column: str) -> None:
    if bad.any():
        raise DataError(
            f"{group}s.parquet: column {column!r} holds numbers that are not finite in {int(bad.sum()):,} rows, "
            f"first in row {int(bad.argmax()) + 1:,}",
            "write null where a number is unknown, and import the dataset again",
        )


def _hashes(values: pl.Series) -> np.ndarray:
    """int32 of HASH_BITS bits of each text."""
    unique = values.unique()
    hashed = (hash_array(unique.to_arrow()) % np.uint64(2**HASH_BITS)).astype(np.int32)
    if not len(values):
        return hashed[:0]
    return values.replace_strict(unique, pl.Series(hashed), return_dtype=pl.Int32).to_numpy()


def hashed_names(names: list[str]) -> np.ndarray:
    """int32 hashes of the values of a list, as `Columns.lists` holds them."""
    return _hashes(pl.Series(names, dtype=pl.String))


def hashed_words(texts: pl.Series | list[str]) -> Ragged:
    """int32 hashes of the words and hashtags of each text, each once."""
    texts = pl.Series(texts, dtype=pl.String)
    words = texts.fill_null("").str.to_lowercase().str.extract_all(_WORD)
    hashes = _hashes(words.explode(empty_as_null=False))
    return Ragged(offsets_of(words.list.len().to_numpy().astype(np.int64)), hashes).sorted_rows()


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
    words = hashed_words(items["text"].cast(pl.String))
    return Ragged(words.offsets, words.values % np.int32(TEXT_BUCKETS)).sorted_rows()
