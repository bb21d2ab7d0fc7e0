"""Datasets from a dataset: that of some of its users, its parts for training and testing, and with more topics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
import polars as pl

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.schema import PARTS, DatasetManifest
from recsys_cli.data.vocabulary import lookup
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.data.writer import DatasetWriter, dataset_files
from recsys_cli.errors import ConfigError, DataError, UsageError
from recsys_cli.files import atomic_dir

OF_USERS = {"follows": "follower_id", "blocks": "user_id", "history": "user_id"}


def sample_dataset(
    dataset: Dataset, target: str | os.PathLike, users: int, *, seed: int = 0, all_items: bool = False
) -> DatasetManifest:
    """Write the dataset of some of the users who have impressions: their rows, and the items that those name.

    Authors who are users, and who made such an item or are followed by the sampled, come along without rows of their
    own. Places keep their order. all_items: keep items that nobody in the sample saw. Raises DataError where there are
    no more users than asked for, UsageError where the target is the dataset itself or no dataset.
    """
    require_other(dataset, target)
    found = [lookup(dataset.user_ids, f["user_id"]) for f in dataset.batches("impressions", ["user_id"])]
    seen = np.unique(np.concatenate(found)) if found else np.zeros(0, np.int32)
    if users >= len(seen):
        raise DataError(f"{dataset.path} has {len(seen):,} users with impressions", f"ask for fewer than {users:,}")
    chosen = np.sort(np.random.default_rng(seed).choice(seen, users, replace=False))
    ids = dataset.users["user_id"].gather(chosen)
    mine = pl.col("user_id").is_in(ids.implode())
    frames = {"items": dataset.items}
    if not all_items:
        touched = [f.filter(mine)["item_id"] for f in dataset.batches("impressions", ["user_id", "item_id"])]
        past = dataset.table("history")
        touched += [] if past is None else [past.filter(mine)["item_id"]]
        frames["items"] = dataset.items.filter(pl.col("item_id").is_in(pl.concat(touched).unique().implode()))
    edges = _edges(dataset, ids, frames["items"])
    people = [ids]
    if dataset.manifest.authors_are_users:
        people += [
            frame[c]
            for t, c in (("follows", "followee_id"), ("blocks", "author_id"))
            if (frame := edges.get(t)) is not None
        ]
        if "author_id" in frames["items"].columns:
            people.append(frames["items"]["author_id"].drop_nulls())
    frames["users"] = dataset.users.filter(pl.col("user_id").is_in(pl.concat(people).unique().implode()))
    origin = {"kind": "sample", "of": dataset.manifest.digest, "users": users, "seed": seed}
    return _write(dataset, target, frames | edges, (f.filter(mine) for f in dataset.batches("impressions")), origin)


def _edges(dataset: Dataset, ids: pl.Series, items: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Follows, blocks and history of some users; without authors who are users only edges to authors of the items."""
    out = {}
    for table, column in OF_USERS.items():
        frame = dataset.table(table)
        if frame is None:
            continue
        frame = frame.filter(pl.col(column).is_in(ids.implode()))
        if table != "history" and not dataset.manifest.authors_are_users:
            target = "followee_id" if table == "follows" else "author_id"
            known = items["author_id"].drop_nulls() if "author_id" in items.columns else items["item_id"].clear()
            frame = frame.filter(pl.col(target).is_in(known.unique().implode()))
        out[table] = frame
    return out


