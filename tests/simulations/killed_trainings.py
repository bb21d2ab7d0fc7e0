"""A retraining that is killed again and again: `python tests/simulations/killed_trainings.py`.

`recsys retrain` is killed as soon as it has written one file more than the one before had, until one comes to its end.
After each death the run in use is opened and verified. One line a death, then the decision log and the outcome.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))
sys.path.insert(0, str(Path(__file__).parents[1] / "serving"))

from planted_datasets import as_of_share, rewritten
from server_process import CONFIG

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.config import validate
from recsys_cli.live.decisions import Decisions
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate

GATES = "live: {gates: {quality_loss: 1, order_loss: 1, auc_loss: 1, calibration_loss: 1, coverage_loss: 1}}\n"
"""Chance moves the lists of so small a world; what is looked at here is what a death leaves."""


def files(work: Path) -> set[str]:
    """Whole files below the work folder."""
    return {str(p.relative_to(work)) for p in work.rglob("*") if p.is_file() and not p.name.startswith(".")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deaths", type=int, default=40, help="at most")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="recsys-killed-"))
    try:
        live_through(folder, asked.deaths)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def live_through(folder: Path, most: int) -> None:
    config = validate(WorldConfig, {"users": 60, "items": 300, "days": 6})
    generate(config, 1, folder / "whole", threads=1)
    rewritten(folder / "whole", folder / "data", as_of_share(0.8))
    (folder / "c.yaml").write_text(CONFIG + GATES)
    command = [sys.executable, "-m", "recsys_cli", "retrain", "-c", "c.yaml"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    artifacts = folder / "artifacts"
    store, work = RunStore(artifacts), artifacts / "work"
    used = store.current()
    command += ["--data-dir", "whole"]
    for death in range(most):
        before = files(work) if work.is_dir() else set()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (work.is_dir() and files(work) - before):
            time.sleep(0.01)
        if process.poll() is not None:
            break
        new = sorted(files(work) - before)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert store.current() == used, "the run in use stays"
        store.open(used).verify(everything=True)
        print(f"death {death + 1} behind {', '.join(new)[:90]}: {used} is whole and in use", flush=True)
    last = Decisions(artifacts).read()[-1]
    assert process.returncode == 0 and last["outcome"] == "promoted", last
    assert store.current() == last["run"] != used
    died = sum(row["outcome"] == "died" for row in Decisions(artifacts).read())
    print(f"then {last['run']} was promoted; the decision log names {died} deaths")


if __name__ == "__main__":
    main()
