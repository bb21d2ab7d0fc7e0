"""`recsys interleave`: which ranking people prefer, by lists that mix them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys_cli.cli.ab_test import RunByDefault
from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption, SimulatedDaysOption

group = typer.Typer(
    cls=RunByDefault,
    no_args_is_help=True,
    help="Mix the lists of variants and see which people prefer; FILE alone runs it on simulated people.",
    rich_markup_mode=None,
)
app.add_typer(group, name="interleave")


@command(group, "run")
def run(
    call: Invocation,
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="YAML file, e.g. configs/experiments/diversity.yaml")
    ],
    days: SimulatedDaysOption = None,
    run_id: RunOption = None,
    method: Annotated[
        str | None,
        typer.Option("--method", help="team_draft or optimised  [default: `interleave` of the file, or team_draft]"),
    ] = None,
    against_ab: Annotated[
        bool, typer.Option("--against-ab/--no-against-ab", help="Simulate an A/B test too, to compare the users")
    ] = True,
) -> None:
    """Mix the lists of an experiment's variants for simulated people, and credit what they turn to."""
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.errors import UsageError, did_you_mean
    from recsys_cli.experiments.config import load_experiment
    from recsys_cli.experiments.interleave import run_interleaved
    from recsys_cli.experiments.interleaving import METHODS
    from recsys_cli.shipped import find

    if method is not None and method not in METHODS:
        raise UsageError(f"no method {method!r}", did_you_mean(method, METHODS, f"there are {', '.join(METHODS)}"))
    config = call.config
    loaded = load_experiment(find(experiment), config.pipeline, days)
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    threads = config.threads or os.cpu_count() or 1
    engine = RecommendationEngine.load(config.paths.artifacts, run_id, config.pipeline, threads=threads)
    with call.trace.timed("interleave", experiment=loaded.config.name):
        document = run_interleaved(
            loaded, engine, dataset, artifacts=Path(config.paths.artifacts), method=method, against_ab=against_ab,
            progress=call.progress,
        )
    call.emit(document, lambda console: _render(console, document), document["preferences"])


@command(group, "analyze")
def analyze(
    call: Invocation,
    name: Annotated[str, typer.Argument(help="Name of a started experiment with `interleave`")],
    log: Annotated[
        Path | None, typer.Option("--log", help="Folder of the server's events  [default: events of the artifacts]")
    ] = None,
) -> None:
    """Which variant people preferred in the mixed lists that a server showed them."""
    from recsys_cli.errors import UsageError
    from recsys_cli.experiments.interleave import analyse_interleaved
    from recsys_cli.experiments.registry import ExperimentRegistry

    artifacts = Path(call.config.paths.artifacts)
    started = ExperimentRegistry(artifacts).open(name)
    if started.config.interleave is None:
        raise UsageError(f"experiment {name} mixes no lists", f"recsys ab-test report {name}")
    document = analyse_interleaved(started.config, log or artifacts / "events")
    call.emit(document, lambda console: _render(console, document), document["preferences"])


def _render(console, document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from recsys_cli.experiments.interleave import verdict

    way = document["method"].replace("_", " ")
    told = f"{document['requests']:,} mixed lists" if "requests" in document else "mixed lists"
    days = f" over {document['days']} days" if document["days"] else ""
    console.print(f"[bold]{escape(document['experiment'])}[/]: {told} for {document['users']:,} users{days} ({way})",
                  highlight=False)
    table = Table(box=None, header_style="dim", padding=(0, 1))
    against = any("ab_users_needed" in row for row in document["preferences"])
    headings = ["pair", "credit of the second", "a user", "interval", "p", "users needed"]
    for heading in [*headings, "A/B needs"] if against else headings:
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for row in document["preferences"]:
        table.add_row(
            f"{escape(row['a'])}, {escape(row['b'])}", f"{row['share_b']:.1%}", f"{row['mean']:+.3g}",
            f"{row['low']:+.3g} to {row['high']:+.3g}", f"{row['p_adjusted']:.2g}", _users(row["users_needed"]),
            *([_users(row.get("ab_users_needed"))] if against else []),
        )
    console.print(table)
    for row in document["preferences"]:
        console.print(verdict(row, document["alpha"]), style="bold", highlight=False, markup=False)
        share = row.get("share_of_ab_users", math.nan)
        if row["p_adjusted"] < document["alpha"] and math.isfinite(share):
            told = f"interleaving needs {share:.1%} of the users of an A/B test for the effect that each sees"
            if not row["same_direction"]:
                told += "; living with one variant alone points the other way"
            console.print(told, highlight=False, markup=False)


def _users(count: float | None) -> str:
    return "–" if count is None or not math.isfinite(count) else f"{count:,.0f}"
