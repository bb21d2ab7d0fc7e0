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


def peak_memory_mib() -> float:
    """Highest resident memory of this process; what getrusage tells counts the parent before the program began too."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def answer(out: str, lists: dict[str, list[str]], fit_seconds: float, rank_seconds: float) -> None:
    """Write the lists and what they took."""
    document = {"lists": lists, "fit_seconds": fit_seconds, "rank_seconds": rank_seconds}
    document["peak_memory_mib"] = peak_memory_mib()
    Path(out).write_text(json.dumps(document))
