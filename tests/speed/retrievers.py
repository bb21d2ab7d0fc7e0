"""Seconds to fit every kind of candidate source on the default world's log before its test window.

    python tests/speed/retrievers.py [KIND ...]

Each is fitted with its default settings. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.state import State
from recsys_cli.data.windows.split import make_split
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Window
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings

LIMIT = 90


def main(kinds: list[str]) -> None:
    settings = Settings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "world"
        command = [sys.executable, "-m", "recsys_cli", "generate-data", "--data-dir", folder, "--quiet"]
        subprocess.run(command, check=True)
        dataset = Dataset.open(folder)
        end = make_split(settings.windows, dataset, seed=settings.seed).windows.test_start
        log = dataset.log.window(end=end)
        edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
        window = Window(dataset, dataset.catalogue, log, end, State.build(dataset.catalogue, log, end, **edges))
        total = 0.0
        for kind in kinds or SOURCES:
            source = SOURCES[kind](SOURCES[kind].config_type())
            lack = source.missing(window)
            if lack is not None:
                print(f"{kind:<20} {lack}", flush=True)
                continue
            start = time.perf_counter()
            source.fit(window, Progress())
            seconds = time.perf_counter() - start
            total += seconds
            print(f"{kind:<20} {seconds:8.2f} s", flush=True)
    print(f"{'all':<20} {total:8.2f} s   at most {LIMIT}{'' if total <= LIMIT else '   MISSED'}")


if __name__ == "__main__":
    main(sys.argv[1:])
