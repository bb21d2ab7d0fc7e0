"""Two datasets beside each other: which rows, actions and columns only one of them has."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import open_intact
from recsys_cli.data.schema import COLUMNS

EXAMPLES = 3
_KEYS = {"users": "user_id", "items": "item_id"}


def diff_datasets(one: str | os.PathLike, other: str | os.PathLike) -> dict[str, Any]:
    """What differs between two dataset folders; raises DataError where one is none.

    {"same", "tables": [{"table", "rows_a", "rows_b", "only_a", "only_b", "changed", "examples_a", "examples_b"}],
    "notes"}: rows are compared in all columns that both have, as often as they come; users and items by their id, and
    those with other attributes are `changed`. The order of users and items is not compared, yet counts for the digest.
    """
    a, b = open_intact(one, None), open_intact(other, None)
    notes = _notes(a, b)
    names = [t for t in COLUMNS if t in a.manifest.tables or t in b.manifest.tables]
    tables = [_table(a, b, name, notes) for name in names]
    differ = any(t["only_a"] or t["only_b"] or t["changed"] for t in tables)
    same = a.manifest.digest == b.manifest.digest
    if not same and not differ and not notes:
        notes.append("the same rows, users or items in another order")
    return {
        "a": str(one),
        "b": str(other),
        "same": same and not differ,
        "digest_a": a.manifest.digest,
        "digest_b": b.manifest.digest,
        "tables": tables,
        "notes": notes,
    }


def _notes(a: Dataset, b: Dataset) -> list[str]:
    notes = []
    for what in ("name", "has_time", "has_order", "authors_are_users", "negatives_observed"):
        mine, theirs = getattr(a.manifest, what), getattr(b.manifest, what)
        if mine != theirs and what != "name":
            notes.append(f"{what.replace('_', ' ')}: {mine} in A, {theirs} in B")
    for side, mine, theirs in (("A", a, b), ("B", b, a)):
        more = [x for x in mine.manifest.actions if x not in theirs.manifest.actions]
        if more:
            notes.append(f"only {side} has the action{'s' * (len(more) > 1)} {', '.join(more)}")
    return notes


def _table(a: Dataset, b: Dataset, name: str, notes: list[str]) -> dict[str, Any]:
    infos = [d.manifest.tables.get(name) for d in (a, b)]
    rows = [0 if i is None else i.rows for i in infos]
    out = {"table": name, "rows_a": rows[0], "rows_b": rows[1], "only_a": rows[0], "only_b": rows[1], "changed": 0}
    out |= {"examples_a": [], "examples_b": []}
    if None in infos:
        return out
    shared = [c for c in infos[0].columns if c in infos[1].columns]
    for side, info in zip("AB", infos, strict=True):
        more = [c for c in info.columns if c not in shared]
        if more:
            notes.append(f"{name}: only {side} has the column{'s' * (len(more) > 1)} {', '.join(more)}")
    if infos[0].digest == infos[1].digest:
        return out | {"only_a": 0, "only_b": 0}
    other_type = [c for c in shared if infos[0].columns[c] != infos[1].columns[c]]
    for c in other_type:
        notes.append(f"{name}: {c} is {infos[0].columns[c]} in A and {infos[1].columns[c]} in B, and compared as text")
    if name in _KEYS:
        return out | _entities(a.table(name), b.table(name), _KEYS[name], shared)
    return out | _rows(a, b, name, shared, set(other_type))


def _entities(a: pl.DataFrame, b: pl.DataFrame, key: str, shared: list[str]) -> dict[str, Any]:
    as_text = [pl.col(c).cast(pl.String) if a.schema[c] != b.schema[c] else pl.col(c) for c in shared]
    a, b = a.select(as_text), b.select(as_text)
    only = [x.filter(~pl.col(key).is_in(y[key].implode())) for x, y in ((a, b), (b, a))]
    both = a.join(b, on=key, how="inner", suffix="__b")
    differs = [~pl.col(c).eq_missing(pl.col(f"{c}__b")) for c in shared if c != key]
    changed = both.filter(pl.any_horizontal(differs)).height if differs else 0
    return {
        "only_a": only[0].height,
        "only_b": only[1].height,
        "changed": changed,
        "examples_a": only[0][key].head(EXAMPLES).to_list(),
        "examples_b": only[1][key].head(EXAMPLES).to_list(),
    }


def _rows(a: Dataset, b: Dataset, name: str, shared: list[str], as_text: set[str]) -> dict[str, Any]:
    hashes = [np.concatenate(list(_hashes(d, name, shared, as_text)) or [np.zeros(0, np.uint64)]) for d in (a, b)]
    (values_a, counts_a), (values_b, counts_b) = (np.unique(h, return_counts=True) for h in hashes)
    out: dict[str, Any] = {}
    sides = (("a", a, values_a, counts_a, values_b, counts_b), ("b", b, values_b, counts_b, values_a, counts_a))
    for side, dataset, values, counts, others, other_counts in sides:
        at = np.searchsorted(others, values).clip(max=max(len(others) - 1, 0))
        there = np.where(others[at] == values, other_counts[at], 0) if len(others) else np.zeros_like(counts)
        more = np.maximum(counts - there, 0)
        out[f"only_{side}"] = int(more.sum())
        out[f"examples_{side}"] = _examples(dataset, name, shared, as_text, values[more > 0][:EXAMPLES])
    return out


def _batches(dataset: Dataset, name: str, columns: list[str], as_text: set[str]):
    for frame in dataset.batches(name, columns):
        yield frame.select(pl.col(c).cast(pl.String) if c in as_text else pl.col(c) for c in columns)


def _hashes(dataset: Dataset, name: str, columns: list[str], as_text: set[str]):
    for frame in _batches(dataset, name, columns, as_text):
        yield frame.hash_rows(seed=0).to_numpy()


def _examples(dataset: Dataset, name: str, columns: list[str], as_text: set[str], wanted: np.ndarray) -> list[str]:
    found: list[str] = []
    if not len(wanted):
        return found
    for frame in _batches(dataset, name, columns, as_text):
        hit = frame.filter(pl.Series(np.isin(frame.hash_rows(seed=0).to_numpy(), wanted)))
        found += [", ".join(str(v) for v in row[:3]) for row in hit.head(EXAMPLES - len(found)).rows()]
        if len(found) >= EXAMPLES:
            break
    return found
