"""A dataset folder, opened: tables, vocabularies, the log and the graph as arrays."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.read_log import read_log
from recsys_cli.data.schema import COLUMNS, SCHEMA_VERSION, DatasetManifest
from recsys_cli.data.vocabulary import Vocabulary, lookup
from recsys_cli.errors import DataError
from recsys_cli.files import is_name


def table_files(folder: Path, table: str) -> list[Path]:
    """The Parquet files of a table, in order: `NAME.parquet`, or `NAME/part-*.parquet`; [] where absent."""
    single = folder / f"{table}.parquet"
    return [single] if single.is_file() else sorted((folder / table).glob("part-*.parquet"))


def read_manifest(folder: str | os.PathLike) -> DatasetManifest:
    """Read `dataset.json`; raises DataError where the folder is no dataset of this version."""
    path = Path(folder) / "dataset.json"
    try:
        content = orjson.loads(path.read_bytes())
        version = content.get("schema_version")
        if version != SCHEMA_VERSION:
            raise DataError(
                f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}", "generate or import it again"
            )
        manifest = DatasetManifest.model_validate(content)
        if odd := [t for t in manifest.tables if not is_name(t)]:
            raise DataError(f"{path}: {odd[0][:80]!r} cannot be a table", "generate or import the dataset again")
        return manifest
    except FileNotFoundError:
        raise DataError(
            f"no dataset in {folder}",
            "make one with `recsys generate-data` or `recsys import-data`, or name its folder with --data-dir",
        ) from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "generate or import the dataset again") from None
    except (orjson.JSONDecodeError, ValidationError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a dataset manifest: {reason}", "generate or import the dataset again") from None


class Dataset:
    """A dataset folder opened for reading.

    `open` reads the manifest only; each table is read when first asked for and kept. Raises DataError
    where a file is missing, truncated or of other columns than the manifest says.
    """

    def __init__(self, path: Path, manifest: DatasetManifest):
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | os.PathLike) -> Dataset:
        manifest = read_manifest(path)
        if missing := [t for t in ("users", "items", "impressions") if t not in manifest.tables]:
            raise DataError(f"{path}: no table {missing[0]}", "generate or import the dataset again")
        return cls(Path(path), manifest)

    @classmethod
    def from_frames(
        cls,
        path: str | os.PathLike,
        frames: Mapping[str, Any],
        actions: Mapping[str, str],
        *,
        name: str = "frames",
        authors_are_users: bool = False,
    ) -> Dataset:
        """Write a dataset folder at `path` from polars, pandas or Arrow tables, and open it.

        frames: table → rows in our columns (see `schema.COLUMNS`); without `users` or `items` they are those of the
        impressions, and without `timestamp` the order of a user's rows stands for time. actions: action → "positive"
        or "negative", each a Boolean column of `impressions`. Raises DataError as `writer.write_dataset` does.
        """
        from recsys_cli.data.frames import write_frames

        write_frames(path, frames, actions, name=name, authors_are_users=authors_are_users)
        return cls.open(path)

    def table(self, name: str, columns: list[str] | None = None) -> pl.DataFrame | None:
        """One table whole (or some of its columns), None where the dataset has none."""
        info = self.manifest.tables.get(name)
        if info is None:
            return None
        files = table_files(self.path, name)
        if not files:
            raise DataError(f"{self.path / name}.parquet is missing", "generate or import the dataset again")
        if columns is not None:
            columns = [c for c in columns if c in info.columns]
            if not columns:
                return pl.DataFrame()
        try:
            # hive_partitioning off: folders above the dataset may hold "=" in their names
            frame = pl.read_parquet(files, columns=columns, hive_partitioning=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            self._blame(files, error)
        if missing := [c for c in (info.columns if columns is None else columns) if c not in frame.columns]:
            raise _absent(files[0], missing[0])
        self._require_rows(name, files, frame.height)
        return frame

    def _require_rows(self, name: str, files: list[Path], rows: int) -> None:
        said = self.manifest.tables[name].rows
        if rows != said:
            raise DataError(
                f"{files[0] if len(files) == 1 else files[0].parent}: {rows:,} rows, the manifest says {said:,}",
                "the dataset was altered; run `recsys data validate`, or generate or import it again",
            )

    def rows_of(self, name: str) -> int:
        """How many rows the files of a table hold; raises DataError where the manifest says otherwise."""
        files = table_files(self.path, name)
        try:
            rows = sum(pq.read_metadata(file).num_rows for file in files)
        except (pa.ArrowException, OSError) as error:
            self._blame(files, error)
        self._require_rows(name, files or [self.path / f"{name}.parquet"], rows)
        return rows

    def batches(self, name: str, columns: list[str] | None = None, rows: int = 1 << 17) -> Iterator[pl.DataFrame]:
        """One table in pieces of so many rows, so that it never stands in memory whole; nothing where there is none.

        Raises DataError where a file is missing, damaged or without one of the columns.
        """
        if name not in self.manifest.tables:
            return
        files = table_files(self.path, name)
        if not files:
            raise DataError(f"{self.path / name}.parquet is missing", "generate or import the dataset again")
        for file in files:
            try:
                with pq.ParquetFile(file) as parquet:
                    missing = [c for c in columns or () if c not in parquet.schema_arrow.names]
                    if missing:
                        raise _absent(file, missing[0])
                    for batch in parquet.iter_batches(rows, columns=columns):
                        yield pl.from_arrow(pa.Table.from_batches([batch]))
            except (pa.ArrowException, OSError) as error:
                self._blame(files, error)

    def _blame(self, files: list[Path], error: Exception) -> None:
        for file in files:
            try:
                pq.read_metadata(file)
            except Exception as reason:
                raise DataError(
                    f"{file} cannot be read as Parquet: {str(reason).splitlines()[0]}",
                    "the file is damaged or truncated; generate or import the dataset again",
                ) from None
        raise DataError(f"{files[0]}: {str(error).splitlines()[0]}", "generate or import the dataset again") from None

    @cached_property
    def users(self) -> pl.DataFrame:
        return self.table("users")

    @cached_property
    def items(self) -> pl.DataFrame:
        return self.table("items")

    @cached_property
    def user_ids(self) -> Vocabulary:
        return _vocabulary(self.users["user_id"], "user_id")

    @cached_property
    def item_ids(self) -> Vocabulary:
        return _vocabulary(self.items["item_id"], "item_id")

    @cached_property
    def author_ids(self) -> Vocabulary:
        """Authors: the users themselves where `authors_are_users`, else every author an item names."""
        if self.manifest.authors_are_users:
            return self.user_ids
        if "author_id" not in self.items.columns:
            return Vocabulary(np.zeros(0, np.int64))
        return _vocabulary(self.items["author_id"].drop_nulls().unique().sort(), "author_id")

    @cached_property
    def item_author(self) -> np.ndarray:
        """int32[n_items] author positions, -1 where an item has none."""
        if "author_id" not in self.items.columns:
            return np.full(self.items.height, -1, np.int32)
        return lookup(self.author_ids, self.items["author_id"])

    @cached_property
    def context_columns(self) -> dict[str, str]:
        """Columns of the impressions beyond the schema and the actions → their Arrow types."""
        known = {*COLUMNS["impressions"], *self.manifest.actions}
        return {c: kind for c, kind in self.manifest.tables["impressions"].columns.items() if c not in known}

    @cached_property
    def categories(self) -> dict[str, list[str]]:
        """Values of `surface`, `device` and further text columns ("impression.NAME") of the impressions, sorted;
        codes are places in these lists."""
        texts = [c for c, kind in self.context_columns.items() if "string" in kind]
        held = self.manifest.tables["impressions"].columns
        found: dict[str, set[str]] = {c: set() for c in ("surface", "device", *texts) if c in held}
        for frame in self.batches("impressions", list(found)) if found else ():
            for column, values in found.items():
                values.update(frame[column].cast(pl.String).drop_nulls().unique())
        return {f"impression.{c}" if c in texts else c: sorted(values) for c, values in found.items()}

    @cached_property
    def log(self) -> Log:
        """Every impression, ordered by time (ties by user, then as they came)."""
        return read_log(self)

    def with_log(self, log: Log) -> Dataset:
        """The same dataset with another log in the place of its own: of other moments, or of some of the rows.

        `table("impressions")` still reads what is on the disk.
        """
        other = Dataset(self.path, self.manifest)
        other.__dict__.update(self.__dict__)
        other.__dict__["log"] = log
        return other

    @cached_property
    def catalogue(self) -> Catalogue:
        """Attributes of users, items and authors as arrays."""
        from recsys_cli.data.encode import encode_catalogue

        return encode_catalogue(self)

    def edges(self, table: str) -> dict[str, np.ndarray] | None:
        """`follows` or `blocks` as arrays; None where the dataset has none.

        follows: {"from": int32 user, "to": int32 author, "time": int64 µs (0 unknown), "weight": float32}
        blocks: the same, with "mute": bool instead of "weight". Edges to people outside the vocabulary are
        left out (`recsys data validate` names them).
        """
        frame = self.table(table)
        if frame is None:
            return None
        source, target = ("follower_id", "followee_id") if table == "follows" else ("user_id", "author_id")
        out = {"from": lookup(self.user_ids, frame[source]), "to": lookup(self.author_ids, frame[target])}
        out["time"] = (
            frame["created_at"].cast(pl.Datetime("us")).cast(pl.Int64).fill_null(0).to_numpy()
            if "created_at" in frame.columns
            else np.zeros(frame.height, np.int64)
        )
        if table == "follows":
            has = "weight" in frame.columns
            out["weight"] = (
                frame["weight"].fill_null(1.0).to_numpy().astype(np.float32)
                if has
                else np.ones(frame.height, np.float32)
            )
        else:
            out["mute"] = (
                (frame["kind"].cast(pl.String) == "mute").to_numpy()
                if "kind" in frame.columns
                else np.zeros(frame.height, bool)
            )
        keep = (out["from"] >= 0) & (out["to"] >= 0)
        return {k: v[keep] for k, v in out.items()}


def _absent(file: Path, column: str) -> DataError:
    return DataError(
        f"{file}: no column {column!r}, the manifest says there is one",
        "the dataset was altered; run `recsys data validate`, or generate or import it again",
    )


def _vocabulary(ids: pl.Series, what: str) -> Vocabulary:
    vocabulary = Vocabulary(ids.to_numpy())
    vocabulary.require_unique(what)
    return vocabulary
