"""`recsys ab-test`: experiments from their plan to their decision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.default_command import DefaultCommand
from recsys_cli.cli.options import RunOption, SimulatedDaysOption


class RunByDefault(DefaultCommand):
    """`recsys ab-test FILE` is `recsys ab-test run FILE`."""

    by_default = "run"


group = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Plan, run, assign, analyze, start, watch and decide experiments; FILE alone runs it.",
    rich_markup_mode=None,
)
app.add_typer(group, name="ab-test")

File = Annotated[Path, typer.Argument(metavar="EXPERIMENT", help="YAML file, e.g. configs/experiments/diversity.yaml")]
Name = Annotated[str, typer.Argument(help="Name of a started experiment")]
Log = Annotated[
    Path | None, typer.Option("--log", help="Table of exposures and outcomes, or the folder of a server's events")
]
Html = Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML file as well")]
AA = Annotated[
    int,
    typer.Option(
        "--aa", min=0, max=100_000, help="Check by so many random splits of the same users (A/A)", show_default=False
    ),
]


@command(group, "plan")
def plan_(
    call: Invocation,
    experiment: File,
    log: Annotated[
        Path | None, typer.Option("--log", help="Plan from this table of outcomes  [default: the dataset]")
    ] = None,
    mean: Annotated[float | None, typer.Option("--mean", help="Plan from this mean of the primary metric")] = None,
    sd: Annotated[float | None, typer.Option("--sd", min=0, help="Standard deviation of a user, with --mean")] = None,
    users_a_day: Annotated[
        float | None, typer.Option("--users-a-day", min=0, help="New users of each day, with --mean")
    ] = None,
) -> None:
    """Users and days that an effect needs, and the effect that the planned days show."""
    from recsys_cli.errors import UsageError
    from recsys_cli.experiments.config import read_experiment
    from recsys_cli.experiments.plan import Baseline, plan
    from recsys_cli.experiments.tables import render_plan
    from recsys_cli.shipped import find

    config = read_experiment(find(experiment))
    if (mean is None) != (sd is None) or (mean is not None and log is not None):
        raise UsageError("--mean and --sd go together, and without --log")
    if mean is not None:
        baseline = Baseline.of_numbers(mean, sd, users_a_day)
    elif log is not None:
        from recsys_cli.experiments.history import baseline_of_log

        baseline = baseline_of_log(log, config)
    else:
        from recsys_cli.data.intact import open_intact
        from recsys_cli.experiments.history import baseline_of_dataset

        baseline = baseline_of_dataset(open_intact(call.config.paths.data, call.config.paths.artifacts), config)
    document = plan(config, baseline)
    call.emit(document, lambda console: render_plan(console, document), document["effects"])


@command(group, "run")
def run(
    call: Invocation,
    experiment: File,
    days: SimulatedDaysOption = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", help="Analyse this table of exposures and outcomes instead of simulating"),
    ] = None,
    run_id: RunOption = None,
    save_log: Annotated[
        Path | None, typer.Option("--save-log", help="Write what was simulated as Parquet that --log reads")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Folder that keeps each simulated day, to go on from after a stop")
    ] = None,
    aa: AA = 0,
    html: Html = None,
) -> None:
    """Run an experiment on the simulated people of a generated world: effects, checks and a decision."""
    if log is not None:
        _analyze(call, experiment, log, aa=aa, html=html, days=days)
        return
    config = call.config
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import load_experiment
    from recsys_cli.experiments.run import exposures, run_simulated
    from recsys_cli.shipped import find

    loaded = load_experiment(find(experiment), config.pipeline, days)
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    engine = RecommendationEngine.load(config.paths.artifacts, run_id, config.pipeline)
    # one process a variant where there are two processors for them
    both = (config.threads or os.cpu_count() or 1) > 1
    with call.trace.timed("ab-test", experiment=loaded.config.name):
        document, simulated = run_simulated(
            loaded,
            engine,
            dataset,
            artifacts=Path(config.paths.artifacts),
            together=both,
            progress=call.progress,
            aa=aa,
            seed=config.seed,
            resume=resume,
        )
    if save_log is not None:
        whole = loaded.config.unit == "cluster"
        ids = simulated.users.tolist() if whole else dataset.user_ids.external(simulated.users)
        _save(call, exposures(simulated, ids, [arm.called for arm in loaded.config.arms]), save_log)
    _show(call, document, html)


def _save(call: Invocation, rows: list[dict[str, Any]], path: Path) -> None:
    import polars as pl

    from recsys_cli.files import write_frame

    write_frame(path, pl.DataFrame(rows).write_parquet)
    call.say(f"wrote {path}")


@command(group, "analyze")
def analyze(
    call: Invocation,
    experiment: File,
    log: Annotated[
        Path, typer.Option("--log", help="Table of exposures and outcomes, or the folder of a server's events")
    ],
    assigned: Annotated[
        bool, typer.Option("--assigned", help="The log has no variants: they are those of the assignment")
    ] = False,
    aa: AA = 0,
    html: Html = None,
) -> None:
    """Analyse exposures and outcomes from anywhere: effects, checks and a decision."""
    _analyze(call, experiment, log, aa=aa, html=html, assigned=assigned)


def _analyze(
    call: Invocation,
    experiment: Path,
    log: Path,
    *,
    aa: int,
    html: Path | None,
    days: int | None = None,
    assigned: bool = False,
) -> None:
    from recsys_cli.experiments.config import read_experiment
    from recsys_cli.experiments.outcomes import read_outcomes
    from recsys_cli.experiments.run import analyse_log
    from recsys_cli.shipped import find

    config = read_experiment(find(experiment), days)
    outcomes = read_outcomes(log, config, assigned=assigned)
    _show(call, analyse_log(config, outcomes, str(log), aa=aa, seed=call.options["seed"] or 0), html)


@command(group, "assign", dashed_ids=True)
def assign(
    call: Invocation,
    experiment: File,
    users: Annotated[
        Path | None, typer.Option("--users", help="Table with user_id, and what the experiment targets")
    ] = None,
    user: Annotated[list[str] | None, typer.Option("--user", help="One id (repeatable)", metavar="ID")] = None,
    day: Annotated[
        int | None, typer.Option("--day", min=1, help="Day of the experiment, for its ramp  [default: the end]")
    ] = None,
) -> None:
    """Which variant a user is in: the same for ever, on every machine."""
    from recsys_cli.errors import UsageError
    from recsys_cli.experiments.assign_table import assign_table
    from recsys_cli.experiments.config import read_experiment
    from recsys_cli.shipped import find

    if (users is None) == (not user):
        raise UsageError("name users with --user ID, or a table of them with --users FILE")
    table = assign_table(read_experiment(find(experiment)), users, user or [], day)
    if call.format in ("parquet", "csv") and call.output is not None:
        from recsys_cli.files import write_frame

        write_frame(call.output, table.write_parquet if call.format == "parquet" else table.write_csv)
        call.wrote()
        return

    def render(console) -> None:
        for row in table.iter_rows():
            console.print(f"{row[0]}  {row[1] or '–'}", highlight=False, markup=False)

    call.emit(table.to_dicts(), render)


def _registry(call: Invocation):
    from recsys_cli.experiments.registry import ExperimentRegistry

    return ExperimentRegistry(call.config.paths.artifacts)


@command(group, "start")
def start(call: Invocation, experiment: File, log: Log = None) -> None:
    """Freeze an experiment and begin it; its users are assigned from now on."""
    from recsys_cli.experiments.config import load_experiment
    from recsys_cli.shipped import find

    loaded = load_experiment(find(experiment), call.config.pipeline)
    document = _state(_registry(call).start(loaded.config, log))
    call.emit(document, lambda console: _print_state(console, document))


@command(group, "stop")
def stop(
    call: Invocation,
    name: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the log of decisions")] = "",
) -> None:
    """End a running experiment for good."""
    document = _state(_registry(call).stop(name, reason))
    call.emit(document, lambda console: _print_state(console, document))


@command(group, "list")
def list_(call: Invocation) -> None:
    """Every experiment that was started, its state and its day."""
    rows = [_state(started) for started in _registry(call).all()]

    def render(console) -> None:
        from rich.table import Table

        if not rows:
            console.print("no experiments yet; begin one with `recsys ab-test start FILE`")
            return
        table = Table("experiment", "version", "state", "day", "layer", "primary", box=None, header_style="bold")
        for row in rows:
            day = f"{row['day']} of {row['days']}"
            table.add_row(row["experiment"], str(row["version"]), row["state"], day, row["layer"] or "", row["primary"])
        console.print(table)

    call.emit(rows, render)


@command(group, "status")
def status(call: Invocation, name: Name) -> None:
    """An experiment's state, its frozen definition, and the decisions taken."""
    registry = _registry(call)
    started = registry.open(name)
    document = _state(started) | {"decisions": registry.decisions(started)} | _exposed(registry, started)

    def render(console) -> None:
        _print_state(console, document)
        if document.get("exposed"):
            told = ", ".join(f"{name} {users:,}" for name, users in document["exposed"].items())
            console.print(f"users exposed: {told}", highlight=False, markup=False)
        for line in document["decisions"]:
            because = line["because"] if isinstance(line["because"], str) else "; ".join(line["because"])
            what = line.get("outcome") or line["what"]
            console.print(f"{line['at'][:16]}  {what}: {because}".rstrip(": "), highlight=False, markup=False)

    call.emit(document, render)


