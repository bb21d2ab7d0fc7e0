"""Columns of lists and texts: how many different values or words each row has."""

from __future__ import annotations

from collections.abc import Iterable

from recsys_cli.features import formulas
from recsys_cli.features.dataset_columns import bag
from recsys_cli.features.family import AsOf, DatasetFacts, FeatureFamily, Values
from recsys_cli.features.rows import known
from recsys_cli.features.spec import Definitions, Feature, Features


class Lists(FeatureFamily):
    """Lengths of lists, and of texts that become vectors."""

    name = "lists"
    named_by_columns = True

    def define(self, facts: DatasetFacts) -> Definitions:
        for c in facts.columns:
            if c.becomes != "list" and not (c.becomes == "text" and c.dims):
                continue
            lengths = bag(facts.catalogue, c.side, c.name).lengths
            if not len(lengths) or lengths.min() == lengths.max():
                continue
            if c.becomes == "list":
                told = "length", f"different values in the {c.side}'s {c.name}", "ln(1 + values)"
            else:
                told = "words", f"length of the {c.side}'s {c.name}", "ln(1 + different words)"
            yield Feature(f"{c.side}_{c.name}_{told[0]}", c.side, c.side, "length", *told[1:], c.name)

    def compute(self, features: Features, rows: AsOf) -> Values:
        for f in features:
            lengths = bag(rows.past.catalogue, f.place, f.argument).lengths
            yield f.name, formulas.size(known(lengths, rows.who(f.place), 0))

    def columns(self, feature: Feature) -> Iterable[tuple[str, str]]:
        return [(feature.place, feature.argument)]
