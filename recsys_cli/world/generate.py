"""Writing a world as a dataset: day after day, blocks of users in parallel, one Parquet file a shard."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_cli.data.digest import TableDigest, dataset_digest
from recsys_cli.data.schema import NEGATIVE_ACTIONS, Action, DatasetManifest, TableInfo
from recsys_cli.data.writer import TableWriter, dataset_files
from recsys_cli.errors import ConfigError
from recsys_cli.files import atomic_dir
from recsys_cli.progress import Progress
from recsys_cli.world.config import ACTIONS, SOURCES, WorldConfig
from recsys_cli.world.content import items_table
from recsys_cli.world.logging_policy import DayIndex, Policy, Shelves
from recsys_cli.world.model import Model
from recsys_cli.world.people import DEVICES
from recsys_cli.world.simulate import Block, BlockDay
from recsys_cli.world.visits import SURFACES

ROW_GROUP = 200_000
"""Rows that are gathered before they are written; the memory of a shard is in proportion to it."""
ITEMS_CHUNK = 200_000
DELTA_COLUMNS = ("item_id", "timestamp", "request_id", "session_id")
DICTIONARY_COLUMNS = ("user_id", "position", "surface", "device", "source")


class Generated(NamedTuple):
    """What `generate` wrote."""

    manifest: DatasetManifest
    interactions: int
    """impressions with at least one positive action"""


def generate(
    config: WorldConfig, seed: int, path: str | os.PathLike, *, threads: int = 0, progress: Progress | None = None,
    keep: bool = False,
) -> Generated:
    """Make a world and write its dataset folder at `path`, replacing what is there only when all is done.

    threads: 0 for all cores. The content depends on the configuration and the seed alone: neither threads
    nor shards change a row or a digest. keep: files in the folder that are of no dataset stay beside it; without, they
    are refused with a UsageError. Raises ConfigError where the world would show nobody anything, and
    RecsysError where the disk refuses.
    """
    progress = progress or Progress()
    threads = threads or os.cpu_count() or 1
    with progress.step("people and items"):
        model = Model.create(config, seed)
    with atomic_dir(path, ours=dataset_files, keep=keep) as folder:
        tables = _write_tables(folder, model, progress)
        truth = folder / "truth" if config.truth else None
        if truth is not None:
            truth.mkdir()
        log = _simulate(model, folder, truth, threads, progress)
        if not log.rows:
            raise ConfigError(
                f"a world of {config.users:,} users, {config.items:,} items and {config.days:,} days "
                "shows nobody anything",
                "raise world.items, world.days or world.impressions_per_user",
            )
        tables["impressions"] = log.info()
        if truth is not None:
            _write_future(truth, model)
            model.save(truth, log.end_state)
        manifest = DatasetManifest(
            name="world", origin={"generator": config.model_dump(mode="json", exclude={"shards"}), "seed": seed},
            tables=tables, actions={
                a: Action(polarity="negative" if a in NEGATIVE_ACTIONS else "positive", count=int(c))
                for a, c in zip(ACTIONS, log.action_counts, strict=True)
            },
            time_span=log.time_span, negatives_observed=True, authors_are_users=True,
            digest=dataset_digest({name: info.digest for name, info in tables.items()}),
        )
        text = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        (folder / "dataset.json").write_bytes(text)
    return Generated(manifest, log.interactions)


def _write_tables(folder: Path, model: Model, progress: Progress) -> dict[str, TableInfo]:
    """Users, items, follows and blocks."""
    out = {}
    small = {"users": model.users_table, "follows": model.follows_table, "blocks": model.blocks_table}
    for name, make in small.items():
        writer = TableWriter(folder / f"{name}.parquet", name)
        try:
            writer.write(make())
        finally:
            out[name] = writer.close()
    writer = TableWriter(folder / "items.parquet", "items")
    try:
        n = len(model.content)
        with progress.step("writing items", n) as step:
            for low in range(0, n, ITEMS_CHUNK):
                part = model.content.part(slice(low, low + ITEMS_CHUNK))
                writer.write(items_table(model.config, part, model.people, model.seed, low))
                step.advance(len(part))
    finally:
        out["items"] = writer.close()
    return out


def _write_future(truth: Path, model: Model) -> None:
    """`future_items.parquet`: as `items.parquet`, with the hidden traits of each item."""
    content = model.future
    table = future_table(model)
    table = table.append_column("quality", pa.array(content.quality))
    taste = pa.FixedSizeListArray.from_arrays(pa.array(content.taste.ravel()), model.config.taste_dim)
    table = table.append_column("taste", taste)
    pq.write_table(table, truth / "future_items.parquet", compression="zstd")


def future_table(model: Model) -> pa.Table:
    """The items of the days after the log, with the columns of `items.parquet`; ids go on after the log's."""
    return items_table(model.config, model.future, model.people, model.seed, len(model.content))


