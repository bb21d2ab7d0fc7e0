"""`recsys monitor`: what people did with what was served, drift, and alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import RecsysError

group = typer.Typer(no_args_is_help=True, help="Report on what is served, and raise alerts.", rich_markup_mode=None)
app.add_typer(group, name="monitor")

SHOWN = (
    "day", "shown", "requests", "click_through_rate", "negative_rate", "dwell_seconds", "coverage", "fallback_share",
    "psi.max",
)


@command(group, "report")
def report(
    call: Invocation,
    days: Annotated[int, typer.Option("--days", min=1, max=3_660, help="The latest days, up to the last known")] = 7,
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="LOG", help="Log of the server  [default: ARTIFACTS/events, if there]",
                     show_default=False),
    ] = None,
    predictions: Annotated[
        int, typer.Option("--predictions", min=0, metavar="ROWS",
                          help="Have the run in use foretell so many rows of each day: calibration, drift")
    ] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the HTML report here too", show_default=False)
    ] = None,
) -> None:
    """Click-through, dwell, negative feedback, coverage, sources, fallback, drift and alerts, day by day (UTC).

    Days are rolled up into small files under ARTIFACTS/monitor/days, so that the log may be trimmed. Exit code 1 where
    an alert is on that asks for it.
    """
    from recsys_cli.files import write_bytes
    from recsys_cli.live.monitor import monitor, page, report_path, send

    config = call.config
    usual = Path(config.paths.artifacts) / "events"
    log = events if events is not None else usual if usual.is_dir() else None
    try:
        document, history = monitor(config, log, days, predictions=predictions)
    except ModuleNotFoundError as error:
        raise RecsysError(
            f"events need {error.name}, which is not installed", "pip install 'recsys-cli[serve]'"
        ) from None
    content = page(document).encode()
    for path in dict.fromkeys(filter(None, (report_path(config.paths.artifacts), html))):
        write_bytes(path, content)
    lines, wants_exit = send(config, history)
    if call.output is not None and call.output.suffix.lower() in (".html", ".htm") and call.options["format"] is None:
        write_bytes(call.output, content)
        call.wrote()
    else:
        call.emit(document, lambda console: _render(console, document), document["daily"])
    for line in lines:
        call.say(line)
    if wants_exit:
        raise RecsysError(f"alerts are on: {', '.join(document['alerts_on'])}", "see the report for their figures")


def _render(console, document: dict) -> None:
    from rich.table import Table

    from recsys_cli.report import number

    console.print(f"[bold]{document['from']} to {document['to']}[/] · run {document['run']}", highlight=False)
    columns = [c for c in SHOWN if any(c in row for row in document["daily"])]
    heads = {"click_through_rate": "clicks", "negative_rate": "negative", "dwell_seconds": "dwell s",
             "fallback_share": "fallback", "psi.max": "drift"}  # fmt: skip
    table = Table(*(heads.get(c, c) for c in columns), box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in document["daily"]:
        table.add_row(*(number(row.get(c)) for c in columns))
    table.add_row(*(number({"day": "all", **document["period"]}.get(c)) for c in columns), style="bold")
    console.print(table)
    period = document["period"]
    for beginning, title, most in (("source.", "sources", 8), ("psi.", "drift (PSI)", 6), ("calibration.", "", 8)):
        found = {n[len(beginning):]: v for n, v in period.items() if n.startswith(beginning) and n != "psi.max"}
        if found:
            best = sorted(found.items(), key=lambda pair: -pair[1])[:most]
            told = ", ".join(f"{name} {value:.3f}" for name, value in best)
            console.print(f"{title or 'observed for each foretold'}: {told}", highlight=False, markup=False)
    for day, people in document["bots"].items():
        console.print(f"{day}: left out as no people: {', '.join(people)}", highlight=False, markup=False)
    on = ", ".join(document["alerts_on"])
    console.print(f"alerts on: {on}" if on else "no alert is on", highlight=False, markup=False)
