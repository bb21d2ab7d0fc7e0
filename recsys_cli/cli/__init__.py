"""The command line. `main` is the console script `recsys`."""

from __future__ import annotations

import sys


def main() -> None:
    from recsys_cli.cli.common import run

    sys.exit(run(sys.argv[1:]))
