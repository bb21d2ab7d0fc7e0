"""`recsys loadtest`: how a server answers under a load."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.serve import require_parts
from recsys_cli.errors import UsageError

KEY = "RECSYS_API_KEY"


@command(app, "loadtest")
def loadtest(
    call: Invocation,
    url: Annotated[str, typer.Argument(help="Address of the server, e.g. http://127.0.0.1:8080")],
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Requests for recommendations a second")] = 100.0,
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, help="How long")] = 10.0,
    events: Annotated[float, typer.Option("--events", min=0, help="Calls with events a second beside them")] = 0.0,
    batch: Annotated[int, typer.Option("--batch", min=1, max=10_000, help="Events of a call")] = 1,
    users_file: Annotated[
        Path | None, typer.Option("--users-file", help="File with one user id a line  [default: users of the dataset]")
    ] = None,
    zipf: Annotated[
        float, typer.Option("--zipf", min=0, max=10, help="Exponent of the law by which users are drawn; 0: all alike")
    ] = 1.0,
    number: Annotated[int, typer.Option("-n", min=1, help="Items a request")] = 10,
    connections: Annotated[int, typer.Option("--connections", min=1, help="Connections at most")] = 64,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write the report as a page with charts")] = None,
    remote: Annotated[bool, typer.Option("--remote", help="The server may be another machine")] = False,
) -> None:
    """Ask a server at a steady rate, as many people would, and tell how long it took.

    Requests come at random moments and wait for nothing (an open loop), and the time of each runs from when it was
    due. The key of the server, if it has any, is read from RECSYS_API_KEY.
    """
    require_parts("serve", ("httptools", "msgspec"))
    from recsys_cli.serving.load import Load
    from recsys_cli.serving.loadtest import load_test
    from recsys_cli.serving.loadtest import picture as drawn

    load = Load(
        rate=rate, seconds=seconds, events=events, batch=batch, users=_users(call, users_file), zipf=zipf, n=number,
        connections=connections, seed=call.options["seed"] or 0, key=os.environ.get(KEY),
    )
    call.say(f"asking {url} {rate:g} times a second for {seconds:g} s")
    found = load_test(url, load, remote=remote)
    for warning in found.warnings:
        call.say(f"warning: {warning}")
    if picture is not None:
        from recsys_cli.files import write_bytes

        write_bytes(picture, drawn(found).encode())
        call.say(f"wrote {picture}")
    call.emit(found.to_dict(), lambda console: _render(console, found), [
        {"kind": t.kind, "requests": t.requests, "a_second": t.a_second, "failed": t.failed, **t.ms}
        for t in found.times
    ])


def _users(call: Invocation, file: Path | None) -> list[str]:
    if file is not None:
        try:
            ids = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}") from None
        if not ids:
            raise UsageError(f"{file} names no user", "write one id a line")
        return ids
    table = Path(call.config.paths.data) / "users.parquet"
    if not table.is_file():
        raise UsageError(f"{table} is not there, so that no users are known", "name them with --users-file")
    import pyarrow.parquet as parquet

    return [str(user) for user in parquet.read_table(table, columns=["user_id"])["user_id"].to_pylist()]


def _render(console, found) -> None:
    from rich.table import Table

    table = Table("", "requests", "a second", "failed", "p50", "p95", "p99", "p99.9", "max ms", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for t in found.times:
        table.add_row(
            t.kind, f"{t.requests:,}", f"{t.a_second:,.0f}", f"{t.failed:,}",
            *(f"{t.ms[name]:,.1f}" for name in ("p50", "p95", "p99", "p99.9", "max")),
        )
    console.print(table)
    if found.processor_ms_a_request is not None:
        console.print(f"processor time: {found.processor_ms_a_request:.2f} ms a request, server and workers together")
    if found.resident_mb is not None:
        console.print(f"memory of the server: {found.resident_mb:,.0f} MB")
    if found.fallback:
        told = ", ".join(f"{n:,} {reason}" for reason, n in found.fallback.items())
        console.print(f"answered otherwise: {told}", highlight=False)
