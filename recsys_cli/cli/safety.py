"""`recsys safety`: what the policy did, and which classifiers there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

group = typer.Typer(
    no_args_is_help=True, help="Audit the safety policy; list and export its classifiers.", rich_markup_mode=None
)
app.add_typer(group, name="safety")


@command(group, "audit")
def audit(
    call: Invocation,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="2026-01-31T18:00:00 (UTC), or 30m, 12h, 7d ago")
    ] = None,
    run: Annotated[str | None, typer.Option("--run", help="Run id")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="allow, downrank, interstitial or drop")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", help="toxicity, nsfw, author_spam, combined, …")] = None,
    user: Annotated[str | None, typer.Option("--user", "-u", help="User id")] = None,
    item: Annotated[str | None, typer.Option("--item", help="Item id")] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, help="Latest actions listed  [default: 20 in a table, all otherwise]",
                     show_default=False),
    ] = None,
) -> None:
    """List and count what the safety policy did to requests, from the trace logs."""
    from dataclasses import asdict

    from recsys_cli.errors import UsageError
    from recsys_cli.safety.audit import Wanted, parse_since
    from recsys_cli.safety.audit import audit as read_audit

    if action not in (None, "allow", "downrank", "interstitial", "drop"):
        raise UsageError(f"--action {action}: not one of allow, downrank, interstitial, drop")
    wanted = Wanted(None if since is None else parse_since(since), run, action, task, user, item)
    shown = 20 if limit is None and call.format == "table" else limit
    found = read_audit(Path(call.config.paths.artifacts) / "logs", wanted, shown)
    if found.damaged:
        call.say(f"{found.damaged:,} damaged lines of the logs were passed over")
    call.emit(asdict(found), lambda console: _render(console, found), found.actions)


def _render(console, found) -> None:
    from rich.table import Table

    if not found.counts:
        console.print(f"no action of the safety policy in {found.requests:,} logged requests")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("run", "rule", "action", "times", "items", "users", "shown"):
        table.add_column(name, justify="right" if name in ("times", "items", "users", "shown") else "left")
    for row in found.counts:
        table.add_row(*(f"{v:,}" if isinstance(v, int) else str(v) for v in row.values()))
    console.print(table)
    what = "times: candidates the rule decided over; shown: those that were in the slate all the same"
    console.print(f"\n{found.requests:,} logged batches of requests · {what}", highlight=False)
    if found.unknown:
        console.print(f"{found.unknown:,} candidates lacked a score that a rule asks for", highlight=False)
    if not found.actions:
        return
    table = Table(box=None, header_style="bold", pad_edge=False, title=f"\nThe latest {len(found.actions)}",
                  title_justify="left")
    for name in ("time (UTC)", "user", "item", "rule", "action", "score", "shown"):
        table.add_column(name, justify="right" if name == "score" else "left", no_wrap=True, overflow="ellipsis")
    for row in found.actions:
        does = row["action"] if row["factor"] is None else f"{row['action']} ×{row['factor']:g}"
        table.add_row(
            row["ts"][:19].replace("T", " "), str(row["user"] if row["user"] is not None else "–"), str(row["item"]),
            row["rule"], does, f"{row['score']:.3f}", "yes" if row["shown"] else "",
        )
    console.print(table)


@command(group, "models")
def models(call: Invocation) -> None:
    """Classifiers that `recsys train-safety` keeps, with what they were measured at."""
    from recsys_cli.safety.models import FOLDER, SafetyModels

    rows = []
    for name, model in SafetyModels.load(Path(call.config.paths.artifacts) / FOLDER).classifiers.items():
        on = "test" if "test" in model.manifest["metrics"] else "cross_validation"
        metrics = model.manifest["metrics"][on]
        rows.append(
            {
                "name": name, "of": model.of, "version": model.version, "created_at": model.manifest["created_at"],
                "rows": model.manifest["labels"]["rows"], "measured_on": on, "roc_auc": metrics["roc_auc"],
                "pr_auc": metrics["pr_auc"],
            }
        )

    def render(console) -> None:
        from rich.table import Table

        if not rows:
            console.print("no safety classifier yet; train one with `recsys train-safety`")
            return
        table = Table(*rows[0], box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(f"{v:.4f}" if isinstance(v, float) else f"{v}" for v in row.values()))
        console.print(table)

    call.emit(rows, render)


@command(group, "export")
def export(
    call: Invocation,
    name: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Classifiers  [default: all]", show_default=False)
    ] = None,
) -> None:
    """Write the served form of classifiers again from their checkpoints, and compare the two.

    Mends a graph that is damaged, missing or of an earlier version, without training.
    """
    from recsys_cli.safety.checkpoints import export_again
    from recsys_cli.safety.models import FOLDER, kept_in

    folder = Path(call.config.paths.artifacts) / FOLDER
    rows = [export_again(folder / n) for n in kept_in(folder, name or "all")]

    def render(console) -> None:
        for row in rows:
            console.print(
                f"{row['name']} of {row['of']}, version {row['version']}: served form written again; probabilities "
                f"differ from the checkpoint's by at most {row['difference']:.1g}", highlight=False, soft_wrap=True,
            )
        if not rows:
            console.print("no safety classifier yet; train one with `recsys train-safety`")

    call.emit(rows, render)
