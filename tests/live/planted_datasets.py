"""A dataset as it was some days ago, and as it must not be learned from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.writer import write_dataset

Tables = dict[str, pl.DataFrame]


def rewritten(source: Path, target: Path, change: Callable[[Tables], Tables]) -> Path:
    """The dataset at `source` with other tables, at `target`."""
    dataset = Dataset.open(source)
    m = dataset.manifest
    tables = {name: dataset.table(name) for name in m.tables}
    polarity = {action: info.polarity for action, info in m.actions.items()}
    write_dataset(target, m.name, change(tables), polarity, authors_are_users=m.authors_are_users)
    return target


def as_of_share(share: float) -> Callable[[Tables], Tables]:
    """As it was when this share of the rows had come."""

    def change(tables: Tables) -> Tables:
        rows = tables["impressions"].sort("timestamp", maintain_order=True)
        return tables | {"impressions": rows.head(int(share * rows.height))}

    return change


def shuffled_labels(seed: int) -> Callable[[Tables], Tables]:
    """The outcomes of the rows dealt out anew among them."""

    def change(tables: Tables) -> Tables:
        rows = tables["impressions"]
        outcomes = [c for c, t in rows.schema.items() if t == pl.Boolean] + ["dwell_seconds"]
        order = np.random.default_rng(seed).permutation(rows.height)
        return tables | {"impressions": rows.with_columns(rows.select(outcomes)[order])}

    return change


def without_column(table: str, column: str) -> Callable[[Tables], Tables]:
    return lambda tables: tables | {table: tables[table].drop(column)}


def half_the_rows(tables: Tables) -> Tables:
    """Every second row is missing."""
    return tables | {"impressions": tables["impressions"].gather_every(2)}
