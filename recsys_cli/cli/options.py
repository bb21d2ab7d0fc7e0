"""The options that every command has, and those that several have."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Literal

import typer

RunOption = Annotated[
    str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)
]
"""Of commands that look at one run."""
EngineOption = Annotated[
    Literal["local", "ray"] | None,
    typer.Option("--engine", help="Work here, or on a Ray cluster  [default: engine of the settings]",
                 show_default=False),
]  # fmt: skip
"""Of commands that can work on a cluster."""
SimulatedDaysOption = Annotated[
    int | None,
    typer.Option("--days", min=1, help="Days to simulate  [default: as the file says]", show_default=False),
]
"""Of commands that simulate what a file tells."""

GLOBAL_OPTIONS: list[inspect.Parameter] = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
    for name, annotation, default in (
        (
            "config",
            Annotated[
                Path | None,
                typer.Option(
                    "--config",
                    "-c",
                    envvar="RECSYS_CONFIG",
                    help="YAML file  [default: recsys.yaml, else configs/default.yaml, if there]",
                    show_default=False,
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "preset",
            Annotated[
                str | None,
                typer.Option(
                    "--preset",
                    envvar="RECSYS_PRESET",
                    metavar="NAME",
                    help="Settings of a kind of feed, over those of the file (`recsys presets` lists them)",
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "set",
            Annotated[
                list[str] | None,
                typer.Option(
                    "--set",
                    envvar="RECSYS_SET",
                    metavar="KEY=VALUE",
                    help="Override one value, e.g. ranking.heavy.epochs=3 (repeatable)",
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "data_dir",
            Annotated[
                Path | None,
                typer.Option("--data-dir", envvar="RECSYS_DATA_DIR", help="Dataset folder", show_envvar=False),
            ],
            None,
        ),
        (
            "artifacts_dir",
            Annotated[
                Path | None,
                typer.Option(
                    "--artifacts-dir", envvar="RECSYS_ARTIFACTS_DIR", help="Folder of runs and logs", show_envvar=False
                ),
            ],
            None,
        ),
        (
            "seed",
            Annotated[
                int | None,
                typer.Option("--seed", envvar="RECSYS_SEED", help="Seed of everything random", show_envvar=False),
            ],
            None,
        ),
        (
            "threads",
            Annotated[
                int | None,
                typer.Option(
                    "--threads",
                    envvar="RECSYS_THREADS",
                    min=0,
                    help="Threads to use, 0 for all cores",
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "format",
            Annotated[
                str | None,
                typer.Option(
                    "--format",
                    envvar="RECSYS_FORMAT",
                    help="table, json, jsonl (a row a line), csv or parquet",
                    metavar="FORMAT",
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "output",
            Annotated[
                str | None,
                typer.Option(
                    "--output",
                    "-o",
                    envvar="RECSYS_OUTPUT",
                    metavar="FILE",
                    help="Write the result to a file instead of stdout; also at an address, s3://bucket/name",
                    show_envvar=False,
                ),
            ],
            None,
        ),
        (
            "raw",
            Annotated[
                bool,
                typer.Option(
                    "--raw",
                    envvar="RECSYS_RAW",
                    help="CSV cells as they are, also those that a spreadsheet takes for formulas",
                    show_envvar=False,
                ),
            ],
            False,
        ),
        (
            "quiet",
            Annotated[
                bool,
                typer.Option("--quiet", "-q", envvar="RECSYS_QUIET", help="No progress or messages", show_envvar=False),
            ],
            False,
        ),
        (
            "verbose",
            Annotated[
                bool,
                typer.Option(
                    "--verbose", "-v", envvar="RECSYS_VERBOSE", help="Tracebacks and details", show_envvar=False
                ),
            ],
            False,
        ),
    )
]
