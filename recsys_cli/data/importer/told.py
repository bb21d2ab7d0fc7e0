"""What an import tells beside its counts: what was recognised, what was kept though it looks wrong, what was merged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from recsys_cli.data.importer.convert import Warned


@dataclass
class Told:
    """Collected over all batches of an import."""

    merged: dict[str, int] = field(default_factory=dict)
    """table → rows that another row stands for"""
    added: dict[str, int] = field(default_factory=dict)
    """table → rows that no row of a file stands for: ids of the log, the other way of friendships"""
    _notes: dict[str, None] = field(default_factory=dict)
    _passed: dict[tuple[str, str], int] = field(default_factory=dict)
    _warned: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def note(self, text: str) -> None:
        """Something to be told once."""
        self._notes[text] = None

    def warn(self, table: str, file: Path, warned: list[Warned]) -> None:
        """Values that were kept or left unknown: counted, the first with its place."""
        for w in warned:
            count, first = self._warned.get((table, w.text), (0, ""))
            value = "" if w.value is None else f": {w.value[:40]!r}"
            self._warned[table, w.text] = (count + w.count, first or f"{file.name} line {w.line}{value}")

    def pass_over(self, table: str, file: Path, rows: int) -> None:
        """Rows of a file that a mapping does not take for a table."""
        if rows:
            self._passed[table, file.name] = self._passed.get((table, file.name), 0) + rows

    def merge(self, table: str, rows: int) -> None:
        self.merged[table] = self.merged.get(table, 0) + rows

    @property
    def lines(self) -> list[str]:
        """Each in a line."""
        warned = [f"{t}: {text} ({n:,} rows, first {first})" for (t, text), (n, first) in self._warned.items()]
        passed = [f"{file}: {n:,} rows are none of {table} (`where`)" for (table, file), n in self._passed.items()]
        return [*self._notes, *passed, *warned]
