"""Columns that a dataset brings: what each becomes, by its type or as `features.columns` says, and its values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.data.catalogue import TEXT_BUCKETS, Catalogue
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.features.config import Becomes, ColumnConfig, FeatureConfig
from recsys_cli.features.spec import Column

MOST_NUMBERS = 32
"""A vector of more numbers is projected to so many, unless its `dims` says otherwise."""
_CHOICES: dict[str, tuple[Becomes, ...]] = {
    "number": ("number", "category"),
    "category": ("category", "text"),
    "text": ("text", "category"),
    "age": ("age",),
    "list": ("list",),
    "vector": ("vector",),
}
"""What a column is held as → what it can become, the first where nothing is said."""
HOLDS = {
    "number": "numbers", "category": "words of few values", "text": "free text", "age": "dates", "list": "lists",
    "vector": "vectors",
}
_SEED = 20_031
"""Of the random projections: the same for every dataset."""


def columns_of(config: FeatureConfig, catalogue: Catalogue) -> list[Column]:
    """Every column that becomes something; raises ConfigError where the settings do not fit the dataset."""
    return [c for side in ("user", "item") for c in _side(config, catalogue, side)]


def _side(config: FeatureConfig, catalogue: Catalogue, side: str) -> Iterator[Column]:
    held, refused = _held(catalogue, side), getattr(catalogue, f"{side}_columns").refused
    wanted, told = getattr(config, f"{side}_attributes"), getattr(config.columns, side)
    for where, names in ((f"{side}_attributes", wanted or ()), (f"columns.{side}", told)):
        for name in names:
            _require(f"features.{where}", side, name, held, refused)
    for name, form in held.items():
        own = told.get(name) or _unsaid(name, form, wanted)
        if own is None:
            continue
        becomes = own.becomes or _CHOICES[form][0]
        where = f"features.columns.{side}.{name}"
        if becomes not in (*_CHOICES[form], "nothing"):
            raise ConfigError(
                f"{where}: it holds {HOLDS[form]}, which cannot become {becomes!r}",
                f"it can become {', '.join(_CHOICES[form])} or nothing",
            )
        if becomes == "nothing":
            continue
        if side == "item" and own.compared_with is not None:
            raise ConfigError(f"{where}.compared_with: this is for columns of users", "set it on the user's column")
        yield Column(side, name, becomes, _dims(config, catalogue, side, name, becomes, own), own.compared_with)


def _unsaid(name: str, form: str, wanted: tuple[str, ...] | None) -> ColumnConfig | None:
    """What stands for a column that `columns` does not name; None where it becomes nothing."""
    if name in ("text", "topics"):  # items' own: words are a feature always, topics are counted over
        return ColumnConfig() if name == "text" else None
    named = form != "text" if wanted is None else name in wanted
    return ColumnConfig() if named else None


def _held(catalogue: Catalogue, side: str) -> dict[str, str]:
    """Name → what the column is held as, in a lasting order."""
    columns = getattr(catalogue, f"{side}_columns")
    numbers = [*getattr(catalogue, f"{side}_numbers"), *(catalogue.item_safety if side == "item" else ())]
    out = dict.fromkeys(numbers, "number") | dict.fromkeys(getattr(catalogue, f"{side}_codes"), "category")
    out |= dict.fromkeys(columns.times, "age") | dict.fromkeys(columns.lists, "list")
    if side == "item" and len(catalogue.item_topics.values):
        out["topics"] = "list"
    if side == "item" and len(catalogue.item_text.values):
        out["text"] = "text"
    return out | dict.fromkeys(columns.words, "text") | dict.fromkeys(columns.vectors, "vector")


def _require(where: str, side: str, name: str, held: dict[str, str], refused: dict[str, str]) -> None:
    if name in held:
        return
    if name in refused:
        raise ConfigError(f"{where}: {name!r} cannot become a feature: {refused[name]}", "change it before the import")
    raise ConfigError(
        f"{where}: {side}s have no attribute {name!r}",
        did_you_mean(name, held, "run `recsys data describe` for those they have"),
    )


def _dims(
    config: FeatureConfig, catalogue: Catalogue, side: str, name: str, becomes: Becomes, own: ColumnConfig
) -> int:
    if becomes == "vector":
        width = getattr(catalogue, f"{side}_columns").vectors[name].shape[1]
        if own.dims is not None and own.dims > width:
            raise ConfigError(
                f"features.columns.{side}.{name}.dims: {own.dims}, the column's vectors have {width} numbers",
                "ask for no more than that",
            )
        return min(width, MOST_NUMBERS) if own.dims is None else own.dims
    if becomes in ("text", "list"):
        return own.dims if own.dims is not None else config.text_dims if becomes == "text" else 0
    if own.dims is not None:
        raise ConfigError(
            f"features.columns.{side}.{name}.dims: this is for texts, lists and vectors", "leave it out"
        )
    return 0


def numbers_of(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """float32[n], NaN unknown."""
    numbers = getattr(catalogue, f"{side}_numbers")
    return np.asarray(numbers[name] if name in numbers else catalogue.item_safety[name])


def codes_of_column(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """Codes of numbers, or of free texts by hashing; -1 unknown."""
    hashes = getattr(catalogue, f"{side}_columns").hashes
    return hashes[name] if name in hashes else codes_of_numbers(numbers_of(catalogue, side, name))


def codes_of_numbers(values: np.ndarray | float) -> np.ndarray:
    """int64 codes of whole numbers: themselves where they are none below 0, else by hashing; -1 for NaN.

    A code depends on its number alone, so that it is the same whatever else the column holds.
    """
    known = np.isfinite(values)
    whole = np.where(known, values, 0).astype(np.int64)
    negative = (whole.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)).astype(np.int64)
    return np.where(known, np.where(whole < 0, negative, whole), -1)


def _vectors(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    return getattr(catalogue, f"{side}_columns").vectors[name]


def width_of(catalogue: Catalogue, side: str, name: str) -> int:
    """Numbers of a column of vectors."""
    return _vectors(catalogue, side, name).shape[1]


def bag(catalogue: Catalogue, side: str, name: str) -> Ragged:
    """int32 hashed values of a list or words of a text, each once in a row; of `item.text` their buckets."""
    from recsys_cli.data.encode import hashed_names, hashed_words

    columns = getattr(catalogue, f"{side}_columns")
    if name in columns.lists:
        return columns.lists[name]
    if name in columns.words:
        return columns.words[name]
    if (side, name) == ("item", "text"):
        return catalogue.item_text
    if (side, name) == ("item", "topics"):
        hashes = hashed_names(catalogue.names["topics"])
        return Ragged(catalogue.item_topics.offsets, hashes[catalogue.item_topics.values]).sorted_rows()
    words, codes = hashed_words(catalogue.names[f"{side}.{name}"]), getattr(catalogue, f"{side}_codes")[name]
    places, values = words.take(codes)
    return Ragged.group(places, values, len(codes))


def column_vectors(catalogue: Catalogue, path: str, dims: int) -> np.ndarray:
    """float32[n + 1, dims] of a column ("item.text"); zeros where it is unknown, and in the last row.

    Of a text or list a Gaussian random projection of the hashed words or values (Bingham and Mannila, KDD 2001), of
    length 1: it keeps cosines on average and is the same for every dataset, so that an item has its vector from the
    moment it is published. A column of vectors that are longer than `dims` is projected too, others stay as they are.
    """
    from scipy.sparse import csr_array

    side, _, name = path.partition(".")
    if name in getattr(catalogue, f"{side}_columns").vectors:
        vectors = np.nan_to_num(_vectors(catalogue, side, name))
        if dims < vectors.shape[1]:
            directions = np.random.default_rng(_SEED).standard_normal((vectors.shape[1], dims), np.float32)
            vectors = vectors @ (directions / np.float32(np.sqrt(dims)))
    else:
        words = bag(catalogue, side, name)
        directions = np.random.default_rng(_SEED).standard_normal((TEXT_BUCKETS, dims), np.float32)
        bags = csr_array(
            (np.ones(len(words.values), np.float32), words.values % np.int32(TEXT_BUCKETS), words.offsets),
            shape=(len(words), TEXT_BUCKETS),
        )
        vectors = unit(bags @ directions)
    return np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)])


def lacks_vector(catalogue: Catalogue, path: str) -> np.ndarray:
    """bool[n + 1] where a column of vectors is unknown, the last for an unknown user or item."""
    side, _, name = path.partition(".")
    return np.append(np.isnan(_vectors(catalogue, side, name)[:, 0]), True)


def unit(vectors: np.ndarray) -> np.ndarray:
    """float32[n, D] of length 1, zeros where they are zeros."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
