"""The dataset that a server has made: what a run was trained on and the events since, as one dataset folder.

Rows come from the very fold that the server serves from. Users and items keep their places, those that are new stand
behind them in the order in which they came; whoever was erased is left out.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.schema import DatasetManifest
from recsys_cli.data.writer import DatasetWriter, dataset_files
from recsys_cli.errors import DataError
from recsys_cli.files import atomic_dir
from recsys_cli.serving.erasure import marked_users
from recsys_cli.serving.events import microseconds
from recsys_cli.serving.fold import Fold
from recsys_cli.serving.fold_table import fold_of, table_of
from recsys_cli.serving.growth import NEVER, new_people

_TIME = pl.Datetime("us", "UTC")
_OPTIONAL = (
    "request_id", "session_id", "position", "surface", "device", "source", "propensity", "dwell_seconds", "creative",
)
_CHUNK = 50_000


@dataclass
class Exported:
    """What became of the events."""

    manifest: DatasetManifest
    events: int
    impressions: int
    """rows that the events made"""
    new_users: int
    new_items: int
    notes: list[str] = field(default_factory=list)


def export_events(log: str | os.PathLike, dataset: Dataset, target: str | os.PathLike) -> Exported:
    """Write dataset and events together as a dataset folder at `target`, replacing one of ours that is there.

    log: folder of the log. Rows about items that nobody described are left out, and told. Raises DataError where the
    events do not fit the dataset.
    """
    m = dataset.manifest
    if not m.has_time:
        raise DataError(f"{dataset.path} has no time, events have", "train on a dataset with moments")
    if m.splits is not None or "split" in m.tables["impressions"].columns:
        raise DataError(f"{dataset.path}: its train, valid and test parts are fixed by its source",
                        "import it without the column `split`")
    fold = fold_of(log, tuple(m.actions))
    merge = _Merge(dataset, fold)
    with atomic_dir(target, ours=dataset_files) as folder:
        writer = DatasetWriter(
            folder, m.name, {a: info.polarity for a, info in m.actions.items()}, set(dataset.context_columns)
        )
        try:
            impressions = merge.impressions()
            for table, frame in (("users", merge.users()), ("items", merge.items())):
                writer.table(table).write(frame)
            merge.write_impressions(writer, impressions)
            for table in ("follows", "blocks", "history"):
                frame = merge.history() if table == "history" else merge.edges(table)
                if frame is not None and frame.height:
                    writer.table(table).write(frame)
            if m.origin.get("kind") == "events":
                raise DataError(f"{dataset.path} holds events already", "name the dataset that they were added to")
            origin = {"kind": "events", "base": m.digest, "offset": fold.offset, "generated": m.origin.get("generator")}
            manifest = writer.finish(
                origin={k: v for k, v in origin.items() if v is not None}, authors_are_users=m.authors_are_users
            )
        finally:
            writer.abandon()
    return Exported(
        manifest, fold.offset, impressions.height, len(merge.new_users), len(merge.new_items), merge.notes
    )


class _Merge:
    """The tables of a dataset with what a fold adds."""

    def __init__(self, dataset: Dataset, fold: Fold):
        self.dataset, self.fold = dataset, fold
        self.notes: list[str] = []
        self.user_type = dataset.users.schema["user_id"]
        self.item_type = dataset.items.schema["item_id"]
        names = dict.fromkeys(n for n in new_people(fold, dataset.manifest.authors_are_users) if n)
        self.new_users = _unknown(list(names), dataset.user_ids)
        self.new_items = _unknown(list(fold.items), dataset.item_ids)
        gone = marked_users(dataset.user_ids, set(fold.erased)) if fold.erased else np.zeros(0, np.int32)
        self.gone = dataset.users["user_id"].gather(gone)

    def impressions(self) -> pl.DataFrame:
        """The rows of the events, in the order of the fold."""
        fold, held = self.fold, self.fold.arrays()
        known = set(map(str, self.dataset.items["item_id"].to_list())) | set(fold.items)
        described = np.array([name in known for name in fold.names["items"].listed] or [False], bool)
        keep = np.flatnonzero((held["user"] >= 0) & described[np.minimum(held["item"], len(described) - 1)])
        waiting = int((held["user"] >= 0).sum()) - len(keep)
        if waiting:
            self.notes.append(f"{waiting:,} rows about items that nobody described are left out")
        frame, schema = table_of(fold)[keep], self._schema()
        for name in ("request_id", "session_id"):
            if schema.get(name, pl.String()).is_integer():
                frame = frame.with_columns(_numbered(frame[name]))
        return frame.with_columns(pl.col("user_id").cast(self.user_type), pl.col("item_id").cast(self.item_type))

    def _schema(self) -> dict:
        return dict(self.dataset.table("impressions").head(0).schema)

    def write_impressions(self, writer: DatasetWriter, more: pl.DataFrame) -> None:
        """The log of the dataset, then the rows of the events, in columns that either has."""
        schema = self._schema()
        wanted = [*schema, *(
            c for c in _OPTIONAL if c not in schema and c in more.columns and more[c].null_count() < more.height
        )]
        kinds = {c: schema.get(c, more.schema.get(c)) for c in wanted}

        def conform(frame: pl.DataFrame) -> pl.DataFrame:
            return frame.select(
                (pl.col(c) if c in frame.columns else pl.lit(None).alias(c)).cast(kinds[c]) for c in wanted
            )

        gone = self.gone.implode()
        for batch in self.dataset.batches("impressions"):
            writer.table("impressions").write(conform(batch.filter(~pl.col("user_id").is_in(gone))))
        if more.height:
            writer.table("impressions").write(conform(more))

    def users(self) -> pl.DataFrame:
        """The users with what was told of them, then the new ones."""
        told = {name: attributes for name, attributes in self.fold.users.items() if attributes}
        return _entities(self.dataset.users, "user_id", self.new_users, told, {})

    def items(self) -> pl.DataFrame:
        """The items likewise; one without `created_at` was published when it was first told of, one that was taken
        out never is."""
        told = {name: attributes for name, (_, attributes) in self.fold.items.items()}
        fresh = set(self.new_items)
        created = {n: t for n, (t, a) in self.fold.items.items() if n in fresh and _moment(a) is None}
        created |= dict.fromkeys(self.fold.deleted, int(NEVER))
        frame = _entities(self.dataset.items, "item_id", self.new_items, told, created)
        authors = self.dataset.items["author_id"] if "author_id" in self.dataset.items.columns else None
        if authors is not None:  # an author stays
            before = pl.concat([authors, pl.Series([None] * len(self.new_items), dtype=authors.dtype)])
            known = pl.Series(np.arange(frame.height) < self.dataset.items.height)
            frame = frame.with_columns(
                pl.when(known).then(before).otherwise(pl.col("author_id")).alias("author_id")
            )
        return frame

    def history(self) -> pl.DataFrame | None:
        """What people did before the log, without those who are erased."""
        frame = self.dataset.table("history")
        return None if frame is None else frame.filter(~pl.col("user_id").is_in(self.gone.implode()))

    def edges(self, table: str) -> pl.DataFrame | None:
        """`follows` or `blocks` as they stand after the events."""
        source, target = ("follower_id", "followee_id") if table == "follows" else ("user_id", "author_id")
        kinds = ("follow",) if table == "follows" else ("block", "mute")
        authors = {str(n): str(a) for n, a in self._authors()}
        last: dict[tuple[str, str, str], tuple[int, bool]] = {}
        for edge in sorted(self.fold.edges, key=lambda e: e.time):
            author = edge.author if edge.author is not None else authors.get(edge.item or "")
            if edge.kind in kinds and author is not None:
                last[edge.kind, edge.user, author] = (edge.time, edge.on)
        old = self.dataset.table(table)
        kind = self.user_type
        rows = [(u, a, t, k) for (k, u, a), (t, on) in last.items() if on]
        new = pl.DataFrame({
            source: _ids([r[0] for r in rows], np.arange(len(rows)), kind),
            target: _ids([r[1] for r in rows], np.arange(len(rows)), self._author_type()),
            "created_at": pl.Series([r[2] for r in rows], dtype=pl.Int64).cast(pl.Datetime("us"))
            .dt.replace_time_zone("UTC"),
            **({"kind": pl.Series([r[3] for r in rows], dtype=pl.String)} if table == "blocks" else {}),
        })
        if old is None:
            return new
        touched = pl.DataFrame({
            source: _ids([u for _, u, _ in last], np.arange(len(last)), old.schema[source]),
            target: _ids([a for _, _, a in last], np.arange(len(last)), old.schema[target]),
        })
        off = touched.filter(pl.Series([not on for _, on in last.values()], dtype=pl.Boolean))
        kept = old.join(off, on=[source, target], how="anti", maintain_order="left")
        kept = kept.filter(~pl.col(source).is_in(self.gone.implode()))
        fresh = new.cast({source: old.schema[source], target: old.schema[target]})
        fresh = fresh.join(kept, on=[source, target], how="anti", maintain_order="left")
        return pl.concat([kept, fresh], how="diagonal_relaxed") if fresh.height else kept

    def _author_type(self):
        items = self.dataset.items
        return items.schema["author_id"] if "author_id" in items.columns else self.user_type

    def _authors(self):
        """(item, author) of every item that has one."""
        items = self.dataset.items
        if "author_id" in items.columns:
            yield from items.select("item_id", "author_id").drop_nulls().iter_rows()
        fresh = set(self.new_items)
        for name, (_, attributes) in self.fold.items.items():
            if name in fresh and attributes.get("author_id") is not None:
                yield name, attributes["author_id"]


def _unknown(names: list[str], vocabulary) -> list[str]:
    """Those of some ids that a vocabulary lacks."""
    if not names:
        return []
    return [name for name, at in zip(names, vocabulary.positions(names).tolist(), strict=True) if at < 0]


def _ids(names: list, codes: np.ndarray, kind) -> pl.Series:
    """Names at places, null at -1, in the type of a column."""
    texts = pl.Series([*map(str, names), None], dtype=pl.String)
    return texts.gather(np.where(codes < 0, len(names), codes)).cast(kind)


def _numbered(names: pl.Series) -> pl.Series:
    """Requests or sessions as numbers, as those of the dataset are."""
    unique = names.unique().drop_nulls()
    numbers = [int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") >> 2 for name in unique]
    return names.replace_strict(unique, pl.Series(numbers, dtype=pl.Int64), default=None, return_dtype=pl.Int64)


def _moment(attributes: dict) -> int | None:
    value = attributes.get("created_at")
    return microseconds(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None


def _entities(
    old: pl.DataFrame, key: str, new: list[str], told: dict[str, dict], created: dict[str, int]
) -> pl.DataFrame:
    """A table of users or items with further rows, and the attributes that events told.

    created: id → µs, in the place of what is told of `created_at`.
    """
    names = [*map(str, old[key].to_list()), *new]
    place = {name: i for i, name in enumerate(names)}
    out = {key: pl.Series(names, dtype=pl.String).cast(old.schema[key])}
    columns = [c for c in old.columns if c != key]
    if created and "created_at" not in columns:
        columns.append("created_at")
    for name in columns:
        kind = old.schema.get(name, _TIME)
        held = old[name] if name in old.columns else pl.Series([None] * old.height, dtype=kind)
        values = {place[n]: a[name] for n, a in told.items() if a.get(name) is not None and n in place}
        if name == "created_at":
            values = {place[n]: m for n, a in told.items() if (m := _moment(a)) is not None and n in place}
            values |= {place[n]: t for n, t in created.items() if n in place}
        series = pl.concat([held, pl.Series([None] * len(new), dtype=held.dtype)])
        out[name] = _with_values(series, values) if values else series
    return pl.DataFrame(out).select(c for c in (key, *columns))


def _with_values(series: pl.Series, values: dict[int, object]) -> pl.Series:
    """A column with some values put in; what does not fit its type leaves what was there."""
    kind = series.dtype
    if kind.is_temporal():
        new = pl.Series(list(values.values()), dtype=pl.Int64).cast(pl.Datetime("us"))
        new = new.dt.replace_time_zone("UTC").cast(kind) if getattr(kind, "time_zone", None) else new.cast(kind)
    elif isinstance(kind, pl.List):
        new = pl.Series([[str(x) for x in v] if isinstance(v, list) else None for v in values.values()],
                        dtype=pl.List(pl.String)).cast(kind, strict=False)
    elif kind == pl.Boolean:
        new = pl.Series([v if isinstance(v, bool) else None for v in values.values()], dtype=pl.Boolean)
    elif kind.is_numeric():
        new = pl.Series([float(v) if isinstance(v, int | float) else None for v in values.values()], dtype=pl.Float64)
        new = new.cast(kind, strict=False)
    else:
        new = pl.Series([str(v) for v in values.values()], dtype=pl.String).cast(kind, strict=False)
    from_new = np.arange(len(series))
    known = new.is_not_null().to_numpy()
    from_new[np.array(list(values))[known]] = len(series) + np.flatnonzero(known)
    return pl.concat([series, new]).gather(from_new)