class _Shard:
    """One file of impressions and, beside it, one of response probabilities in the same order."""

    def __init__(self, path: Path, truth: Path | None):
        path.parent.mkdir(exist_ok=True)
        # plain strings in the file's schema: dictionaries are only how they are handed to the writer
        self._writer = pq.ParquetWriter(
            path, IMPRESSIONS, store_schema=False, use_dictionary=list(DICTIONARY_COLUMNS),
            compression={f.name: "none" if pa.types.is_floating(f.type) else "zstd" for f in IMPRESSIONS},
            compression_level={f.name: 1 for f in IMPRESSIONS if not pa.types.is_floating(f.type)},
            column_encoding=dict.fromkeys(DELTA_COLUMNS, "DELTA_BINARY_PACKED"),
            write_statistics=["timestamp", "user_id"],
        )
        self._truth = None
        if truth is not None:
            truth.parent.mkdir(exist_ok=True)
            self._truth = pq.ParquetWriter(
                truth, RESPONSES, compression="none", use_dictionary=False, write_statistics=False
            )
        self._pending: list[BlockDay] = []
        self._rows = 0

    def add(self, day: BlockDay) -> TableDigest | None:
        """Take the impressions of the next block; returns the digest of what was written, if anything was."""
        self._pending.append(day)
        self._rows += len(day.dwell)
        return self.flush() if self._rows >= ROW_GROUP else None

    def flush(self) -> TableDigest:
        digest = TableDigest()
        if self._rows:
            table = impressions_table(self._pending)
            self._writer.write_table(table)
            digest.update(table)
            if self._truth is not None:
                self._truth.write_table(responses_table(self._pending))
            self._pending, self._rows = [], 0
        return digest

    def close(self) -> None:
        self._writer.close()
        if self._truth is not None:
            self._truth.close()


_CATEGORY = pa.dictionary(pa.int8(), pa.string())
IMPRESSIONS = pa.schema([
    pa.field("user_id", pa.int64(), False), pa.field("item_id", pa.int64(), False),
    pa.field("timestamp", pa.timestamp("us", "UTC"), False), pa.field("request_id", pa.int64()),
    pa.field("session_id", pa.int64()), pa.field("position", pa.int32()), pa.field("surface", _CATEGORY),
    pa.field("device", _CATEGORY), pa.field("source", _CATEGORY), pa.field("propensity", pa.float32()),
    *(pa.field(a, pa.bool_(), False) for a in ACTIONS), pa.field("dwell_seconds", pa.float32()),
])
RESPONSES = pa.schema([pa.field(f"p_{a}", pa.float32(), False) for a in ACTIONS] + [
    pa.field("dwell_mean", pa.float32(), False),
])


def impressions_table(days: list[BlockDay]) -> pa.Table:
    """Rows of `impressions.parquet`."""

    def whole(read: Callable[[BlockDay], np.ndarray]) -> np.ndarray:
        return np.concatenate([read(d) for d in days])

    def category(read: Callable[[BlockDay], np.ndarray], names: tuple[str, ...]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(whole(read).astype(np.int8)), pa.array(names))

    columns = [
        whole(lambda d: d.shown.user).astype(np.int64) + 1, whole(lambda d: d.shown.item).astype(np.int64) + 1,
        whole(lambda d: d.shown.time), whole(lambda d: d.request), whole(lambda d: d.session),
        whole(lambda d: d.shown.position).astype(np.int32), category(lambda d: d.shown.surface, SURFACES),
        category(lambda d: d.shown.device, DEVICES), category(lambda d: d.source, SOURCES),
        whole(lambda d: d.propensity), *(whole(lambda d, j=j: d.actions[j]) for j in range(len(ACTIONS))),
        whole(lambda d: d.dwell),
    ]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, IMPRESSIONS, strict=True)]
    return pa.Table.from_arrays(arrays, schema=IMPRESSIONS)


