"""`recsys benchmark`: a published protocol on a folder of public data, our figures beside the published ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import RecsysError, UsageError


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
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="TASK", help="Run this task of a suite alone (repeatable)  [default: all]",
                     show_default=False),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE", help="Write the result of a suite as a page in Markdown too",
                     show_default=False),
    ] = None,
) -> None:
    """Fit and measure models by a published protocol, and show their figures beside the published ones.

    A file with `tasks` is a suite: whole lists or single sources on several data sets, a table each. The result is kept
    in ARTIFACTS/benchmarks/NAME-TIME/result.json. What fails does not stop the rest; the exit code is 1 then.
    """
    from recsys_cli.config import read_yaml
    from recsys_cli.shipped import find

    given, file = file, find(file)
    tree = read_yaml(file)
    run = _suite if "tasks" in tree else _protocol
    if page is not None and run is _protocol:
        raise UsageError("--page is of a suite, and this benchmark is none", "use --output")
    document, render, rows, failed, of = run(call, file, tree, source, tuple(model or ()), tuple(only or ()))
    from recsys_cli.benchmark.run import keep_result

    folder = keep_result(document, Path(call.config.paths.artifacts))
    call.emit(document, render, rows)
    call.say(f"kept in {folder}")
    if page is not None:
        from recsys_cli.benchmark.suite_page import suite_page
        from recsys_cli.files import write_bytes

        write_bytes(page, suite_page(document, str(given)).encode())
        call.say(f"wrote {page}")
    if failed:
        raise RecsysError(
            f"{len(failed)} of {of} failed: {', '.join(failed)}", f"the reasons are in {folder / 'result.json'}"
        )


def _protocol(call: Invocation, file: Path, tree: dict, source: Path, models: tuple, only: tuple) -> tuple:
    """(document, its rendering, its rows, what failed, of what) of a benchmark of one protocol."""
    if only:
        raise UsageError("--only names a task of a suite, and this benchmark has none", "use --model")
    from recsys_cli.benchmark.config import BenchmarkConfig
    from recsys_cli.benchmark.run import failures, run_benchmark
    from recsys_cli.benchmark.tables import render, result_rows
    from recsys_cli.config import validate

    config, wanted = call.config, validate(BenchmarkConfig, tree, file)
    with call.trace.timed("benchmark", benchmark=wanted.name, seed=config.seed):
        document = run_benchmark(
            wanted, source, models=models, seed=config.seed, threads=config.threads, progress=call.progress,
            base=file.parent,
        )
    return (
        document, lambda console: render(console, document), result_rows(document), failures(document),
        f"{len(document['models'])} models",
    )


def _suite(call: Invocation, file: Path, tree: dict, source: Path, models: tuple, only: tuple) -> tuple:
    """The same of a suite."""
    if models:
        raise UsageError("--model names a model of a benchmark, and this is a suite", "name its tasks with --only")
    from recsys_cli.benchmark.suite import run_suite, suite_failures
    from recsys_cli.benchmark.suite_config import SuiteConfig
    from recsys_cli.benchmark.suite_table import render_suite, suite_rows
    from recsys_cli.config import validate

    config, wanted = call.config, validate(SuiteConfig, tree, file)
    with call.trace.timed("benchmark", benchmark=wanted.name, seed=config.seed):
        document = run_suite(
            wanted, source, only=only, seed=config.seed, threads=config.threads, progress=call.progress,
            base=file.parent, work=Path(config.paths.artifacts) / "work" / "benchmarks",
        )
    rows = sum(len(task["rows"]) for task in document["tasks"])
    return (
        document, lambda console: render_suite(console, document), suite_rows(document), suite_failures(document),
        f"{rows} rows",
    )
