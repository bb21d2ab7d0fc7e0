"""A folder in which the program is run as a person would run it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A working folder with a configuration, and the program run in it."""

    folder: Path

    def recsys(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=300,
        )

    def ok(self, *arguments: str, **environment: str) -> str:
        """stdout of a command that must end well and without noise on stderr but messages."""
        done = self.recsys(*arguments, **environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def refused(self, code: int, *arguments: str, **environment: str) -> str:
        """stderr of a command that must be refused with this exit code in one or two lines."""
        done = self.recsys(*arguments, **environment)
        assert done.returncode == code, (done.returncode, done.stderr, done.stdout[-500:])
        errors = [line for line in done.stderr.splitlines() if line]
        assert errors and "Traceback" not in done.stderr
        assert len(errors) <= 3, errors
        assert done.stdout == ""
        return done.stderr

    @staticmethod
    def command(*arguments: str) -> list[str]:
        return [sys.executable, "-m", "recsys_cli", *arguments]

    @staticmethod
    def environment(**more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
        return kept | {"RECSYS_CONFIG": "tiny.yaml", "RECSYS_THREADS": "1", "OMP_NUM_THREADS": "1"} | more

    @classmethod
    def trained(cls, folder: Path, settings: str, mapping: str, **tables: str) -> tuple[Place, str]:
        """A place where the tables (name → CSV) were imported by the mapping and trained on, and what training said."""
        place = cls(folder)
        for name, text in {"tiny.yaml": settings, "mapping.yaml": mapping}.items():
            (folder / name).write_text(text)
        for name, text in tables.items():
            (folder / f"{name}.csv").write_text(text)
        place.ok("import-data", "mapping.yaml", "--from", ".", "--to", "data/world")
        done = place.recsys("train")
        assert done.returncode == 0, done.stderr
        return place, done.stderr

    def copy(self, target: Path) -> Place:
        """The same place elsewhere, to be harmed."""
        shutil.copytree(self.folder, target, symlinks=True)
        return Place(target)
