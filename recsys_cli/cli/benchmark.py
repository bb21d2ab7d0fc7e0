"""`recsys benchmark`: a published protocol on a folder of public data, our figures beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import RecsysError


@command(app, "benchmark")
def benchmark(
    call: Invocation,
    file: Annotated[
        Path, typer.Argument(metavar="BENCHMARK.yaml", help="The benchmark, e.g. configs/benchmarks/gowalla.yaml")
    ],
    source: Annotated[
        Path, typer.Option("--from", metavar="DIR", help="Folder that holds the benchmark's files", show_default=False)
    ],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", help="Run this model alone (repeatable)  [default: all]", show_default=False),
    ] = None,
) -> None:
    """Fit and measure models by a published protocol, and show their figures beside the published ones.

    The result is kept in ARTIFACTS/benchmarks/NAME-TIME/result.json. A model that fails does not stop the others;
    the exit code is 1 then.
    """
    config = call.config
    from recsys_cli.benchmark.config import BenchmarkConfig
    from recsys_cli.benchmark.run import failures, keep_result, run_benchmark
    from recsys_cli.benchmark.tables import render, result_rows
    from recsys_cli.config import read_yaml, validate
    from recsys_cli.shipped import find

    file = find(file)
    wanted = validate(BenchmarkConfig, read_yaml(file), file)
    with call.trace.timed("benchmark", benchmark=wanted.name, seed=config.seed):
        document = run_benchmark(
            wanted, source, models=tuple(model or ()), seed=config.seed, threads=config.threads, progress=call.progress,
            base=file.parent,
        )
    folder = keep_result(document, Path(config.paths.artifacts))
    call.emit(document, lambda console: render(console, document), result_rows(document))
    call.say(f"kept in {folder}")
    if failed := failures(document):
        of = len(document["models"])
        raise RecsysError(
            f"{len(failed)} of {of} models failed: {', '.join(failed)}", f"the reasons are in {folder / 'result.json'}"
        )
