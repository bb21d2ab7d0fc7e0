"""The lines that tell of windows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from recsys_cli.data.log import Log
    from recsys_cli.data.windows.windows import Windows

NAMES = ("history", "ranker", "validation", "test")


def bounds(w: Windows) -> list[tuple[int, int]]:
    """(start, end) µs of the four parts of the log, in their order."""
    edges = (w.start, w.history_end, w.validation_start, w.test_start, w.end)
    return list(pairwise(edges))


def first_line(kind: str, why: str, what: str, seed: int | None = None) -> str:
    """Which split, why where it was chosen here, and what measures."""
    drawn = "" if seed is None else f", drawn with seed {seed}"
    return f"windows: {kind}{f', since {why}' if why else ''}: {what}{drawn}"


def spans_text(windows: Windows, log: Log) -> str:
    """When the test window of cuts in time begins, and the rows of each."""
    counts = [int(np.diff(np.searchsorted(log.time, span))[0]) for span in bounds(windows)]
    if windows.test_start >= windows.end:
        return f"nothing is held out ({counts_text(counts)})"
    return f"test from {iso(windows.test_start)[:16]} UTC on ({counts_text(counts)})"


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


def iso(moment: int) -> str:
    """A moment (µs) as ISO 8601, UTC."""
    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")
