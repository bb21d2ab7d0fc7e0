"""`recsys interleave`: which ranking people prefer, by lists that mix them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption, SimulatedDaysOption


@command(app, "interleave")
def interleave(
    call: Invocation,
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="YAML file, e.g. configs/experiments/diversity.yaml")
    ],
    days: SimulatedDaysOption = None,
    run_id: RunOption = None,
    against_ab: Annotated[
        bool, typer.Option("--against-ab/--no-against-ab", help="Simulate an A/B test too, to compare the users")
    ] = True,
) -> None:
    """Mix the lists of an experiment's variants (team draft) for simulated people, and credit what they turn to."""
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import load_experiment
    from recsys_cli.experiments.interleave import run_interleaved
    from recsys_cli.shipped import find

    config = call.config
    loaded = load_experiment(find(experiment), config.pipeline, days)
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    engine = RecommendationEngine.load(config.paths.artifacts, run_id, config.pipeline)
    with call.trace.timed("interleave", experiment=loaded.config.name):
        document = run_interleaved(
            loaded, engine, dataset, artifacts=Path(config.paths.artifacts), against_ab=against_ab,
            progress=call.progress,
        )
    call.emit(document, lambda console: _render(console, document), document["preferences"])


def _render(console, document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from recsys_cli.experiments.interleave import verdict

    console.print(f"[bold]{escape(document['experiment'])}[/]: {document['requests']:,} mixed lists for "
                  f"{document['users']:,} users over {document['days']} days", highlight=False)
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for heading in ("pair", "credit of the second", "a user", "interval", "p", "users needed", "A/B needs"):
        table.add_column(heading, justify="left" if heading == "pair" else "right")
    for row in document["preferences"]:
        table.add_row(
            f"{escape(row['a'])}, {escape(row['b'])}", f"{row['share_b']:.1%}", f"{row['mean']:+.3g}",
            f"{row['low']:+.3g} to {row['high']:+.3g}", f"{row['p_adjusted']:.2g}", _users(row["users_needed"]),
            _users(row.get("ab_users_needed")),
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
