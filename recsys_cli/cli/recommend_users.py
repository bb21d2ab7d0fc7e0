"""`recsys recommend-users`: accounts to follow, and how well they are foretold."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption
from recsys_cli.errors import UsageError


@command(app, "recommend-users")
def recommend_users(
    call: Invocation,
    user: Annotated[str | None, typer.Option("--user", "-u", help="User id", show_default=False)] = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many accounts")] = 10,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Hide a fifth of the follows and measure how well they are found again")
    ] = False,
    run: RunOption = None,
) -> None:
    """Accounts to follow: by whom one follows, who follows them, whom one engages with, and communities."""
    if (user is not None) == evaluate:
        raise UsageError("name a user with --user, or measure with --evaluate", "one of the two")
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    engine = RecommendationEngine.load(config.paths.artifacts, run, config.pipeline, trace=call.trace)
    if evaluate:
        _evaluate(call, engine)
        return
    answer = engine.recommend_users(user, number)
    document = answer.to_dict()
    rows = [{"user_id": answer.user_id, **a} for a in document["accounts"]]
    for row in rows:
        row |= {f"from_{name}": value for name, value in row.pop("evidence").items()}
    call.emit(document, lambda console: _render(console, answer), rows)


def _evaluate(call: Invocation, engine) -> None:
    from recsys_cli.evaluation.accounts import evaluate_accounts

    measured = evaluate_accounts(engine.state, seed=call.config.seed)
    document = measured.to_dict()
    call.emit(document, lambda console: _render_figures(console, measured), document["figures"])


def _render(console, answer) -> None:
    from rich.markup import escape
    from rich.table import Table

    console.print(
        f"[bold]Accounts for user {escape(str(answer.user_id))}[/] · run {answer.run_id} · by {answer.path}",
        highlight=False,
    )
    table = Table("#", "account", "score", "followers", "reason", box=None, header_style="bold", pad_edge=False)
    table.columns[2].justify = table.columns[3].justify = "right"
    for a in answer.accounts:
        shown = (str(a.rank), str(a.author_id), f"{a.score:.3f}", f"{a.followers:,}", a.reason)
        table.add_row(*(escape(text) for text in shown))
    console.print(table)


def _render_figures(console, measured) -> None:
    from rich.table import Table

    console.print(
        f"[bold]{measured.hidden:,} follows of {measured.users:,} users hidden[/] ({measured.share:.0%}); the first 10 "
        "accounts proposed to each", highlight=False,
    )
    table = Table("by", "NDCG@10", "Recall@10", "model's gain in NDCG", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for f in measured.figures:
        gain = "" if f.ndcg_gain is None else f"{f.ndcg_gain:+.4f} [{f.low:+.4f}, {f.high:+.4f}]"
        table.add_row(f.name, f"{f.ndcg:.4f}", f"{f.recall:.4f}", gain)
    console.print(table)