@command(group, "report")
def report(call: Invocation, name: Name, log: Log = None, aa: AA = 0, html: Html = None) -> None:
    """Analyse what is known of a started experiment, and note the decision."""
    from recsys_cli.experiments.live import get_experiment_results

    artifacts = call.config.paths.artifacts
    _show(call, get_experiment_results(name, log=log, aa=aa, seed=call.config.seed, artifacts=artifacts), html)


def _state(started) -> dict[str, Any]:
    config = started.config
    return {
        "experiment": config.name,
        "version": config.version,
        "state": started.state,
        "started_at": started.started_at.isoformat(),
        "stopped_at": started.stopped_at.isoformat() if started.stopped_at else None,
        "day": started.day,
        "days": config.days,
        "layer": config.layer.name if config.layer else None,
        "primary": config.deciding,
        "variants": {arm.name: arm.share for arm in config.arms},
        "log": str(started.log or started.recorded),
        "definition": config.model_dump(mode="json"),
    }


def _exposed(registry, started) -> dict[str, Any]:
    """Where a server logs the exposures: its log, and how many users each variant was shown to."""
    log = registry.log_of(started)
    if not log.is_dir():
        return {}
    from recsys_cli.serving.outcomes import exposed_users

    return {"log": str(log), "exposed": exposed_users(log, started.config.key)}


def _print_state(console, state: dict[str, Any]) -> None:
    shares = ", ".join(f"{name} {share:.1%}" for name, share in state["variants"].items())
    console.print(
        f"{state['experiment']} version {state['version']} is {state['state']}, day {state['day']} of {state['days']}: "
        f"{shares}; decided by {state['primary']}",
        highlight=False,
        markup=False,
    )
    console.print(f"log: {state['log']}", highlight=False, markup=False)


def _show(call: Invocation, document: dict[str, Any], html: Path | None) -> None:
    from recsys_cli.experiments.tables import render

    if html is not None:
        from recsys_cli.experiments.html import experiment_page
        from recsys_cli.files import write_bytes

        write_bytes(html, experiment_page(document).encode())
        call.say(f"wrote {html}")
    rows = [
        {k: v for k, v in row.items() if not isinstance(v, dict)}
        | {f"{k}_{side}": v for k in ("difference", "lift") for side, v in row[k].items()}
        for row in document["metrics"]
    ]
    call.emit(document, lambda console: render(console, document), rows)
