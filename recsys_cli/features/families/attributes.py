"""Numbers and categories that columns of users and items hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from recsys_cli.data.catalogue import HASH_BITS
from recsys_cli.errors import ConfigError
from recsys_cli.features import formulas
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.dataset_columns import codes_of_column, codes_of_numbers, numbers_of
from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Values
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Column, Definitions, Feature, Features


class Attributes(FeatureFamily):
    """Columns of numbers and of categories, each by itself."""

    name = "attributes"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for c in facts.columns:
            if c.becomes == "number":
                values = numbers_of(facts.catalogue, c.side, c.name)
                yield from define_number(c.side, c.name, f"{c.side}_{c.name}", values, f"the {c.side}'s", c.name)
            elif c.becomes == "category":
                yield _category(facts, c)

    def compute(self, features: Features, rows: AsOf) -> Values:
        catalogue = rows.past.catalogue
        for f in features:
            who = rows.who(f.place)
            if f.measure == "category":
                codes = known(getattr(catalogue, f"{f.place}_codes")[f.argument], who, -1)
            elif f.measure == "code":
                codes = known(codes_of_column(catalogue, f.place, f.argument), who, -1)
            else:
                yield f.name, number_or_code(f, known(numbers_of(catalogue, f.place, f.argument), who, np.nan))
                continue
            yield f.name, formulas.category(codes, f.span, f.codes)

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        return [(feature.place, feature.argument)]


def define_number(
    place: str, name: str, feature: str, values: np.ndarray, whose: str, argument: str
) -> Iterator[Feature]:
    """A number, "ln(1 + value)" where it has a heavy tail, and a flag where it is often unknown; nothing of a
    constant."""
    missing = float(np.mean(~np.isfinite(values))) if len(values) else 0.0
    if missing == 1 or np.nanmin(values, initial=np.inf) == np.nanmax(values, initial=-np.inf):
        return
    transform = _transform_of(values)
    formula = "ln(1 + value)" if transform == "log1p" else "the value"
    yield Feature(feature, place, place, transform, f"{whose} {name}", f"{formula}, 0 where unknown", argument)
    if missing >= 0.01:
        yield Feature(
            f"{feature}_missing", place, place, "missing", f"{whose} {name} is unknown", "1 or 0", argument
        )


def number_or_code(f: Feature, values: np.ndarray | float) -> np.ndarray:
    """Values of a column as one feature gives them. values: codes (-1 unknown), or numbers (NaN unknown)."""
    if f.measure == "missing":
        return ~np.isfinite(values)
    if f.codes:
        return formulas.category(values if f.measure == "category" else codes_of_numbers(values), f.span, f.codes)
    return formulas.number(values, f.measure)


def category(
    place: str, name: str, measure: str, meaning: str, argument: str, values: int, config: FeatureConfig
) -> Feature:
    """A categorical feature. measure: "category" where its codes have names, "code" for codes of numbers. values: how
    many codes there are."""
    codes = min(values + 1, config.max_categories)
    unit = "code" if measure == "code" and values < codes else ""
    return Feature(
        name, place, place, measure, meaning, "code + 1, 0 unknown", argument, values, codes, unit=unit
    )


def require_whole(where: str, values: np.ndarray | None) -> None:
    """Raises ConfigError where numbers that are to become a category are not whole."""
    if values is not None and (np.nan_to_num(values) != np.round(np.nan_to_num(values))).any():
        raise ConfigError(f"{where}: its numbers are not whole, they cannot become a category", "leave it a number")


def _category(facts: DatasetFacts, column: Column) -> Feature:
    catalogue, side, name = facts.catalogue, column.side, column.name
    codes, measure = getattr(catalogue, f"{side}_codes").get(name), "category"
    if codes is None:
        codes, measure = codes_of_column(catalogue, side, name), "code"
        require_whole(f"features.columns.{side}.{name}", getattr(catalogue, f"{side}_numbers").get(name))
    most = 2**HASH_BITS if name in getattr(catalogue, f"{side}_columns").hashes else int(codes.max(initial=0)) + 1
    values = len(catalogue.names.get(column.path, ())) or most
    return category(side, f"{side}_{name}", measure, f"the {side}'s {name}", name, values, facts.config)


def _transform_of(values: np.ndarray) -> str:
    """ "log1p" for non-negative numbers with a heavy tail (the 99th percentile over three medians), else "plain"."""
    values = values[np.isfinite(values)]
    if not len(values) or values.min() < 0:
        return "plain"
    middle, high = np.quantile(values, [0.5, 0.99])
    return "log1p" if high > max(10, 3 * middle) or high > 1000 else "plain"
