"""The command line. `main` is the console script `recsys`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    # Before numpy is loaded. The program's parallelism is over batches of users and over models; threads inside a
    # small product only wait for each other, and while they wait they must not spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from recsys_cli.cli.common import run

    sys.exit(run(sys.argv[1:]))
