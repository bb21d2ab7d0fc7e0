"""How the way of an item, or of an author's items, through the stages looks on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from recsys_cli.answers.reach import Reach
    from recsys_cli.answers.why_not import Loss, WhyNot


def render_why_not(console: Console, answer: WhyNot) -> None:
    """The stage that lost the item, what would have had to differ, and its way through the stages."""
    who = f"User {escape(str(answer.user_id))}, item {escape(str(answer.item_id))}"
    if answer.lost is None:
        console.print(f"[bold]{who}[/] · place {answer.rank} of the slate: nothing lost it", highlight=False)
    else:
        console.print(f"[bold]{who}[/] · lost by [bold]{escape(answer.lost.stage)}[/]", highlight=False)
        _print_loss(console, answer.lost)
    for loss in answer.then:
        console.print(f"\nBehind that, [bold]{escape(loss.stage)}[/] would have lost it", highlight=False)
        _print_loss(console, loss)
    console.print("")
    table = Table("stage", "there", "place", "of", box=None, header_style="bold", pad_edge=False)
    table.columns[2].justify = table.columns[3].justify = "right"
    for step in answer.steps:
        rank = "" if step.rank is None else f"{step.rank:,}"
        table.add_row(escape(step.stage), "yes" if step.there else "–", rank, f"{step.candidates:,}")
    console.print(table)


def _print_loss(console: Console, loss: Loss) -> None:
    console.print(f"  {escape(loss.why)}", highlight=False)
    console.print(f"  to be there: {escape(loss.differ)}", highlight=False)


def render_reach(console: Console, answer: Reach) -> None:
    """Pairs of a user and an item of the author behind each stage."""
    told = f"{answer.items:,} published items, {answer.users:,} users"
    console.print(f"[bold]Author {escape(str(answer.author_id))}[/] · {told}", highlight=False)
    table = Table("stage", "still there", "lost", "lost %", "users", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for step in answer.steps:
        share = step.lost / max(step.candidates + step.lost, 1)
        table.add_row(
            escape(step.stage), f"{step.candidates:,}", f"{step.lost:,}" if step.lost > 0 else "",
            f"{share:.1%}" if step.lost > 0 else "", f"{step.users:,}",
        )
    console.print(table)
    if answer.worst is not None:
        told = f"Of what the sources proposed, most is lost by {escape(answer.worst)}; "
        console.print(f"{told}{answer.impressions:,} places in slates are left.", highlight=False)
    elif not answer.impressions:
        console.print("No source proposes anything of this author to anybody.", highlight=False)
