"""The import: users and items first, then the log in batches, then the graph; all of it or nothing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.data.importer.attributes import attribute_targets, recognise
from recsys_cli.data.importer.batches import LINE, Batch
from recsys_cli.data.importer.convert import ORDER_START, convert, refusals, source_column
from recsys_cli.data.importer.databases import fetched
from recsys_cli.data.importer.joins import add_columns, join_file, load_joins
from recsys_cli.data.importer.keys import ID_TYPES, Keys, id_types, with_text_ids
from recsys_cli.data.importer.lists import exploded
from recsys_cli.data.importer.mapping import Mapping, Part
from recsys_cli.data.importer.places import Places
from recsys_cli.data.importer.readers import column_names, find_files, first_columns, read
from recsys_cli.data.importer.rejects import Rejects
from recsys_cli.data.importer.repeats import agreed, without_repeats
from recsys_cli.data.importer.summary import summary
from recsys_cli.data.importer.told import Told
from recsys_cli.data.importer.values import Bounds, IdsAreText, Target
from recsys_cli.data.schema import COLUMNS, PARTS, SECOND, DatasetManifest
from recsys_cli.data.writer import DatasetWriter, dataset_files, require_replaceable
from recsys_cli.errors import DataError
from recsys_cli.files import atomic_dir
from recsys_cli.progress import Progress, Step


def import_dataset(
    mapping: Mapping,
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    mapping_name: str = "",
    progress: Progress | None = None,
    known: dict[str, pl.Series] | None = None,
) -> dict:
    """Import the files below `source` into a dataset folder `target`, replacing one that is there.

    known: users, items and authors who need no row of their own, for rows that go beside those of another dataset.

    Returns the summary: counts a table, reasons of refused rows, seconds. Raises DataError where a file is
    missing or unreadable or too many rows are refused, ConfigError where the mapping does not fit the
    files, UsageError where the target holds something else; the target is then as it was.
    """
    start = time.perf_counter()
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "give the folder of the source files with --from")
    require_replaceable(target)
    with fetched(mapping, folder, progress=progress) as mapping:
        return _import(mapping, folder, Path(target), mapping_name, progress or Progress(), known or {}, start)


def _import(
    mapping: Mapping,
    folder: Path,
    target: Path,
    mapping_name: str,
    progress: Progress,
    known: dict[str, pl.Series],
    start: float,
) -> dict:
    """Import again with ids as text where they turn out to be none."""
    notes: list[str] = []
    while True:
        manifest = None
        with contextlib.suppress(IdsAreText), atomic_dir(target, ours=dataset_files) as temporary:
            job = Import(mapping, folder, temporary, progress, known)
            try:
                manifest = job.run(mapping_name, notes)
            except IdsAreText as error:
                mapping, note = with_text_ids(mapping, error)
                notes.append(note)
                raise
            finally:
                job.close()
        if manifest is not None:
            return summary(job.rejects, job.told, manifest, target, time.perf_counter() - start)


class Import:
    """One import on its way."""

    def __init__(
        self,
        mapping: Mapping,
        source: Path,
        folder: Path,
        progress: Progress,
        known: dict[str, pl.Series] | None = None,
    ):
        self.mapping = mapping
        self.source = source
        self.progress = progress
        self.rejects = Rejects(folder / "rejects.parquet")
        self.writer = DatasetWriter(folder, mapping.name, mapping.actions)
        self.bounds = Bounds.of(mapping.earliest, mapping.future_days)
        self.files: dict[Path, None] = {}
        self.told = Told()
        self._known_targets: dict[tuple[int, Path], list[Target]] = {}
        self.parts = {name: self._parts(name) for name in COLUMNS}
        self.integer = id_types(mapping, self.parts, source)
        self.known = known or {}
        described = {t: bool(getattr(mapping, t) if self.known else self.parts[t]) for t in ("users", "items")}
        self.users = Keys(
            "user_id", self.integer["user_ids"], mapping.unknown_users if described["users"] else "add"
        )
        self.items = Keys(
            "item_id", self.integer["item_ids"], mapping.unknown_items if described["items"] else "add"
        )
        self.authors = (
            self.users
            if mapping.authors_are_users
            else Keys("author_id", self.integer["author_ids"], "reject")
        )

    # --- what is there ------------------------------------------------------------------------------------

    def _parts(self, table: str) -> list[tuple[Part, list[Path]]]:
        """The parts of a table that have files."""
        given = getattr(self.mapping, table)
        found = [(part, find_files(part, self.source)) for part in given]
        found = [(part, files) for part, files in found if files]
        if given and not found and table == "impressions":
            names = ", ".join(name for part in given for name in part.files)
            raise DataError(f"no file for {table} in {self.source}", f"the mapping reads {names}")
        return found

    # --- reading ------------------------------------------------------------------------------------------

    def _targets(self, table: str, part: Part, file: Path) -> list[Target]:
        key = (id(part), file)
        if key not in self._known_targets:
            self._known_targets[key] = self._find_targets(table, part, file)
        return self._known_targets[key]

    def _find_targets(self, table: str, part: Part, file: Path) -> list[Target]:
        targets = [
            self._target(table, name, kind, spec, required)
            for name, (kind, required) in COLUMNS[table].items()
            if (spec := getattr(part.columns, name)) is not None
        ]
        if table == "impressions":
            targets += [Target(name, "bool", spec, True) for name, spec in part.actions.items()]
        attributes = getattr(part, "attributes", {})
        columns = self._source_columns(part, file)
        if columns is not None:
            if part.explode:
                fields = {c for t in targets for c in t.spec.column or () if c.startswith(f"{part.explode.column}.")}
                columns = [*columns, "rank", "label", *fields]
            for t in targets:
                source_column(t.spec, columns, t.name, str(file))
        elif attributes:
            columns = first_columns(part, file)
        if attributes:
            used = {c for t in targets for c in t.spec.column or ()}
            targets += attribute_targets(table, attributes, part.leave_out, columns, used)
        return targets

    def _target(self, table: str, name: str, kind, spec, required: bool) -> Target:
        setting = ID_TYPES.get(name, "")
        return Target(
            name,
            kind,
            spec,
            required,
            integer=self.integer.get(setting, False),
            guessed=getattr(self.mapping, setting, "") == "auto",
            # a bad attribute must not take along the item and all its impressions
            lenient=table in ("users", "items") and not required,
        )

    def _source_columns(self, part: Part, file: Path) -> list[str] | None:
        """Columns of a file and of those joined to it; None where the form has no fixed columns."""
        found = [column_names(part, file), *(column_names(j, join_file(j, self.source)) for j in part.join)]
        return None if None in found else [c for names in found for c in names]

    def batches(
        self, table: str, part: Part, files: list[Path], step: Step
    ) -> Iterator[tuple[Batch, pl.DataFrame]]:
        """Each batch of a part with its rows in our columns; what is refused goes to the rejects."""
        joins, joined_files = load_joins(part, self.source)
        self.files |= dict.fromkeys(joined_files)
        nulls = self.mapping.missing if part.missing is None else part.missing
        for file in files:
            self.files[file] = None
            targets = self._targets(table, part, file)
            if table == "impressions":
                self.writer.context |= {t.name for t in targets if t.attribute}
            wanted = {c for t in targets for c in (*(t.spec.column or ()), *(t.spec.compose or ()))}
            wanted |= {left for on, _ in joins for left in on}
            from_file = wanted | ({part.explode.column} if part.explode else set())
            decided: dict[str, str] = {}
            for batch in read(part, file, sorted(from_file)):
                frame = batch.frame
                for note in batch.notes:
                    self.told.note(note)
                self.told.pass_over(table, file, batch.passed_over)
                if part.explode:
                    frame, notes = exploded(frame, part.explode, str(file), wanted, decided)
                    for note in notes:
                        self.told.note(f"{file.name}: {note}")
                frame = add_columns(frame, joins)
                self.rejects.read[table] = self.rejects.read.get(table, 0) + frame.height + len(batch.bad)
                if batch.bad:
                    self.rejects.add(table, file, refusals(*map(list, zip(*batch.bad, strict=True))))
                step.advance(batch.bytes_read)
                if frame.height == 0:
                    continue
                good, bad, warned = convert(
                    frame, targets, nulls, self.bounds, where=str(file), order_start=self._order_start
                )
                self.rejects.add(table, file, bad)
                self.told.warn(table, file, warned)
                yield batch, good

    _order_start = ORDER_START

    def _reject(self, table: str, file: Path, rows: pl.DataFrame, reason: str, key: str) -> None:
        self.rejects.add(
            table,
            file,
            rows.select(
                pl.col(LINE).alias("line"),
                pl.lit(reason).alias("reason"),
                pl.col(key).cast(pl.String).alias("value"),
            ),
        )

    def _known(self, table: str, file: Path, frame: pl.DataFrame, column: str, keys: Keys) -> pl.DataFrame:
        """Rows whose key is known; the others are refused, or their keys added as the mapping says."""
        unknown = keys.unknown(frame[column])
        if not unknown.any():
            return frame
        if keys.policy == "add":
            keys.add(frame[column].filter(unknown))
            return frame
        reason = f"unknown {column}"
        if keys is self.authors and keys is not self.users:
            ids = frame[column].filter(unknown).cast(pl.String)
            if ids.is_in(self.users.ids.cast(pl.String).implode()).any():
                reason += ": no item is by them, yet some are users (`authors_are_users: true`?)"
        self._reject(table, file, frame.filter(unknown), reason, column)
        return frame.filter(~unknown)

    # --- tables -------------------------------------------------------------------------------------------

    def run(self, mapping_name: str, notes: list[str]) -> DatasetManifest:
        for note in notes:
            self.told.note(note)
        total = sum(f.stat().st_size for parts in self.parts.values() for _, files in parts for f in files)
        with self.progress.step("import", total) as step:
            entities = {"users": self._entities("users", self.users, step)}
            self._add_known("users", self.users)
            entities["items"] = self._entities("items", self.items, step)
            self._add_known("items", self.items)
            self._add_known("authors", self.authors)
            splits = self._impressions(step)
            for table, keys in (
                ("follows", {"follower_id": self.users, "followee_id": self.authors}),
                ("blocks", {"user_id": self.users, "author_id": self.authors}),
                ("history", {"user_id": self.users, "item_id": self.items}),
            ):
                self._edges(table, keys, step)
            for table, keys in (("users", self.users), ("items", self.items)):
                self.writer.table(table).write(self._with_added(entities[table], keys))
        self.rejects.require_few(self.mapping.name, self.mapping.max_reject_share)
        if self.writer.table("impressions").rows == 0:
            raise DataError(
                f"{self.mapping.name}: no impression was left; nothing was written",
                "check the files and the mapping",
            )
        self.rejects.close()
        for action in [a for a, n in self.writer.table("impressions").action_counts.items() if not n]:
            self.told.note(f"action {action} never occurs: is its column, or what it is compared with, the right one?")
        origin = {
            "kind": "import",
            "mapping": mapping_name or self.mapping.name,
            "earliest": self.mapping.earliest.isoformat(),
            "files": [
                {
                    "file": str(f.relative_to(self.source)) if f.is_relative_to(self.source) else f.name,
                    "bytes": f.stat().st_size,
                }
                for f in self.files
            ],
            "notes": self.told.lines,
        }
        return self.writer.finish(
            origin=origin,
            has_time=self.has_time,
            has_order=self.has_order,
            authors_are_users=self.mapping.authors_are_users,
            splits=splits,
        )

    def _add_known(self, what: str, keys: Keys) -> None:
        if what in self.known:
            keys.add(self.known[what].cast(keys.dtype))

    def _entities(self, table: str, keys: Keys, step: Step) -> pl.DataFrame:
        """`users` or `items` whole; each id in its first row."""
        frames, auto = [], []
        for part, files in self.parts[table]:
            for batch, frame in self.batches(table, part, files, step):
                if table == "items" and self.mapping.authors_are_users and "author_id" in frame.columns:
                    named = frame.filter(pl.col("author_id").is_not_null())
                    known = self._known(table, batch.file, named, "author_id", self.authors)
                    if known.height < named.height:
                        frame = frame.filter(
                            pl.col("author_id").is_null() | pl.col(LINE).is_in(known[LINE].to_list())
                        )
                again = ~frame[keys.column].is_first_distinct() | ~keys.unknown(frame[keys.column])
                if again.any():
                    if part.duplicates == "first":
                        self.told.merge(table, int(again.sum()))
                    else:
                        self._reject(
                            table,
                            batch.file,
                            frame.filter(again),
                            f"{keys.column} stands more than once",
                            keys.column,
                        )
                    frame = frame.filter(~again)
                keys.add(frame[keys.column])
                frames.append(frame.drop(LINE))
                auto += [
                    t.name
                    for t in self._targets(table, part, batch.file)
                    if t.kind is None and t.name in frame.columns
                ]
        if not frames:
            return pl.DataFrame(schema={keys.column: keys.dtype})
        frame = recognise(pl.concat(frames, how="diagonal_relaxed"), list(dict.fromkeys(auto)))
        if table == "items" and "author_id" in frame.columns and not self.mapping.authors_are_users:
            self.authors.add(frame["author_id"].drop_nulls())
        return frame

    def _with_added(self, frame: pl.DataFrame, keys: Keys) -> pl.DataFrame:
        more = (
            keys.ids.filter(~keys.ids.is_in(frame[keys.column].implode()))
            if frame.height
            else keys.ids.sort()
        )
        table = f"{keys.column[:-3]}s"
        if table in self.known:
            more = more.filter(~more.is_in(self.known[table].implode()))
        self.told.added[table] = len(more)
        return (
            pl.concat([frame, pl.DataFrame({keys.column: more})], how="diagonal_relaxed")
            if len(more)
            else frame
        )

    @property
    def has_time(self) -> bool:
        """Whether timestamps are moments; the parts of the log must agree."""
        times = [p.columns.timestamp for p, _ in self.parts["impressions"]]
        return agreed([t is not None and not t.order for t in times], "moments", "no time")

    @property
    def has_order(self) -> bool:
        """Whether the order of rows means something; the parts of the log must agree."""
        times = [p.columns.timestamp for p, _ in self.parts["impressions"]]
        return agreed([t is not None for t in times], "an order", "none")

    def _impressions(self, step: Step) -> dict[str, tuple[int, int]] | None:
        """Stream the log; returns the spans of the published parts, if the mapping names any."""
        out = self.writer.table("impressions")
        spans: dict[str, tuple[int, int]] = {}
        seen = np.zeros(0, np.uint64)
        has_time, places = self.has_time, Places()
        for part, files in sorted(self.parts["impressions"], key=lambda p: PARTS.index(p[0].split or PARTS[0])):
            latest, time = self._order_start, part.columns.timestamp
            for batch, frame in self.batches("impressions", part, files, step):
                frame = self._known("impressions", batch.file, frame, "user_id", self.users)
                frame = self._known("impressions", batch.file, frame, "item_id", self.items).drop(LINE)
                if self.mapping.drop_exact_repeats:
                    frame, seen, repeats = without_repeats(frame, seen)
                    self.told.merge("impressions", repeats)
                if frame.height == 0:
                    continue
                if time is None or time.in_order:
                    order = places.of(frame["user_id"]) * SECOND + self._order_start
                    frame = frame.with_columns(order.cast(pl.Datetime("us", "UTC")).alias("timestamp"))
                if part.split:
                    frame = frame.with_columns(split=pl.lit(part.split))
                out.write(frame)
                first, last = (int(v) for v in frame["timestamp"].cast(pl.Int64).sort().gather([0, -1]))
                latest = max(latest, last)
                if part.split:
                    low, high = spans.get(part.split, (first, last + 1))
                    spans[part.split] = (min(low, first), max(high, last + 1))
            if part.split and not has_time:
                spans[part.split] = (spans.get(part.split, (self._order_start,))[0], latest + SECOND)
                self._order_start, places = latest + SECOND, Places()
        return spans or None

    def _edges(self, table: str, keys: dict[str, Keys], step: Step) -> None:
        """Stream `follows`, `blocks` or `history`."""
        source, target = keys
        seen = np.zeros(0, np.uint64)
        for part, files in self.parts[table]:
            for batch, frame in self.batches(table, part, files, step):
                for column, known in keys.items():
                    frame = self._known(table, batch.file, frame, column, known)
                if getattr(part, "both_ways", False):
                    read = frame.height
                    swapped = frame.rename({source: target, target: source}).select(frame.columns)
                    frame = pl.concat([frame, swapped]).unique(
                        [source, target], keep="first", maintain_order=True
                    )
                    self.told.added[table] = self.told.added.get(table, 0) + read
                    self.told.merge(table, 2 * read - frame.height)
                if table != "history":
                    hashes = frame.select(source, target).hash_rows(seed=0)
                    again = ~hashes.is_first_distinct() | pl.Series(np.isin(hashes.to_numpy(), seen))
                    if getattr(part, "both_ways", False) or getattr(part, "duplicates", "") == "first":
                        self.told.merge(table, int(again.sum()))
                    elif again.any():
                        self._reject(
                            table, batch.file, frame.filter(again), f"repeats an edge of {table}", target
                        )
                    frame, seen = (
                        frame.filter(~again),
                        np.concatenate([seen, hashes.filter(~again).to_numpy()]),
                    )
                if frame.height:
                    self.writer.table(table).write(frame.drop(LINE))

    # --- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        self.rejects.close()
        self.writer.abandon()
