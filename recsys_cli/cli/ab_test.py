"""`recsys ab-test`: two pipelines against each other, on simulated people or from a log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command


@command(app, "ab-test")
def ab_test(
    call: Invocation,
    experiment: Annotated[Path, typer.Argument(help="YAML file, e.g. configs/experiments/diversity.yaml")],
    days: Annotated[
        int | None,
        typer.Option("--days", min=1, help="Days to simulate  [default: as the file says]", show_default=False),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Analyse this table of exposures and outcomes instead of simulating"),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)
    ] = None,
    save_log: Annotated[
        Path | None, typer.Option("--save-log", help="Write what was simulated as Parquet that --log reads")
    ] = None,
) -> None:
    """Run an A/B test: metric, control, treatment, lift, interval, p-value, and the check of the split."""
    config = call.config
    from recsys_cli.experiments.config import load_experiment
    from recsys_cli.experiments.tables import render
    from recsys_cli.shipped import find

    loaded = load_experiment(find(experiment), config.pipeline, days)
    if log is not None:
        from recsys_cli.experiments.outcomes import read_outcomes
        from recsys_cli.experiments.run import analyse_log

        document = analyse_log(loaded, read_outcomes(log, loaded.config), str(log))
    else:
        from recsys_cli.data.dataset import Dataset
        from recsys_cli.engine import RecommendationEngine
        from recsys_cli.experiments.run import exposures, run_simulated

        dataset = Dataset.open(config.paths.data)
        engine = RecommendationEngine.load(config.paths.artifacts, run, config.pipeline)
        # one process an arm where there are two processors for them
        both = (config.threads or os.cpu_count() or 1) > 1
        with call.trace.timed("ab-test", experiment=loaded.config.name):
            document, simulated = run_simulated(
                loaded,
                engine,
                dataset,
                artifacts=Path(config.paths.artifacts) if both else None,
                progress=call.progress,
            )
        if save_log is not None:
            import polars as pl

            from recsys_cli.files import atomic_file

            rows = exposures(simulated, dataset.user_ids.external(simulated.users))
            with atomic_file(save_log) as temporary:
                pl.DataFrame(rows).write_parquet(temporary)
            call.say(f"wrote {save_log}")
    rows = [
        {k: v for k, v in row.items() if not isinstance(v, dict)}
        | {f"{k}_{side}": v for k in ("difference", "lift") for side, v in row[k].items()}
        for row in document["metrics"]
    ]
    call.emit(document, lambda console: render(console, document), rows)
