"""`recsys tune`: settings chosen by data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.default_command import DefaultCommand
from recsys_cli.cli.options import EngineOption, RunOption


class SpaceByDefault(DefaultCommand):
    """`recsys tune SPACE.yaml` is `recsys tune space SPACE.yaml`."""

    by_default = "space"


group = typer.Typer(
    no_args_is_help=True, help="Settings chosen by data: `recsys tune SPACE.yaml`, or a special case.",
    rich_markup_mode=None, cls=SpaceByDefault,
)
app.add_typer(group, name="tune")
WinnerOption = Annotated[
    Path | None,
    typer.Option("--winner", metavar="FILE", help="Write the configuration with what was found to this file",
                 show_default=False),
]


@command(group, "space")
def space(
    call: Invocation,
    file: Annotated[Path, typer.Argument(metavar="SPACE.yaml", help="Settings to try, and by what they are judged")],
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Trials beside the default  [default: as the file says]",
                                 show_default=False),
    ] = None,
    hours: Annotated[
        float | None, typer.Option("--hours", min=0, help="Begin no trial after so many hours  [default: as the file "
                                   "says]", show_default=False),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study of that name")] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Trials at once, each in a process  [default: 1, on a cluster "
                                 "one a core]", show_default=False),
    ] = None,
    engine: EngineOption = None,
) -> None:
    """Search settings: each trial is trained and measured on the validation window; the winner becomes a configuration.

    `recsys tune SPACE.yaml` is the same. No row of the test window is read. The default stays where no trial is surely
    better for people who had no part in the search. Kept in ARTIFACTS/studies/NAME.
    """
    from recsys_cli.shipped import find
    from recsys_cli.tuning.run import tune_space
    from recsys_cli.tuning.tables import render_study, trial_rows

    with call.trace.timed("tune.space", file=str(file)), call.tasks(engine) as tasks:
        document, paths = tune_space(
            find(file), call.config, trials=trials, hours=hours, resume=resume, jobs=jobs, tasks=tasks,
            progress=call.progress,
        )
    call.emit(document, lambda console: render_study(console, document, paths), trial_rows(document))


def _write_winner(call: Invocation, settings: dict, told: str, file: Path | None) -> None:
    """Write the configuration with what a command found, where a file is named."""
    if file is None:
        return
    from recsys_cli.files import write_bytes
    from recsys_cli.tuning.space import configuration_text, resolved_with

    write_bytes(file, configuration_text(resolved_with(call.resolved, settings), [told]).encode())
    call.say(f"wrote {file}")


@command(group, "utility")
def utility(
    call: Invocation,
    target: Annotated[
        str,
        typer.Option(
            "--target", metavar="TARGET",
            help="next_day_return, next_day_dwell, session_length, dwell, or an action such as follow",
        ),
    ],
    on: Annotated[
        Literal["observed", "predicted"],
        typer.Option("--on", help="Regress on what people did, or on what the ranker foretold"),
    ] = "observed",
    resamples: Annotated[
        int, typer.Option("--resamples", min=20, max=100_000, help="Bootstrap resamples of users")
    ] = 200,
    winner: WinnerOption = None,
    run: RunOption = None,
) -> None:
    """Fit the weights of the utility to a long-term target; prints YAML to paste, and what it changes."""
    config = call.config
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.offline import check_run
    from recsys_cli.evaluation.utility import tune_utility

    engine = RecommendationEngine.load(config.paths.artifacts, run, config.pipeline, trace=call.trace, measured=True)
    dataset = open_intact(config.paths.data, config.paths.artifacts)
    check_run(engine, dataset)
    given = {}
    if on == "predicted":
        from recsys_cli.training.window_tables import validation_rows

        with call.progress.step("rows of the validation window"):
            table, log = validation_rows(dataset, config.paths.artifacts, engine.manifest.id)
        given = {"predicted": engine.bundle.heavy.predict(table.values, table.entities), "predicted_log": log}
    with call.trace.timed("tune.utility", target=target, on=on):
        document = tune_utility(
            engine, dataset, target, resamples=resamples, seed=config.seed, progress=call.progress, **given
        )
    call.emit(document, lambda console: _render(console, document), document["weights"])
    _write_winner(call, document["settings"], f"`recsys tune utility --target {target} --on {on}`.", winner)


@command(group, "sources")
def sources(call: Invocation, winner: WinnerOption = None) -> None:
    """Learn how the sources' lists become one; prints YAML to paste, and recall and NDCG@10 of each way to merge.

    Every enabled source is fitted on what came before the validation window; nothing is published.
    """
    config = call.config
    from recsys_cli.data.intact import open_intact
    from recsys_cli.evaluation.merging import tune_sources

    dataset = open_intact(config.paths.data, config.paths.artifacts)
    with call.trace.timed("tune.sources"):
        document = tune_sources(config, dataset, call.progress)
    call.emit(document, lambda console: _render_sources(console, document), document["lists"])
    _write_winner(call, document["settings"], "`recsys tune sources`.", winner)


def _render_sources(console, document: dict) -> None:
    from rich.table import Table

    users = document["users"]
    console.print(
        f"recall at {document['candidates']:,} candidates and NDCG@10, {users['measured_on']:,} users of the "
        "validation window", highlight=False, style="bold",
    )
    table = Table("lists", "recall", "95 %", "NDCG@10", "95 %", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    merges = [row for row in document["lists"] if row["kind"] == "merge"]
    alone = [row for row in document["lists"] if row["kind"] == "source"]
    for row in sorted(alone, key=lambda r: -r["recall"]["value"]) + merges:
        name = row["name"] if row["kind"] == "source" else f"merged: {row['name']}"
        figures = (row["recall"], row["ndcg_at_10"])
        told = ((f"{f['value']:.4f}", f"{f['low']:.4f} to {f['high']:.4f}") for f in figures)
        table.add_row(name, *(text for both in told for text in both))
    console.print(table)
    console.print(f"learned from {users['learned_from']:,} other users of that window", style="dim", highlight=False)
    console.print("")
    _print_yaml(console, document["settings"])


def _render(console, document: dict) -> None:
    from rich.table import Table

    what = "people's actions" if document["on"] == "observed" else "the ranker's predictions"
    told = f"{document['target']} by {what}: {document['rows']:,} impressions of {document['users']:,} users"
    console.print(told, highlight=False, style="bold")
    table = Table("action", "rate", "now", "fitted", "95 %", "share", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["weights"]:
        sign = -1 if row["polarity"] == "negative" else 1
        now, fitted, low, high = (sign * row[k] + 0.0 for k in ("now", "fitted", "low", "high"))
        table.add_row(
            row["action"], f"{row['rate']:.4f}", f"{now:.4g}", f"{fitted:.4g}",
            f"{min(low, high):.3g} to {max(low, high):.3g}", f"{100 * row['share']:.1f} %",
        )
    console.print(table)
    console.print(
        f"mean of the target {document['target_mean']:.4g}; the actions explain {100 * document['explained']:.2f} % of "
        "what the user's past leaves open; intervals by resampling users", style="dim", highlight=False,
    )
    if document["effect"] is not None:
        console.print("")
        console.print(_effect(document))
    console.print("")
    _print_yaml(console, document["settings"])


def _print_yaml(console, settings: dict) -> None:
    import yaml

    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=88).rstrip()
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _effect(document: dict):
    from rich.table import Table

    effect = document["effect"]
    table = Table(
        f"on {effect['rows']:,} impressions of the test window", "now", "fitted", box=None, header_style="bold",
        pad_edge=False,
    )
    for column in table.columns[1:]:
        column.justify = "right"

    def add(name: str, values: list, digits: int = 4) -> None:
        table.add_row(name, *("–" if v is None or v != v else f"{v:.{digits}f}" for v in values))

    both = ("now", "fitted")
    metric = "roc_auc" if "roc_auc" in effect["now"] else "spearman"
    add(f"{document['target']} ({'ROC-AUC' if metric == 'roc_auc' else 'Spearman'})", [effect[s][metric] for s in both])
    for action in effect["auc"]["now"]:
        if action != document["target"]:
            add(f"{action} (ROC-AUC)", [effect["auc"][s][action] for s in both])
    for name, said in (("interactions", "interactions a shown item, better half"), ("dwell", "seconds, better half")):
        if effect["now"]["replay"] is not None and name in effect["now"]["replay"]:
            add(said, [effect[s]["replay"][name] for s in both])
    return table
