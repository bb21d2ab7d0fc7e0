"""Every fault of tests/faults: kills of each command before each rename and at random moments, disks that fail, damaged
runs and datasets, hostile options. Some of each kind are in the suite; all take a quarter of an hour of an idle core.

    python tests/simulations/faults.py [arguments of pytest]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    command = [sys.executable, "-m", "pytest", "tests/faults", "--durations=10", *sys.argv[1:]]
    environment = os.environ | {"RECSYS_FAULTS": "all", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
