"""`recsys retrain`: train on new data, and use the new run where every gate holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import UsageError

if TYPE_CHECKING:
    from recsys_cli.settings import Settings


@command(app, "retrain")
def retrain(
    call: Invocation,
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="LOG", help="Add the events of this log to the dataset first",
                     show_default=False),
    ] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Begin the rankers with those of the run in use")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train also where data and settings are those of the run in use")
    ] = False,
    canary: Annotated[
        bool, typer.Option("--canary", help="Have the new run serve live.canary.share of the people first")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a retraining that is running")] = False,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=0.01, max=100_000, help="Give up after so many; the next one goes on from there",
                     show_default=False),
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="Show what was decided so far, and train nothing")] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Use the run again that the latest promotion replaced")
    ] = False,
) -> None:
    """Check new data, train, hold the new run against the one in use, and promote it or say why not (exit code 1).

    Whatever happens to the training, the run in use goes on serving until `current` names another.
    """
    config = call.config
    if log and roll_back:
        raise UsageError("--log shows, --roll-back changes", "one of the two")
    if log:
        _show_log(call)
        return
    from recsys_cli.live import retrain as live

    if roll_back:
        _roll_back(call)
        return

    if canary:
        config = _with_canary(config)

    def with_log() -> str:
        from recsys_cli.cli.import_data import with_events

        return str(with_events(call, events, None))

    from recsys_cli.live.decisions import ends_after

    with ends_after(None if minutes is None else 60 * minutes):
        done = live.retrain(
            config, data=None if events is None else with_log, warm=warm_start, force=force, wait=wait,
            progress=call.progress, trace=call.trace,
        )
    call.emit(done.to_dict(), lambda console: _render(console, done), [gate.to_dict() for gate in done.gates])
    live.require_reason(done)


def _render(console, done) -> None:
    from rich.markup import escape
    from rich.table import Table

    if done.gates:
        table = Table("gate", "", "measured", "wanted", box=None, header_style="bold", pad_edge=False)
        marks = {True: "[green]ok[/]", False: "[red]NO[/]", None: "[yellow]?[/]"}
        for gate in done.gates:
            table.add_row(gate.gate, marks[gate.passed], escape(gate.measured), escape(gate.wanted))
        console.print(table, "")
    for gate in done.gates:
        if gate.passed is False:
            console.print(f"{gate.gate}: {gate.mend}", highlight=False, markup=False)
    if done.outcome == "promoted":
        told = f"run {done.run} is in use: {done.reason}"
    elif done.outcome == "unchanged":
        told = f"nothing to do: {done.reason} (--force trains all the same)"
    else:
        told = f"{done.outcome}: {done.reason}"
    console.print(f"{told} · {done.seconds:.1f} s", highlight=False, markup=False)


def _with_canary(config: Settings) -> Settings:
    from recsys_cli.live.config import CanaryConfig

    wanted = config.live.canary or CanaryConfig()
    return config.model_copy(update={"live": config.live.model_copy(update={"canary": wanted})})


def _roll_back(call: Invocation) -> None:
    from recsys_cli.live import retrain as live

    before, now = live.roll_back(call.config.paths.artifacts)
    told = {"outcome": "rolled back", "run": now, "used_before": before}
    line = f"run {now} is in use again, instead of {before}"
    call.emit(told, lambda console: console.print(line, highlight=False), [told])


def _show_log(call: Invocation) -> None:
    from recsys_cli.live.decisions import Decisions

    rows = Decisions(call.config.paths.artifacts).read()

    def render(console) -> None:
        from rich.table import Table

        if not rows:
            console.print("nothing was decided yet")
            return
        table = Table("time (UTC)", "outcome", "run", "before", "reason", box=None, header_style="bold", pad_edge=False)
        for row in rows:
            if row["outcome"] != "started":
                cells = (row["ts"][:19].replace("T", " "), row["outcome"], row.get("run"), row.get("used_before"),
                         row.get("reason"))
                table.add_row(*(str(cell or "–") for cell in cells))
        console.print(table, markup=False)

    flat = [{k: row.get(k) for k in ("ts", "outcome", "run", "used_before", "reason", "seconds")} for row in rows]
    call.emit(rows, render, flat)
