"""The command line. `main` is the console script `recsys`."""

from __future__ import annotations

import os
import signal
import sys


def _terminate(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends at once
    from recsys_cli.errors import Terminated

    raise Terminated


def main() -> None:
    """Run the command line, as the script `recsys` does."""
    # Before numpy is loaded. The program's parallelism is over batches of users and over models; threads inside a
    # small product only wait for each other, and while they wait they must not spin.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no arrows gets question marks
    from recsys_cli.cli.common import run

    sys.exit(run(sys.argv[1:]))
