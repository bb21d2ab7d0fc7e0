"""Slates as rows, one an item, for CSV, Parquet and JSON lines: in batches, in shards, with bounded memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
import orjson

from recsys_cli.answers.data import AnswerData
from recsys_cli.answers.reasons import label_of, reasons_of, source_lists
from recsys_cli.answers.slate import notices
from recsys_cli.files import atomic_dir, atomic_file
from recsys_cli.pipeline.exploration.creative_texts import CHANCE, CHOSEN
from recsys_cli.progress import Progress
from recsys_cli.remote import MANIFEST, named_by_manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.slate_batch import SlateBatch

ROW_GROUP = 65_536
"""Rows of a row group of Parquet: the same file, in however large batches its rows were made."""
RowFormat = Literal["csv", "parquet", "jsonl"]
ROW_FORMATS: tuple[RowFormat, ...] = ("csv", "parquet", "jsonl")


@dataclass
class Written:
    """What was written."""

    rows: int = 0
    users: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """what failed and was left out → batches"""
    fallback: Counter[str] = field(default_factory=Counter)
    """reason → users who got trending and popular items"""

    def add(self, other: Written) -> None:
        """Count what else was written."""
        self.rows, self.users = self.rows + other.rows, self.users + other.users
        self.failures.update(other.failures)
        self.fallback.update(other.fallback)


def slate_table(
    data: AnswerData, batch: SlateBatch, ids: Sequence[int | str], *, explain: bool = False
) -> pa.Table:
    """A row for each item of each slate of a batch, by user and rank.

    ids: of the users of the batch, as the owner writes them; integers alone where the dataset's are. Columns: user_id,
    rank, item_id, author_id, title, score, sources (list), explored, fallback, interstitial, p_<action>,
    dwell_seconds, where a stage chooses among creatives also creative (its number, from 1), creative_text and
    creative_propensity; with `explain` also reason, sim_<source> and safety_<score>.
    """
    import pyarrow as pa

    bundle = data.bundle
    filled = batch.items >= 0
    row, slot = np.nonzero(filled)
    items = batch.items[filled]
    scores = {name: column[filled] for name, column in batch.scores.items()}
    columns = {
        "user_id": _ids([ids[r] for r in row], text=any(isinstance(u, str) for u in ids)),
        "rank": (slot + 1).astype(np.int32),
        "item_id": _ids(bundle.item_ids.external(items), bundle.item_ids.is_text),
        "author_id": _ids(
            bundle.author_ids.external(data.state.catalogue.item_author[items]), bundle.author_ids.is_text
        ),
        "title": _titles(data, items),
        "score": scores.get("utility", scores.get("light")),
        "sources": _sources(batch.sources[filled], data.sources),
        "explored": scores.get("explored", np.zeros(len(items), np.float32)) > 0,
        "fallback": pa.array([batch.fallback[r] for r in row], pa.string()),
        "interstitial": _notices(data, scores.get("interstitial"), len(items)),
        **{n: s for n, s in scores.items() if n.startswith("p_")},
    }
    if "dwell" in scores:
        columns["dwell_seconds"] = scores["dwell"]
    if CHOSEN in scores:
        columns |= _creatives(bundle, items, scores)
    if explain:
        columns["reason"] = pa.array(_reasons(data, batch), pa.string())
        columns |= {n: s for n, s in scores.items() if n.startswith("sim_")}
        columns |= {f"safety_{n}": s[items] for n, s in data.state.catalogue.item_safety.items()}
        if "safety" in scores:
            columns["safety_combined"] = scores["safety"]
    return pa.table(columns)


def _creatives(bundle: Bundle, items: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, pa.Array]:
    """What is shown of each item that has several titles or pictures; null for others."""
    import pyarrow as pa

    number = scores[CHOSEN].astype(np.int32)
    texts = [bundle.creatives.text(int(item), int(n)) if n else None for item, n in zip(items, number, strict=True)]
    none = number == 0
    return {
        CHOSEN: pa.array(number, mask=none),
        "creative_text": pa.array(texts, pa.string()),
        CHANCE: pa.array(scores[CHANCE], mask=none),
    }


def _ids(values: list, text: bool) -> pa.Array:
    import pyarrow as pa

    return pa.array([v if v is None or not text else str(v) for v in values], pa.string() if text else pa.int64())


def _titles(data: AnswerData, items: np.ndarray) -> pa.Array:
    import pyarrow as pa

    distinct, place = np.unique(items, return_inverse=True)
    titles = [label_of(data.bundle.labels[int(i)]) or None for i in distinct]
    return pa.array(titles, pa.string()).take(pa.array(place))


def _sources(bits: np.ndarray, names: tuple[str, ...]) -> pa.ListArray:
    import pyarrow as pa

    place, source = np.nonzero((bits[:, None] >> np.arange(len(names), dtype=np.uint32)) & 1)
    offsets = np.searchsorted(place, np.arange(len(bits) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(names, pa.string()).take(pa.array(source)))


def _notices(data: AnswerData, bits: np.ndarray | None, n: int) -> pa.Array:
    """Names of the rules that put a notice before each item, joined by semicolons; null where there is none."""
    import pyarrow as pa

    held = np.zeros(n, np.int64) if bits is None else bits.astype(np.int64)
    distinct, place = np.unique(held, return_inverse=True)
    names = [";".join(notices(data, int(b))) or None for b in distinct]
    return pa.array(names, pa.string()).take(pa.array(place))


def _reasons(data: AnswerData, batch: SlateBatch) -> list[str]:
    out: list[str] = []
    for row in range(len(batch.users)):
        out += reasons_of(data, batch, row, source_lists(data, batch, row))
    return out


def exported_files(folder: Path) -> set[str]:
    """Names of the files in a folder that an earlier export wrote and nobody altered since; none without its
    manifest."""
    try:
        files = named_by_manifest((folder / MANIFEST).read_bytes())
    except OSError:
        return set()
    if files is None:
        return set()
    there = {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}
    return {MANIFEST, *(name for name, size in files.items() if there.get(name) == size)}


@dataclass
class Rows:
    """Slates of some users as rows, and what was told of them."""

    table: pa.Table
    users: int
    failures: tuple[str, ...]
    fallback: Counter[str]


def rows_of(data: AnswerData, batch: SlateBatch, ids: Sequence[int | str], *, explain: bool = False) -> Rows:
    """The rows of a batch; arguments as of `slate_table`."""
    fallback = Counter(reason for reason in batch.fallback if reason is not None)
    return Rows(slate_table(data, batch, ids, explain=explain), len(ids), tuple(map(str, batch.failures)), fallback)


Advance = Callable[[int], object]
"""Is told how many more users are done."""
WriteShard = Callable[[BinaryIO, int, int, Advance], Written]
"""Writes the rows of the users from start to stop to a stream."""


def write_slates(
    write: WriteShard, users: int, target: Path | BinaryIO, kind: RowFormat, *, shards: int = 1, progress: Progress
) -> Written:
    """Write the slates of so many users as the rows of `slate_table`, by a function that writes those of some.

    target: a file, whole or not at all; a folder of several files `part-*` with `shards` above 1, in the
    place of an earlier one (UsageError where it holds anything else); or a stream.
    """
    with progress.step(f"recommend to {users:,} users", total=users) as bar:
        if not isinstance(target, Path):
            return write(target, 0, users, bar.advance)
        if shards == 1:
            with atomic_file(target) as temporary, open(temporary, "wb") as stream:
                return write(stream, 0, users, bar.advance)
        written, bounds = Written(), shard_bounds(users, shards)
        with atomic_dir(target, ours=exported_files) as folder:
            for s, (start, stop) in enumerate(bounds):
                with open(folder / f"part-{s:05d}.{kind}", "wb") as stream:
                    written.add(write(stream, start, stop, bar.advance))
            sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
            (folder / MANIFEST).write_bytes(orjson.dumps({"export_version": 1, "files": sizes}))
        return written


def shard_bounds(users: int, shards: int) -> list[tuple[int, int]]:
    """(start, stop) of the users of each file."""
    bounds = np.linspace(0, users, shards + 1).astype(int).tolist()
    return list(pairwise(bounds))


def write_rows(
    stream: BinaryIO, parts: Iterable[Rows], kind: RowFormat, *, raw: bool = False, advance: Advance | None = None
) -> Written:
    """Write rows one after the other, as a file of their own.

    In CSV the sources stand in one cell, separated by semicolons, and unless `raw` texts that begin like a formula
    have an apostrophe in front.
    """
    written = Written()
    with _writer(stream, kind, raw) as write:
        for part in parts:
            write(part.table)
            told = Written(part.table.num_rows, part.users, Counter(part.failures), part.fallback)
            written.add(told)
            if advance is not None:
                advance(part.users)
    return written


@contextmanager
def _writer(stream: BinaryIO, kind: RowFormat, raw: bool):
    """A function that appends a table to the stream."""
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer, held = None, []

        def write(rows: int) -> None:
            nonlocal writer, held
            table = pa.concat_tables(held).combine_chunks()
            writer = writer or pq.ParquetWriter(stream, table.schema, compression="zstd")
            writer.write_table(table.slice(0, rows))
            held = [table.slice(rows)]

        def append(table: pa.Table) -> None:
            held.append(table)
            while sum(part.num_rows for part in held) >= ROW_GROUP:
                write(ROW_GROUP)

        try:
            yield append
            if held and (writer is None or held[0].num_rows or len(held) > 1):
                write(sum(part.num_rows for part in held))
        finally:
            if writer is not None:
                writer.close()
        return
    import polars as pl

    from recsys_cli.spreadsheets import without_formulas

    header = True

    def add(table: pa.Table) -> None:
        nonlocal header
        # what is not known has no number in JSON, and an empty cell in CSV
        frame = pl.from_arrow(table).with_columns(pl.col(pl.Float32, pl.Float64).fill_nan(None))
        if kind == "jsonl":
            frame.write_ndjson(stream)
            return
        frame = frame.with_columns(pl.col("sources").list.join(";"))
        (frame if raw else without_formulas(frame)).write_csv(stream, include_header=header)
        header = False

    yield add