def responses_table(days: list[BlockDay]) -> pa.Table:
    """Rows of `truth/responses.parquet`: the probability of each action and the expected dwell."""
    columns = [np.concatenate([d.odds.actions[j] for d in days]) for j in range(len(ACTIONS))]
    columns.append(np.concatenate([d.odds.dwell_mean for d in days]))
    return pa.Table.from_arrays([pa.array(c) for c in columns], schema=RESPONSES)


@dataclass
class _Log:
    """Totals of the impressions, and the state of the world when they end."""

    digest: TableDigest
    action_counts: np.ndarray
    time_span: tuple[int, int] | None
    end_state: dict[str, np.ndarray]
    interactions: int = 0

    @property
    def rows(self) -> int:
        return self.digest.rows

    def info(self) -> TableInfo:
        names = {f.name: str(f.type.value_type if pa.types.is_dictionary(f.type) else f.type) for f in IMPRESSIONS}
        return TableInfo(rows=self.digest.rows, digest=self.digest.hexdigest(), columns=names)


def _simulate(model: Model, folder: Path, truth: Path | None, threads: int, progress: Progress) -> _Log:
    config = model.config
    shelves = Shelves(config, model.content, len(model.people))
    policy = Policy(config, shelves, model.content)
    blocks = [Block(model, shelves, b) for b in range(model.blocks)]
    shard_count = min(config.shards, len(blocks))
    shard_of = np.arange(len(blocks)) * shard_count // len(blocks)
    shards = [_Shard(*_shard_paths(folder, truth, s, shard_count)) for s in range(shard_count)]
    log = _Log(TableDigest(), np.zeros(len(ACTIONS), np.int64), None, {})
    trend = np.zeros(len(model.content))
    decay = 0.5 ** (1 / config.logging.trending_half_life_days)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="world")
    try:
        _ = model.behaviour
        with progress.step("simulating days", config.days) as step:
            for day in range(config.days):
                index = DayIndex(config, shelves, day, trend)
                counts = np.zeros(len(model.content), np.int64)
                run = partial(Block.run, policy=policy, index=index, day=day)
                for number, result in _in_order(pool, blocks, run, threads + 2):
                    if result is not None:
                        positive = result.shown.item[result.interacted]
                        counts += np.bincount(positive, minlength=len(counts))
                        log.interactions += len(positive)
                        _count(log, result)
                        if digest := shards[shard_of[number]].add(result):
                            log.digest.merge(digest)
                # whole counts of a finished day: their sum does not depend on the order of the blocks
                trend = trend * decay + counts
                step.advance()
        for shard in shards:
            log.digest.merge(shard.flush())
    finally:
        pool.shutdown(cancel_futures=True)
        for shard in shards:
            shard.close()
    log.end_state = _end_state(blocks)
    return log


def _shard_paths(folder: Path, truth: Path | None, shard: int, count: int) -> tuple[Path, Path | None]:
    if count == 1:
        return folder / "impressions.parquet", truth and truth / "responses.parquet"
    part = f"part-{shard:05d}.parquet"
    return folder / "impressions" / part, truth and truth / "responses" / part


def _in_order(
    pool: ThreadPoolExecutor, blocks: list[Block], run: Callable, ahead: int
) -> Iterator[tuple[int, BlockDay | None]]:
    """Results of all blocks in their order, with at most `ahead` of them under way or waiting."""
    waiting = deque()
    for block in blocks:
        waiting.append((block.number, pool.submit(run, block)))
        if len(waiting) > ahead:
            number, future = waiting.popleft()
            yield number, future.result()
    while waiting:
        number, future = waiting.popleft()
        yield number, future.result()


def _count(log: _Log, day: BlockDay) -> None:
    log.action_counts += [int(np.count_nonzero(a)) for a in day.actions]
    low, high = int(day.shown.time.min()), int(day.shown.time.max())
    log.time_span = (low, high) if log.time_span is None else (min(low, log.time_span[0]), max(high, log.time_span[1]))


def _end_state(blocks: list[Block]) -> dict[str, np.ndarray]:
    """Follows with their ties, avoided people and satisfaction of everybody when the log ends."""
    people = blocks[0].follows.n
    first = [np.int64(b.users.start) * people for b in blocks]
    return {
        "follow_keys": np.concatenate([b.follows.keys + f for b, f in zip(blocks, first, strict=True)]),
        "follow_ties": np.concatenate([b.follows.value for b in blocks]),
        "avoid_keys": np.concatenate([b.avoids.keys + f for b, f in zip(blocks, first, strict=True)]),
        "satisfaction": np.concatenate([b.satisfaction for b in blocks]),
    }
