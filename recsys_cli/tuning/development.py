"""The data of a study: a copy of the dataset that holds no row of the test window."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recsys_cli.data.dataset import Dataset, read_manifest
from recsys_cli.data.vocabulary import lookup
from recsys_cli.data.windows.config import OF_USER, WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.data.windows.windows import Split
from recsys_cli.data.writer import write_dataset
from recsys_cli.errors import DataError
from recsys_cli.settings import Settings


@dataclass(frozen=True)
class Development:
    """Where the copies of the data lie, and the windows that make the validation window theirs to measure on."""

    folder: Path
    windows: WindowsConfig

    def of(self, share: float) -> Path:
        """The dataset of a share of the people; 1 is everybody."""
        return self.folder / f"{share:g}"


def make_development(settings: Settings, dataset: Dataset, folder: Path, shares: tuple[float, ...]) -> Development:
    """Write the dataset without its test window below `folder`, for everybody and for shares of the people.

    Copies that are there already are kept: they come from the same data, windows and seed (the study's digest).
    The validation window of the settings becomes the last window of the copies, so that what is measured on them is
    what the settings call validation. Raises DataError as `make_split` does.
    """
    split = make_split(settings.windows, dataset, seed=settings.seed)
    kept = rows_before_test(dataset, split)
    people = np.random.default_rng(settings.seed).random(dataset.catalogue.n_users)
    development = Development(folder, windows_before_test(settings.windows, split, dataset))
    for share in (*shares, 1.0):
        path = development.of(share)
        if (path / "dataset.json").is_file():
            read_manifest(path)
            continue
        rows = kept & (people[dataset.log.user] <= share)
        if not (rows & dataset.log.positive).any():
            raise DataError(f"{dataset.path}: {share:.0%} of the people have no interaction before the test window")
        _write(dataset, rows, path)
    return development


def rows_before_test(dataset: Dataset, split: Split) -> np.ndarray:
    """bool[rows of the log] those that are of no test window."""
    kept = np.zeros(len(dataset.log), bool)
    before = split.log.time < split.windows.test_start
    kept[np.flatnonzero(before) if split.order is None else split.order[before]] = True
    return kept


def windows_before_test(config: WindowsConfig, split: Split, dataset: Dataset) -> WindowsConfig:
    """Windows of the copies: what validates in `split` measures there."""
    if not split.places:
        start = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=split.windows.validation_start)
        return WindowsConfig(split="time", test_start=start)
    kind = split.kind
    if kind == "given":
        kind = "last" if dataset.manifest.has_order else "user_random"
    rows = config.validation_rows or config.test_rows
    if kind == "last" and rows:
        return WindowsConfig(split=kind, test_rows=rows, validation_rows=rows)
    measured = config.validation_share / (1 - config.test_share)
    validated = min(measured, (1 - measured) / 3)
    history = config.history_share or OF_USER
    learned = 1 - config.test_share - config.validation_share
    return WindowsConfig(
        split=kind, test_share=measured, validation_share=validated, known_share=config.known_share,
        history_share=min(history / learned, 0.8) * (1 - measured - validated),
    )


def _write(dataset: Dataset, rows: np.ndarray, path: Path) -> None:
    """Write some of the rows of the log, and every other table as it is."""
    manifest = dataset.manifest
    frame = dataset.table("impressions")
    users = pl.Series("_user", lookup(dataset.user_ids, frame["user_id"]))
    # in the order of the log, which `rows` are of
    frame = frame.with_columns(users).sort(["timestamp", "_user"], maintain_order=True).drop("_user")
    frame = frame.filter(pl.Series(rows))
    tables = {name: frame if name == "impressions" else dataset.table(name) for name in manifest.tables}
    if manifest.splits:
        tables["impressions"] = tables["impressions"].drop("split", strict=False)
    write_dataset(
        path, manifest.name, tables, {a: info.polarity for a, info in manifest.actions.items()},
        origin={"kind": "development", "digest": manifest.digest}, has_time=manifest.has_time,
        has_order=manifest.has_order, authors_are_users=manifest.authors_are_users,
        context=set(dataset.context_columns),
    )
