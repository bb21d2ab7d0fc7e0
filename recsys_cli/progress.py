"""Progress of long steps: a bar on a terminal's stderr, nothing anywhere else."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator


class Step:
    """One running step; `advance` moves its bar."""

    def advance(self, amount: float = 1) -> None: ...

    def describe(self, text: str) -> None: ...


class Progress:
    """Silent progress, the one that libraries and tests use; `TerminalProgress` draws it."""

    @contextlib.contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        """Time a step of `total` units (None where the length is unknown)."""
        yield Step()

    def message(self, text: str) -> None:
        """Say one line on stderr, once (nothing when silent)."""


class TerminalProgress(Progress):
    """Bars on a terminal, plain lines where stderr is not one."""

    def __init__(self) -> None:
        from recsys_cli.terminal import console

        self._console = console(stderr=True)
        self._live = None
        self._steps = 0
        self._lock = threading.Lock()
        self._said: set[str] = set()

    @contextlib.contextmanager
    def step(self, name: str, total: float | None = None) -> Iterator[Step]:
        if not sys.stderr.isatty():
            yield Step()
            return
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        with self._lock:  # steps may run side by side
            self._steps += 1
            if self._live is None:
                self._live = Bars(
                    SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                    TimeElapsedColumn(), console=self._console, transient=True,
                )
                self._live.start()
            bars = self._live
        task = bars.add_task(name, total=total)

        class _Bar(Step):
            def advance(self, amount: float = 1) -> None:
                bars.advance(task, amount)

            def describe(self, text: str) -> None:
                bars.update(task, description=f"{name} · {text}")

        try:
            yield _Bar()
        finally:
            bars.remove_task(task)
            with self._lock:
                self._steps -= 1
                if not self._steps:
                    bars.stop()
                    self._live = None

    def message(self, text: str) -> None:
        if text in self._said:  # a source is fitted on several windows, and says the same of each
            return
        self._said.add(text)
        self._console.print(text, highlight=False, soft_wrap=True, markup=False)
