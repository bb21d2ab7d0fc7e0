"""Columns that a dataset brings: what each of them becomes, by its type or as `features.columns` says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from recsys_cli.data.catalogue import HASH_BITS, Catalogue
from recsys_cli.errors import ConfigError, nearest
from recsys_cli.features import formulas
from recsys_cli.features.config import Becomes, ColumnConfig, FeatureConfig
from recsys_cli.features.overlap import BETWEEN, define_overlap
from recsys_cli.features.overlap import SOURCE as OVERLAP
from recsys_cli.features.spec import Feature, FeatureSpec, share_missing, transform_of
from recsys_cli.features.vectors import VECTORS, bag, define_vectors

DATES = "date"
LISTS = "list"
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
_HOLDS = {
    "number": "numbers", "category": "words of few values", "text": "free text", "age": "dates", "list": "lists",
    "vector": "vectors",
}


@dataclass(frozen=True)
class Column:
    """One column of users or items, with what it becomes."""

    side: str
    """user or item"""
    name: str
    becomes: Becomes
    dims: int
    """numbers of the vector that is made of it; 0 for none"""
    compared_with: tuple[str, ...] | None
    """columns of items; None for those that hold the same"""

    @property
    def path(self) -> str:
        return f"{self.side}.{self.name}"


def define_columns(config: FeatureConfig, catalogue: Catalogue) -> Iterator[Feature]:
    """Numbers, categories, dates and lengths of lists of users and items, each by itself."""
    for column in columns_of(config, catalogue):
        yield from _SINGLE.get(column.becomes, _nothing)(config, catalogue, column)


def define_likenesses(config: FeatureConfig, catalogue: Catalogue) -> Iterator[Feature]:
    """Vectors of texts, lists and vectors, and how alike a user's and an item's columns are."""
    columns = columns_of(config, catalogue)
    for column in columns:
        if column.dims:
            yield from define_vectors(catalogue, column.side, column.name, column.dims, column.becomes)
    for column in columns:
        if column.side == "user" and column.becomes in ("list", "text", "vector"):
            yield from define_overlap(catalogue, column, columns)


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
                f"{where}: it holds {_HOLDS[form]}, which cannot become {becomes!r}",
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
    close = nearest(name, held)
    raise ConfigError(
        f"{where}: {side}s have no attribute {name!r}",
        f"did you mean {close!r}?" if close else "run `recsys data describe` for those they have",
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


def _nothing(*_) -> Iterator[Feature]:
    yield from ()


def _number(config: FeatureConfig, catalogue: Catalogue, column: Column) -> Iterator[Feature]:
    values = numbers_of(catalogue, column.side, column.name)
    yield from define_number(column.side, column.side, column.name, f"{column.side}_{column.name}", values)


def define_number(group: str, place: str, name: str, feature: str, values: np.ndarray, argument: str = "") -> (
    Iterator[Feature]
):
    """A number, "ln(1 + value)" where it has a heavy tail, and a flag where it is often unknown; nothing of a
    constant."""
    missing = share_missing(values)
    if missing == 1 or np.nanmin(values, initial=np.inf) == np.nanmax(values, initial=-np.inf):
        return
    transform, source = transform_of(values), "request" if place == "context" else "attribute"
    formula = "ln(1 + value)" if transform == "log1p" else "the value"
    whose = "the request's" if place == "context" else f"the {place}'s"
    argument = argument or name
    yield Feature(
        feature, group, place, source, transform, f"{whose} {name}", f"{formula}, 0 where unknown", argument
    )
    if missing >= 0.01:
        told = f"{whose} {name} is unknown"
        yield Feature(f"{feature}_missing", group, place, source, "missing", told, "1 or 0", argument)


def _category(config: FeatureConfig, catalogue: Catalogue, column: Column) -> Iterator[Feature]:
    side, name = column.side, column.name
    codes, measure = getattr(catalogue, f"{side}_codes").get(name), "category"
    if codes is None:
        codes, measure = codes_of_column(catalogue, side, name), "code"
        _require_whole(f"features.columns.{side}.{name}", getattr(catalogue, f"{side}_numbers").get(name))
    most = 2**HASH_BITS if name in getattr(catalogue, f"{side}_columns").hashes else int(codes.max(initial=0)) + 1
    values = len(catalogue.names.get(f"{side}.{name}", ())) or most
    yield Feature(
        f"{side}_{name}", side, side, "attribute", measure, f"the {side}'s {name}", "code + 1, 0 unknown", name,
        values, min(values + 1, config.max_categories),
    )


def _require_whole(where: str, values: np.ndarray | None) -> None:
    if values is not None and (np.nan_to_num(values) != np.round(np.nan_to_num(values))).any():
        raise ConfigError(f"{where}: its numbers are not whole, they cannot become a category", "leave it a number")


def _age(config: FeatureConfig, catalogue: Catalogue, column: Column) -> Iterator[Feature]:
    side, name = column.side, column.name
    times = getattr(catalogue, f"{side}_columns").times[name]
    if not times.any():
        return
    yield Feature(
        f"{side}_{name}_age", side, side, DATES, "age", f"time since the {side}'s {name}",
        "ln(1 + hours since), 0 while it lies ahead or is unknown", name,
    )
    if np.mean(times == 0) >= 0.01:
        told = f"the {side}'s {name} is unknown"
        yield Feature(f"{side}_{name}_missing", side, side, DATES, "missing", told, "1 or 0", name)


def _list(config: FeatureConfig, catalogue: Catalogue, column: Column) -> Iterator[Feature]:
    side, name = column.side, column.name
    lengths = lengths_of(catalogue, side, name)
    if len(lengths) and lengths.min() != lengths.max():
        yield Feature(
            f"{side}_{name}_length", side, side, LISTS, "length", f"different values in the {side}'s {name}",
            "ln(1 + values)", name,
        )


def _text(config: FeatureConfig, catalogue: Catalogue, column: Column) -> Iterator[Feature]:
    side, name = column.side, column.name
    lengths = lengths_of(catalogue, side, name)
    if column.dims and len(lengths) and lengths.min() != lengths.max():
        yield Feature(
            f"{side}_{name}_words", side, side, LISTS, "length", f"length of the {side}'s {name}",
            "ln(1 + different words)", name,
        )


_SINGLE = {"number": _number, "category": _category, "age": _age, "list": _list, "text": _text}


def numbers_of(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """float32[n], NaN unknown."""
    numbers = getattr(catalogue, f"{side}_numbers")
    return np.asarray(numbers[name] if name in numbers else catalogue.item_safety[name])


def codes_of_column(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """Codes of numbers, or of free texts by hashing; -1 unknown."""
    hashes = getattr(catalogue, f"{side}_columns").hashes
    return hashes[name] if name in hashes else codes_of_numbers(numbers_of(catalogue, side, name))


def codes_of_numbers(values: np.ndarray) -> np.ndarray:
    """int64 codes of whole numbers: themselves where they are none below 0, else by hashing; -1 for NaN.

    A code depends on its number alone, so that it is the same whatever else the column holds.
    """
    known = np.isfinite(values)
    whole = np.where(known, values, 0).astype(np.int64)
    negative = (whole.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)).astype(np.int64)
    return np.where(known, np.where(whole < 0, negative, whole), -1)


def number_or_code(f: Feature, values: np.ndarray) -> np.ndarray:
    """Values of a column as one feature gives them. values: codes (-1 unknown), or numbers (NaN unknown)."""
    if f.measure == "missing":
        return ~np.isfinite(values)
    if f.codes:
        return formulas.category(values if f.measure == "category" else codes_of_numbers(values), f.span, f.codes)
    return formulas.number(values, f.measure)


def lengths_of(catalogue: Catalogue, side: str, name: str) -> np.ndarray:
    """int64[n] different values in each list, or words in each text."""
    return bag(catalogue, side, name).lengths


def confined(spec: FeatureSpec, catalogue: Catalogue) -> Catalogue:
    """The catalogue without the lists, texts, vectors and dates that no feature reads: they need not be served."""
    used: dict[str, set[str]] = {"user": set(), "item": set()}
    for f in spec.features:
        if f.source == OVERLAP:
            mine, _, theirs = f.argument.partition(BETWEEN)
            used["user"].add(mine)
            used["item"].add(theirs)
        elif f.source == VECTORS:
            side, _, name = f.argument.partition(".")
            used[side].add(name)
        elif f.source in (LISTS, DATES, "attribute"):
            used[f.place].add(f.argument)
    columns = {f"{side}_columns": getattr(catalogue, f"{side}_columns").only(names) for side, names in used.items()}
    return replace(catalogue, **columns)


def define_request(config: FeatureConfig, catalogue: Catalogue, context: Mapping[str, np.ndarray]) -> Iterator[Feature]:
    """Columns of the impressions that `features.columns.impression` names; context: as `Log.context` holds them."""
    for name, own in config.columns.impression.items():
        where = f"features.columns.impression.{name}"
        if name not in context:
            close = nearest(name, context)
            raise ConfigError(
                f"{where}: impressions have no further column {name!r}",
                f"did you mean {close!r}?" if close else "a mapping brings them with `attributes` of `impressions`",
            )
        if name == "time":
            raise ConfigError(f"{where}: requests give their own moment by that name", "give the column another name")
        values, names = context[name], catalogue.names.get(f"impression.{name}")
        form = "number" if names is None else "category"
        becomes = own.becomes or form
        if becomes not in (form, "category", "nothing"):
            raise ConfigError(
                f"{where}: it holds {_HOLDS[form]}, which cannot become {becomes!r}",
                f"it can become {'number, ' if names is None else ''}category or nothing",
            )
        if own.dims is not None or own.compared_with is not None:
            raise ConfigError(f"{where}: dims and compared_with are for columns of users and items", "leave them out")
        if becomes == "number":
            yield from define_number("context", "context", name, f"context_{name}", values, f"impression.{name}")
        elif becomes == "category":
            codes = values if names is not None else codes_of_numbers(values)
            _require_whole(where, None if names is not None else values)
            size = len(names) if names is not None else int(codes.max(initial=0)) + 1
            yield Feature(
                f"context_{name}", "context", "context", "request", "category" if names is not None else "code",
                f"the request's {name}", "code + 1, 0 unknown", f"impression.{name}", size,
                min(size + 1, config.max_categories),
            )
