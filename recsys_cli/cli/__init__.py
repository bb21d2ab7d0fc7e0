"""The command line. `main` is the console script `recsys`."""

from __future__ import annotations

import gc
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
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for any takes as long as two slates
    # A command makes hundreds of thousands of objects that stay (modules, classes, settings). To look through them for
    # cycles after every 700 new ones takes a tenth of the time of a cold `recommend`.
    gc.set_threshold(100_000, 50, 10)
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal that knows no arrows gets question marks
    from recsys_cli.cli.common import run

    code = run(sys.argv[1:])
    gc.freeze()  # else the interpreter looks through all objects once more before it ends, for a tenth of a second
    sys.exit(code)
