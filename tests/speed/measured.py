"""A command in a process of its own: its seconds, those of the processor, and its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    seconds: float
    processor: float
    """seconds of all threads"""
    gib: float
    """peak of resident memory"""

    @property
    def cores(self) -> float:
        """Busy on average."""
        return self.processor / max(self.seconds, 1e-9)


def recsys(place: Path, *arguments: str, settings: tuple[str, ...] = ()) -> Measured:
    """`recsys` with data and artifacts below the place; exits with what it wrote to stderr where it fails."""
    command = [sys.executable, "-m", "recsys_cli", *arguments]
    command += ["--data-dir", str(place / "data"), "--artifacts-dir", str(place / "artifacts"), "--quiet"]
    for setting in settings:
        command += ["--set", setting]
    start = time.perf_counter()
    with open(place / "stderr.txt", "w+") as errors:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            errors.seek(0)
            sys.exit(f"{' '.join(command)} exits {child.returncode}: {errors.read().strip()}")
    return Measured(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20)
