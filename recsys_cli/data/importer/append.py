"""New days of a log into a dataset that is there: what is new is added, what is known already changes nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset, table_files
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.intact import open_intact
from recsys_cli.data.schema import COLUMNS, SECOND
from recsys_cli.data.writer import DatasetWriter, dataset_files, require_replaceable
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.files import atomic_dir, scratch_folder, write_frame
from recsys_cli.progress import Progress

EDGES = {"follows": ["follower_id", "followee_id"], "blocks": ["user_id", "author_id"]}
"""Tables of pairs → what makes a pair the same; a row of `history` is the same where all of it is."""


def append_dataset(
    mapping: Mapping,
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    mapping_name: str = "",
    progress: Progress | None = None,
) -> dict:
    """Add what the files below `source` hold beyond the dataset folder `target`; import them where there is none.

    A row of the log is new as often as it comes more often than in the dataset, so a second run adds nothing, and an
    interrupted one leaves the dataset as it was. Users and items keep their places; what the files say of them now
    stands for what was said before, and what they leave unknown stays; an item keeps its author. Files of users,
    items and edges may be missing.

    Returns the summary of `import_dataset`, with `before`: the rows of each table as it was. Raises DataError where
    the dataset cannot take the rows, and as `import_dataset` does.
    """
    start = time.perf_counter()
    if not (Path(target) / "dataset.json").is_file():
        return import_dataset(mapping, source, target, mapping_name=mapping_name, progress=progress)
    old = open_intact(target, None)
    require_replaceable(target)
    mapping = _fitted(mapping, old)
    with scratch_folder(Path(target).resolve().parent) as folder:
        more = Path(folder) / "more"
        summary = import_dataset(
            mapping, source, more, mapping_name=mapping_name, progress=progress, known=_known_ids(old)
        )
        described = {t: c["rows"] - c["added"] for t, c in summary["tables"].items()}
        added = _Added(old, Dataset.open(more), described)
        merged = added.merge(target, mapping_name or mapping.name)
    for table, counts in summary["tables"].items():
        counts["before"] = old.manifest.tables[table].rows if table in old.manifest.tables else 0
        counts["added"] = added.without_row.get(table, counts["added"])
        counts["merged"] += added.known.get(table, 0)
        counts["rejected"] += added.rejected.get(table, 0)
        counts["rows"] = merged.tables[table].rows if table in merged.tables else 0
    summary["notes"] = [*summary["notes"], *added.notes]
    if not added.anything:
        summary["notes"] = [*summary["notes"], "nothing is new: the dataset stays as it is"]
    summary |= {
        "dataset": str(target),
        "name": merged.name,
        "digest": merged.digest,
        "actions": {a: info.count for a, info in merged.actions.items()},
        "repeats_left_out": sum(c["merged"] for c in summary["tables"].values()),
        "seconds": round(time.perf_counter() - start, 3),
    }
    return summary


def _known_ids(old: Dataset) -> dict[str, pl.Series]:
    return {"users": old.users["user_id"], "items": old.items["item_id"], "authors": _authors(old)}


def _authors(old: Dataset) -> pl.Series:
    column = "user_id" if old.manifest.authors_are_users else "author_id"
    table = old.users if old.manifest.authors_are_users else old.items
    return table[column].drop_nulls().unique() if column in table.columns else pl.Series(column, [], pl.String)


def _fitted(mapping: Mapping, old: Dataset) -> Mapping:
    """The mapping with the types of ids that the dataset has; files of tables beside the log may be missing.

    Raises DataError where the rows cannot go into the dataset.
    """
    m = old.manifest
    if m.splits is not None or "split" in m.tables["impressions"].columns:
        raise DataError(
            f"{old.path}: its train, valid and test parts are fixed by its source", "import all of it again"
        )
    if "generator" in m.origin:
        raise DataError(f"{old.path} is a generated world", "append to a dataset that was imported")
    if list(mapping.actions) != list(m.actions):
        raise ConfigError(
            f"the mapping gives the actions {', '.join(mapping.actions)}, {old.path} has {', '.join(m.actions)}",
            "use the mapping that the dataset was imported with",
        )
    timed = [p.columns.timestamp is not None and not p.columns.timestamp.order for p in mapping.impressions]
    if any(t != m.has_time for t in timed):
        raise ConfigError(
            f"{old.path} has {'moments' if m.has_time else 'no time'}, which the mapping does not say of the new rows",
            "use the mapping that the dataset was imported with",
        )
    types = {"user_ids": _kind(old.users["user_id"]), "item_ids": _kind(old.items["item_id"])}
    if "author_id" in old.items.columns:
        types["author_ids"] = _kind(old.items["author_id"])
    parts = {
        t: [part.model_copy(update={"optional": True}) for part in getattr(mapping, t)]
        for t in COLUMNS
        if t != "impressions"
    }
    return mapping.model_copy(update={**types, **parts, "authors_are_users": m.authors_are_users})


def _kind(ids: pl.Series) -> str:
    return "integer" if ids.dtype.is_integer() else "text"


@dataclass
class _Added:
    """What a dataset gets from another of the same people and things."""

    old: Dataset
    more: Dataset
    described: dict[str, int]
    """table → users or items that a file describes"""
    known: dict[str, int] = field(default_factory=dict)
    """table → rows read that the dataset has already"""
    without_row: dict[str, int] = field(default_factory=dict)
    """table → new rows that no row of a file stands for"""
    rejected: dict[str, int] = field(default_factory=dict)
    """table → rows read that go with nothing of the dataset"""
    notes: list[str] = field(default_factory=list)
    refused: list[pl.DataFrame] = field(default_factory=list)
    anything: bool = False

    def merge(self, target: str | os.PathLike, mapping: str):
        """Write the merged dataset in the place of the old one; returns its manifest."""
        m = self.old.manifest
        entities = {t: self._entities(t) for t in ("users", "items")}
        fresh = {t: self._fresh(t, entities["items"]) for t in ("follows", "blocks", "history")}
        log = self._new_log()
        self.anything = self.anything or log.height > 0 or any(f is not None and f.height for f in fresh.values())
        if not self.anything:
            return m
        context = set(self.old.context_columns) | set(self.more.context_columns)
        with atomic_dir(target, ours=dataset_files) as folder:
            writer = DatasetWriter(folder, m.name, {a: info.polarity for a, info in m.actions.items()}, context)
            try:
                for table, frame in entities.items():
                    writer.table(table).write(frame)
                for table in ("impressions", "follows", "blocks", "history"):
                    rows = log if table == "impressions" else fresh[table]
                    self._write(writer, table, rows)
                self._rejects(folder)
                appended = [*m.origin.get("appended", []), {**self.more.manifest.origin, "mapping": mapping}]
                return writer.finish(
                    origin={**m.origin, "appended": appended},
                    has_time=m.has_time,
                    has_order=m.has_order,
                    authors_are_users=m.authors_are_users,
                )
            finally:
                writer.abandon()

    def _write(self, writer: DatasetWriter, table: str, rows: pl.DataFrame | None) -> None:
        for batch in self.old.batches(table):
            writer.table(table).write(batch)
        if rows is not None and rows.height:
            writer.table(table).write(rows)

    def _entities(self, table: str) -> pl.DataFrame:
        """Users or items: those that are there in their places, with what is now known of them, then the new ones."""
        key = table[:-1] + "_id"
        old, more = self.old.table(table), self.more.table(table)
        fresh = more.filter(~pl.col(key).is_in(old[key].implode()))
        seen = more.filter(pl.col(key).is_in(old[key].implode()))
        described = self.described.get(table, 0)
        self.known[table] = min(described, seen.height)
        self.without_row[table] = fresh.height - (described - self.known[table])
        columns = [c for c in more.columns if c != key]
        now = old.join(seen, on=key, how="left", maintain_order="left", suffix="__now")
        updated = old
        for c in columns:
            theirs = now[f"{c}__now" if c in old.columns else c]
            if theirs.null_count() == len(theirs):
                continue
            ours = old[c] if c in old.columns else pl.Series(c, [None] * old.height, dtype=theirs.dtype)
            both = pl.concat([ours.rename("v").to_frame(), theirs.rename("v").to_frame()], how="vertical_relaxed")["v"]
            now_first = [both[old.height :], both[: old.height]]
            if c == "author_id":
                # who follows an author follows whoever made these items: an author stays
                other = int((ours.is_not_null() & theirs.is_not_null() & (ours != theirs)).sum())
                if other:
                    self.notes.append(f"{other:,} items name another author than before; the author stays")
                now_first.reverse()
            value = pl.select(pl.coalesce(*map(pl.lit, now_first))).to_series()
            updated = updated.with_columns(value.rename(c))
        self.anything = self.anything or fresh.height > 0 or not updated.equals(old)
        return pl.concat([updated, fresh], how="diagonal_relaxed") if fresh.height else updated

    def _fresh(self, table: str, items: pl.DataFrame) -> pl.DataFrame | None:
        """Edges or rows of `history` that are new; edges to authors of no item are refused."""
        old, more = self.old.table(table), self.more.table(table)
        if more is not None and table in EDGES and not self.old.manifest.authors_are_users:
            target = EDGES[table][1]
            authors = items["author_id"].drop_nulls().unique() if "author_id" in items.columns else more[target].clear()
            known = more.filter(pl.col(target).is_in(authors.implode()))
            self._refuse(table, more.filter(~pl.col(target).is_in(authors.implode()))[target])
            more = known
        if more is None or old is None:
            return more
        keys = EDGES.get(table, more.columns)
        if missing := [c for c in keys if c not in old.columns]:
            raise DataError(f"{self.old.path}: {table} has no column {missing[0]!r}", "import all of it again")
        fresh = more.join(old.select(keys).unique(), on=keys, how="anti", nulls_equal=True, maintain_order="left")
        self.known[table] = more.height - fresh.height
        return fresh

    def _new_log(self) -> pl.DataFrame:
        """Rows of the log as often as they come more often than in the dataset."""
        m, columns = self.old.manifest, list(self.old.manifest.tables["impressions"].columns)
        more = self.more.table("impressions")
        if extra := [c for c in more.columns if c not in columns]:
            raise DataError(
                f"{self.old.path}: its impressions have no column {extra[0]!r}, the new rows have",
                "use the mapping that the dataset was imported with, or import all of it again",
            )
        more = self._as_the_old(more, columns)
        same = [c for c in columns if m.has_time or c != "timestamp"]
        wanted = _hashes(more, same)
        order = np.argsort(wanted, kind="stable")
        first = np.ones(len(order), bool)
        first[1:] = wanted[order[1:]] != wanted[order[:-1]]
        uniques, place = wanted[order][first], np.cumsum(first) - 1
        counts = np.zeros(len(uniques), np.int64)
        span = more["timestamp"].min(), more["timestamp"].max()
        for batch in self.old.batches("impressions"):
            if m.has_time:
                # a row of another moment cannot be the same
                batch = batch.filter(pl.col("timestamp").is_between(*span))
            if not batch.height:
                continue
            found = np.sort(_hashes(batch, same))
            at = np.searchsorted(uniques, found).clip(max=len(uniques) - 1)
            counts += np.bincount(at[uniques[at] == found], minlength=len(uniques))
        n = np.arange(len(order))
        turn = n - np.maximum.accumulate(np.where(first, n, 0))
        new = np.empty(len(order), bool)
        new[order] = turn >= counts[place]
        fresh = more.filter(pl.Series(new))
        self.known["impressions"] = more.height - fresh.height
        return fresh if m.has_time else self._after_the_old(fresh)

    def _as_the_old(self, more: pl.DataFrame, columns: list[str]) -> pl.DataFrame:
        """Rows in the columns of the dataset and of their types."""
        schema = pl.read_parquet_schema(table_files(self.old.path, "impressions")[0])
        given = [pl.col(c) if c in more.columns else pl.lit(None).alias(c) for c in columns]
        try:
            return more.select(given).cast({c: schema[c] for c in columns})
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"{self.old.path}: the new rows of impressions do not fit: {str(error).splitlines()[0]}",
                "give the type of the attribute in the mapping, and import all of it again",
            ) from None

    def _after_the_old(self, fresh: pl.DataFrame) -> pl.DataFrame:
        """Rows without time in their order behind those that their users have."""
        latest = pl.DataFrame(schema={"user_id": fresh.schema["user_id"], "last": fresh.schema["timestamp"]})
        for batch in self.old.batches("impressions"):
            here = batch.select("user_id", last="timestamp")
            latest = pl.concat([latest, here]).group_by("user_id").agg(pl.col("last").max())
        rows = fresh.join(latest, on="user_id", how="left", maintain_order="left")
        place = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("user_id")
        behind = pl.col("last") + pl.duration(microseconds=place * SECOND)
        return rows.with_columns(timestamp=behind.fill_null(pl.col("timestamp"))).drop("last")

    def _refuse(self, table: str, authors: pl.Series) -> None:
        if not len(authors):
            return
        reason = f"unknown {authors.name}: the item of theirs keeps the author it had"
        self.rejected[table] = len(authors)
        self.notes.append(f"{table}: {len(authors):,} rows are refused: {reason} (first {authors[0]!r})")
        columns = {"table": table, "file": "", "line": None, "reason": reason}
        rows = pl.DataFrame({"value": authors.cast(pl.String)}).with_columns(
            pl.lit(v).alias(k) for k, v in columns.items()
        )
        self.refused.append(rows.select("table", "file", pl.col("line").cast(pl.Int64), "reason", "value"))

    def _rejects(self, folder: Path) -> None:
        files = [p for d in (self.old, self.more) if (p := d.path / "rejects.parquet").is_file()]
        if files or self.refused:
            frame = pl.concat([*(pl.read_parquet(p) for p in files), *self.refused]).unique(maintain_order=True)
            write_frame(folder / "rejects.parquet", frame.write_parquet)


def _hashes(frame: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """uint64 of each row in some columns."""
    return frame.select(columns).hash_rows(seed=0).to_numpy()
