"""`recsys simulate`: many days of the feedback loop under several policies."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption, SimulatedDaysOption


@command(app, "simulate")
def simulate(
    call: Invocation,
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO.yaml", help="YAML file, e.g. configs/scenarios/popularity.yaml")
    ],
    days: SimulatedDaysOption = None,
    run_id: RunOption = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Folder that keeps each simulated day, to go on from after a stop")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the report as one HTML file as well")] = None,
) -> None:
    """Live through many days of a generated world under several policies: people, creators, variety, safety."""
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.shipped import find
    from recsys_cli.simulation.config import pipelines_of, read_scenario
    from recsys_cli.simulation.run import simulate_scenario

    config = call.config
    wanted = read_scenario(find(scenario), days)
    pipelines = pipelines_of(wanted, config.pipeline)
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    threads = config.threads or os.cpu_count() or 1
    engine = RecommendationEngine.load(config.paths.artifacts, run_id, config.pipeline, threads=threads)
    with call.trace.timed("simulate", scenario=wanted.name):
        document = simulate_scenario(
            wanted, pipelines, engine, dataset, artifacts=Path(config.paths.artifacts), resume=resume,
            processes=threads, progress=call.progress,
        )
    if html is not None:
        from recsys_cli.files import write_bytes
        from recsys_cli.simulation.html import scenario_page

        write_bytes(html, scenario_page(document).encode())
        call.say(f"wrote {html}")
    call.emit(document, lambda console: _render(console, document), document["daily"])


def _render(console, document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(f"[bold]{escape(document['scenario'])}[/]: {document['days']} days, {document['users']:,} users, "
                  f"{document['market']} market", highlight=False)
    if document["description"]:
        console.print(document["description"], style="dim", highlight=False, markup=False)
    policies = document["policies"]
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for name in ("", *policies):
        table.add_column(escape(name), justify="right" if name else "left")
    for metric in next(iter(policies.values())):
        table.add_row(metric.replace("_", " "), *(f"{_figure(found[metric])}" for found in policies.values()))
    console.print(table)
    for row in document["differences"]:
        if row["low"] > 0 or row["high"] < 0:
            console.print(
                f"{row['policy']} against {document['compared_with']}: {row['metric'].replace('_', ' ')} "
                f"{row['value']:+.3g} ({row['low']:+.3g} to {row['high']:+.3g})", highlight=False, markup=False,
            )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"
