"""A forking process for commands that are to die, and a small project for them to work in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import write_project

HERE = Path(__file__).resolve().parent


class Forked:
    """Commands run in forks of a process that has everything imported; see forking.py."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forking.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=HERE.parents[1],
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        )
        assert self._process.stdout.readline() == "ready\n"

    def __call__(self, line: str, folder: Path, fault: dict | None = None, limit: float = 300) -> dict:
        request = {"argv": line.split(), "cwd": str(folder), "fault": fault, "limit": limit}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def done(self, line: str, folder: Path) -> dict:
        """Run a command that must end well."""
        got = self(line, folder)
        assert got["code"] == 0, f"{line}: {got['code']} {got['err']}"
        return got

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(60)


@pytest.fixture(scope="session")
def forked():
    process = Forked()
    yield process
    process.close()


@pytest.fixture(scope="session")
def project(forked, tmp_path_factory) -> Path:
    """A project folder with a generated world, two runs and the log of a server; tests copy it."""
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.serving.events import Event, EventRules

    folder = tmp_path_factory.mktemp("project") / "project"
    write_project(folder)
    for line in ("generate-data -q", "train --no-refit -q", "train -q"):
        forked.done(line, folder)
    dataset = Dataset.open(folder / "data")
    first = dataset.manifest.time_span[1]
    users, items = (dataset.table(t)[f"{t[:-1]}_id"].to_list() for t in ("users", "items"))
    rules = EventRules(actions=tuple(dataset.manifest.actions), late_days=10_000, integer_users=True)
    events = [
        Event(kind, str(users[k % len(users)]), str(items[k % len(items)]), timestamp=first + 1_000_000 * k,
              request_id=str(k // 5))
        for k in range(100) for kind in ("impression", "click")[: 1 + (k % 3 == 0)]
    ]
    with EventLog.open(folder / "events", rules, now=lambda: first + 86_400_000_000) as log:
        assert log.append(events).accepted == len(events)
    return folder
