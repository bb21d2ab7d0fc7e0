"""What a request tells: surface, device and further columns of impressions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from recsys_cli.errors import ConfigError, nearest
from recsys_cli.features.as_of import AsOf
from recsys_cli.features.config import ColumnConfig
from recsys_cli.features.dataset_columns import HOLDS, codes_of_numbers
from recsys_cli.features.families.attributes import code_reading, define_number, number_or_code, require_whole
from recsys_cli.features.family import Arrays, DatasetFacts, FeatureFamily, Served, Values
from recsys_cli.features.request import Request
from recsys_cli.features.spec import Feature


class OfRequest(FeatureFamily):
    """Surface and device, and the columns of impressions that `features.columns.impression` names."""

    name = "request"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Iterable[Feature]:
        for name, values in (("surface", facts.surfaces), ("device", facts.devices)):
            if len(values):
                yield _code(facts, name, "category", f"the {name} of the request", name, len(values))
        for name, own in facts.config.columns.impression.items():
            yield from _further(facts, name, own)

    def compute(self, features: Sequence[Feature], rows: AsOf) -> Values:
        for f in features:
            _, dot, name = f.argument.partition(".")
            if not dot:
                values = getattr(rows.rows, f.argument)
            else:
                unknown = -1 if f.measure == "category" else np.nan
                values = rows.rows.context.get(name, np.full(len(rows), unknown))
            yield f.name, number_or_code(f, values)

    def serve(self, features: Sequence[Feature], request: Request, held: Arrays) -> Served:
        for f in features:
            yield f.name, number_or_code(f, request.told(f.argument.removeprefix("impression.")))

    def reading(self, feature: Feature, value: float, names: Sequence[str]) -> str:
        return code_reading(feature, value) or super().reading(feature, value, names)


def _further(facts: DatasetFacts, name: str, own: ColumnConfig) -> Iterator[Feature]:
    """What a further column of impressions becomes."""
    where, argument = f"features.columns.impression.{name}", f"impression.{name}"
    names = facts.catalogue.names.get(argument)
    form = "number" if names is None else "category"
    becomes = own.becomes or form
    _require(facts, name, own, where, form, becomes)
    values = facts.context[name]
    if becomes == "number":
        yield from define_number("context", name, f"context_{name}", values, "the request's", argument)
    elif becomes == "category" and names is not None:
        yield _code(facts, f"context_{name}", "category", f"the request's {name}", argument, len(names))
    elif becomes == "category":
        require_whole(where, values)
        most = int(codes_of_numbers(values).max(initial=0)) + 1
        yield _code(facts, f"context_{name}", "code", f"the request's {name}", argument, most)


def _require(facts: DatasetFacts, name: str, own: ColumnConfig, where: str, form: str, becomes: str) -> None:
    """Raises ConfigError where the settings of a column do not fit it."""
    if name not in facts.context:
        close = nearest(name, facts.context)
        raise ConfigError(
            f"{where}: impressions have no further column {name!r}",
            f"did you mean {close!r}?" if close else "a mapping brings them with `attributes` of `impressions`",
        )
    if name == "time":
        raise ConfigError(f"{where}: requests give their own moment by that name", "give the column another name")
    if becomes not in (form, "category", "nothing"):
        raise ConfigError(
            f"{where}: it holds {HOLDS[form]}, which cannot become {becomes!r}",
            f"it can become {'number, ' if form == 'number' else ''}category or nothing",
        )
    if own.dims is not None or own.compared_with is not None:
        raise ConfigError(f"{where}: dims and compared_with are for columns of users and items", "leave them out")


def _code(facts: DatasetFacts, name: str, measure: str, meaning: str, argument: str, values: int) -> Feature:
    codes = min(values + 1, facts.config.max_categories)
    return Feature(name, "context", "context", measure, meaning, "code + 1, 0 unknown", argument, values, codes)
