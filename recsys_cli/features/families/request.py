"""What a request tells: surface, device and further columns of impressions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from recsys_cli.errors import ConfigError, did_you_mean
from recsys_cli.features.config import ColumnConfig
from recsys_cli.features.dataset_columns import HOLDS, codes_of_numbers
from recsys_cli.features.families.attributes import category, define_number, number_or_code, require_whole
from recsys_cli.features.family import Arrays, AsOf, DatasetFacts, FeatureFamily, Request, Served, Values
from recsys_cli.features.spec import Definitions, Feature, Features


class OfRequest(FeatureFamily):
    """Surface and device, and the columns of impressions that `features.columns.impression` names."""

    name = "request"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for name, values in (("surface", facts.surfaces), ("device", facts.devices)):
            if len(values):
                yield category(
                    "context", name, "category", f"the {name} of the request", name, len(values), facts.config
                )
        for name, own in facts.config.columns.impression.items():
            yield from _further(facts, name, own)

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            _, dot, name = f.argument.partition(".")
            if not dot:
                values = getattr(rows.rows, f.argument)
            else:
                unknown = -1 if f.measure == "category" else np.nan
                values = rows.rows.context.get(name, np.full(len(rows), unknown))
            yield f.name, number_or_code(f, values)

    def serve(self, features: Features, request: Request, held: Arrays) -> Served:
        for f in features:
            yield f.name, number_or_code(f, request.told(f.argument.removeprefix("impression.")))


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
    elif becomes == "category":
        if names is None:
            require_whole(where, values)
        measure = "code" if names is None else "category"
        most = int(codes_of_numbers(values).max(initial=0)) + 1 if names is None else len(names)
        yield category("context", f"context_{name}", measure, f"the request's {name}", argument, most, facts.config)


def _require(facts: DatasetFacts, name: str, own: ColumnConfig, where: str, form: str, becomes: str) -> None:
    """Raises ConfigError where the settings of a column do not fit it."""
    if name not in facts.context:
        raise ConfigError(
            f"{where}: impressions have no further column {name!r}",
            did_you_mean(name, facts.context, "a mapping brings them with `attributes` of `impressions`"),
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