def split_dataset(
    dataset: Dataset, target: str | os.PathLike, config: WindowsConfig, *, seed: int = 0, apart: bool = False
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Write the dataset with its parts fixed: the column `split` says train, valid or test of every row of the log.

    The parts are those that `make_split` makes: history and ranker's window are train. apart: a dataset of its own
    for each part, in folders of their names, instead of the column. Returns (part → rows, what `make_split` tells).
    Raises ConfigError for a split that no column can tell, and as `make_split` does.
    """
    require_other(dataset, target)
    split = make_split(config, dataset, seed=seed)
    if split.held_out is not None:
        raise ConfigError(
            "windows.split is users: held-out people are no part of the rows", "use another kind of split"
        )
    part = np.full(len(dataset.log), -1, np.int8)
    places = np.arange(len(split.log)) if split.order is None else split.order
    edges = [split.windows.validation_start, split.windows.test_start]
    part[places] = np.searchsorted(edges, split.log.time, "right")
    rows = dataset.table("impressions")
    rows = rows.with_columns(_user=pl.Series(lookup(dataset.user_ids, rows["user_id"])))
    rows = rows.sort(["timestamp", "_user"], maintain_order=True).drop("_user")
    names = pl.Series(np.array([*PARTS, None], object)[part].tolist(), dtype=pl.String)
    rows = rows.with_columns(names.alias("split")).filter(names.is_not_null())
    counts = {name: rows.filter(pl.col("split") == name).height for name in PARTS}
    tables = {t: dataset.table(t) for t in dataset.manifest.tables if t != "impressions"}
    origin = {"kind": "split", "of": dataset.manifest.digest, "windows": split.kind, "seed": seed}
    if not apart:
        _write(dataset, target, tables, [rows], origin, _spans(rows))
        return counts, split.messages
    with atomic_dir(target, ours=_parts_apart) as folder:
        for name in PARTS:
            mine = rows.filter(pl.col("split") == name).drop("split")
            _write(dataset, folder / name, tables, [mine], origin | {"part": name})
    return counts, split.messages


def without_topics(dataset: Dataset) -> np.ndarray:
    """int64[n]: places of the items that have no topic."""
    if "topics" not in dataset.items.columns:
        return np.arange(dataset.items.height)
    return np.flatnonzero((dataset.items["topics"].list.len().fill_null(0) == 0).to_numpy())


def label_dataset(
    dataset: Dataset, target: str | os.PathLike, topics: Mapping[int, list[str]], origin: dict
) -> DatasetManifest:
    """Write the dataset with topics for items that have none: place of an item → its topics.

    Items that have topics keep them. Raises UsageError where the target is the dataset itself or no dataset.
    """
    require_other(dataset, target)
    items = dataset.items
    held = items["topics"].to_list() if "topics" in items.columns else [None] * items.height
    labelled = [found or topics.get(place) or found for place, found in enumerate(held)]
    tables = {t: dataset.table(t) for t in dataset.manifest.tables if t != "impressions"}
    tables["items"] = items.with_columns(pl.Series("topics", labelled, dtype=pl.List(pl.String)))
    told = {"kind": "labelled", "of": dataset.manifest.digest, **origin}
    return _write(dataset, target, tables, dataset.batches("impressions"), told, dataset.manifest.splits)


def _parts_apart(folder: Path) -> set[str]:
    """Files below a folder that an earlier split apart, or a dataset in its place, put there."""
    out = dataset_files(folder)
    for name in PARTS:
        files = dataset_files(folder / name)
        if files and orjson.loads((folder / name / "dataset.json").read_bytes())["origin"].get("kind") == "split":
            out |= {f"{name}/{file}" for file in files}
    return out


def _spans(rows: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """Part → its first moment and the one after its last, µs."""
    moments = rows.group_by("split").agg(pl.col("timestamp").min().alias("a"), pl.col("timestamp").max().alias("b"))
    found = {s: (a, b + 1) for s, a, b in moments.with_columns(pl.col("a", "b").cast(pl.Int64)).rows()}
    return {name: found[name] for name in PARTS if name in found}


def require_other(dataset: Dataset, target: str | os.PathLike) -> None:
    """Raises UsageError where a dataset is to be written in its own place."""
    if Path(target).resolve() == dataset.path.resolve():
        raise UsageError(f"{target} is the dataset itself", "name another folder with --to")


def _write(
    dataset: Dataset,
    target: str | os.PathLike,
    tables: dict[str, pl.DataFrame],
    log,
    origin: dict,
    splits: dict[str, tuple[int, int]] | None = None,
) -> DatasetManifest:
    """Write a dataset with the actions of another."""
    m = dataset.manifest
    with atomic_dir(target, ours=dataset_files) as folder:
        writer = DatasetWriter(
            folder, m.name, {a: info.polarity for a, info in m.actions.items()}, dataset.context_columns
        )
        try:
            for table, frame in tables.items():
                writer.table(table).write(frame)
            for batch in log:
                writer.table("impressions").write(batch)
            return writer.finish(
                origin={**{k: v for k, v in m.origin.items() if k == "earliest"}, **origin},
                has_time=m.has_time,
                has_order=m.has_order,
                authors_are_users=m.authors_are_users,
                splits=splits,
            )
        finally:
            writer.abandon()
