"""What is checked of windows, and the lines that tell of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.split_rows import HISTORY, RANKER, TEST, VALIDATION
from recsys_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.data.windows import Windows

NAMES = ("history", "ranker", "validation", "test")
SETTINGS = (
    "windows.history_share", "windows.history_share and windows.validation_share",
    "windows.validation_share (or validation_rows)", "windows.test_share (or test_rows)",
)
"""What decides about the rows of each window."""


def refuse_empty(window: np.ndarray, dataset: Dataset, final: bool) -> None:
    """Raises DataError where a window (int8[n] codes of the rows) holds no row; with `final` the test may."""
    counts = np.bincount(window, minlength=TEST + 1)
    for code in (HISTORY, RANKER, VALIDATION, *(() if final else (TEST,))):
        if not counts[code]:
            raise DataError(
                f"{dataset.path}: the {NAMES[code]} window holds no impression (of {len(window):,})",
                f"users have too few rows for {SETTINGS[code]}; change that, or bring more data",
            )


def check_windows(windows: Windows, log: Log, dataset: Dataset) -> None:
    """Raises ConfigError where cuts in time are out of order, DataError where nothing lies between two of them."""
    if not windows.history_end <= windows.validation_start <= windows.test_start <= windows.end:
        raise ConfigError(
            "windows: history_end, validation_start and test_start are not in this order within the data",
            f"the data runs from {_iso(windows.start)} to {_iso(windows.end)}",
        )
    spans = _bounds(windows)[: None if windows.test_start < windows.end else -1]
    for name, setting, (start, stop) in zip(NAMES, SETTINGS, spans, strict=False):
        if not ((log.time >= start) & (log.time < stop)).any():
            raise DataError(
                f"{dataset.path}: the {name} window ({_iso(start)} to {_iso(stop)}) holds no impression",
                f"the dataset is too small or too short for {setting}; change that, or bring more data",
            )


def _bounds(w: Windows) -> list[tuple[int, int]]:
    edges = (w.start, w.history_end, w.validation_start, w.test_start, w.end)
    return list(pairwise(edges))


def first_line(kind: str, why: str, what: str, seed: int | None = None) -> str:
    """Which split, why where it was chosen here, and what measures."""
    drawn = "" if seed is None else f", drawn with seed {seed}"
    return f"windows: {kind}{f', since {why}' if why else ''}: {what}{drawn}"


def spans_text(windows: Windows, log: Log) -> str:
    """When the test window of cuts in time begins, and the rows of each."""
    counts = [int(np.diff(np.searchsorted(log.time, span))[0]) for span in _bounds(windows)]
    if windows.test_start >= windows.end:
        return f"nothing is held out ({counts_text(counts)})"
    return f"test from {_iso(windows.test_start)[:16]} UTC on ({counts_text(counts)})"


def counts_text(counts: Iterable[int]) -> str:
    """Rows of the four windows."""
    return ", ".join(f"{name} {int(n):,}" for name, n in zip(NAMES, counts, strict=True)) + " rows"


def strangers(log: Log, windows: Windows) -> tuple[str, ...]:
    """Notes on users and items of the test window that nothing before it knows."""
    test, past = log.window(windows.test_start, windows.end), log.window(end=windows.test_start)
    if not len(test):
        return ()
    out = []
    for what, ids, known in (("users", test.user, past.user), ("items", test.item, past.item)):
        named = np.unique(ids)
        new = int((~np.isin(named, known)).sum())
        if what == "users" and new == len(named):
            out.append("no test user has a row before the test window: only what needs no history can be measured")
        elif what == "users" and 2 * new > len(named):
            out.append(
                f"most test users, {new:,} of {len(named):,}, have no row before the test window: "
                "`evaluate` shows known and new users apart"
            )
        elif new:
            out.append(f"{new:,} of {len(named):,} {what} of the test window stand only there")
    return tuple(out)


def _iso(moment: int) -> str:
    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")
