"""What the scripts of peers share: what they are asked, and how they answer. It needs pandas alone."""

import json
import resource
import sys
import time
from pathlib import Path

import pandas as pd


def asked() -> tuple[pd.DataFrame, list[str], int, str, list[str]]:
    """(training rows: user, item, maybe time; users; length of list; file to write; further arguments)."""
    rows, users, length, out, *more = sys.argv[1:]
    data = pd.read_csv(rows, dtype={"user": str, "item": str})
    return data, Path(users).read_text().splitlines(), int(length), out, more


class Clock:
    """Seconds since it was made, and between two calls of `lap`."""

    def __init__(self):
        self.last = time.perf_counter()

    def lap(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before


def answer(out: str, lists: dict[str, list[str]], fit_seconds: float, rank_seconds: float) -> None:
    """Write the lists and what they took."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    document = {"lists": lists, "fit_seconds": fit_seconds, "rank_seconds": rank_seconds, "peak_memory_mib": peak}
    Path(out).write_text(json.dumps(document))
