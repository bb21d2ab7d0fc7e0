"""Runs that variants of experiments are answered from, beside the run that is served: opened when an experiment names
them, closed when none does any longer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from recsys_cli.errors import RecsysError

if TYPE_CHECKING:
    from recsys_cli.serving.live import Live

MOST = 4
"""Runs open at once beside the one that is served: each takes the memory and the processes of a server."""


class VariantRuns:
    """The runs of variants, by their ids."""

    def __init__(self) -> None:
        self._held: dict[str, Live] = {}
        self._failed: dict[str, str] = {}
        self._wanted: frozenset[str] = frozenset()

    def __iter__(self) -> Iterator[Live]:
        return iter(list(self._held.values()))

    @property
    def version(self) -> tuple[str, ...]:
        """What changes with the runs that are there."""
        return (*sorted(self._held), "", *sorted(self._failed))

    def get(self, run: str | None) -> Live | None:
        """One that is open."""
        return self._held.get(run)

    def want(self, runs: set[str]) -> None:
        """Say which are needed."""
        self._wanted = frozenset(runs)

    def why_not(self, run: str) -> str:
        """Why one that is needed is not open."""
        return self._failed.get(run, f"run {run} is being opened")

    async def settle(
        self, load: Callable[[str], Awaitable[Live]], retire: Callable[[Live], None]
    ) -> None:
        """Open what is needed and let go of what is not. load: opens a run and makes it ready to answer."""
        for run in [run for run in self._held if run not in self._wanted]:
            retire(self._held.pop(run))
        self._failed = {run: told for run, told in self._failed.items() if run in self._wanted}
        for run in sorted(self._wanted - self._held.keys() - self._failed.keys()):
            if len(self._held) >= MOST:
                self._failed[run] = f"run {run} is the {MOST + 1}th beside the one that is served; {MOST} are opened"
                continue
            try:
                self._held[run] = await load(run)
            except (RecsysError, OSError) as error:
                self._failed[run] = f"run {run} cannot be served: {str(error).splitlines()[0]}"
