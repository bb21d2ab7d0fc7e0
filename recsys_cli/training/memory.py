"""How much memory a training may take, and who takes it while sources are fitted side by side."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from recsys_cli.errors import ConfigError

GIB = 2**30
SHARE = 0.8
"""Share of the memory that is free which is taken where the settings name no budget."""


def free_bytes() -> int:
    """Memory that the machine, or the container that this runs in, can still give."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        group = Path("/sys/fs/cgroup")
        most, now = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        return min(free, max(most - now, 0))
    except (OSError, ValueError):  # no group, or one without a bound, which says "max"
        return free


def used_bytes() -> int:
    """Memory that this process has; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


class MemoryBudget:
    """Bytes that a training may still take, and those that are lent to the fits that run."""

    def __init__(self, gib: float):
        """gib: of the settings; 0 for a share of what is free."""
        used = used_bytes()
        self.gib, self.used = gib, used
        self.room = int(gib * GIB) - used if gib else int(SHARE * free_bytes())
        self._lent, self._change = 0, threading.Condition()

    def check(
        self, needs: Mapping[str, int], fits: Mapping[str, Callable[[int], str | None]] | None = None
    ) -> str | None:
        """What to say where the dearest of these does not fit beside what the process holds already.

        needs: bytes by name. fits: by name, what to set so that it takes at most so many bytes; None where nothing
        helps. Raises ConfigError where the settings name a budget that is too small.
        """
        name = max(needs, key=needs.__getitem__, default=None)
        if name is None or needs[name] <= self.room:
            return None
        told = f"{name} needs about {needs[name] / GIB:.2f} GiB beside {self.used / GIB:.2f} GiB that are held"
        other = fits[name](self.room) if fits and name in fits else None
        if self.gib:
            least = math.ceil(10 * (needs[name] + self.used) / GIB) / 10
            raise ConfigError(
                f"memory_gib is {self.gib:g}, and {told}",
                f"set memory_gib to {least:g} or more, or {other or 'do without it'}",
            )
        told = f"{told}, and {self.room / GIB:.1f} GiB are free: the training may run out of memory"
        return f"{told}; {other} would fit" if other else told

    @contextmanager
    def lent(self, need: int) -> Iterator[None]:
        """Wait until so many bytes are free; what needs more than there is runs alone."""
        with self._change:
            self._change.wait_for(lambda: not self._lent or self._lent + need <= self.room)
            self._lent += need
        try:
            yield
        finally:
            with self._change:
                self._lent -= need
                self._change.notify_all()
