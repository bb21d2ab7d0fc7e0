"""Stages and places on the terminal and in words: what each costs and brings, and how often places are looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys_cli.evaluation.figures import headline

if TYPE_CHECKING:
    from collections.abc import Iterable

COLUMNS = {"stage": "stage", "in": "in", "out": "out", "ms_per_user": "ms a user"}


def stage_rows(document: dict[str, Any], write) -> Iterable[dict[str, Any]]:
    """A row a stage: candidates in and out, milliseconds a user, and what it brings where it was left out.

    write: of a difference with its interval, into text. What the heavy ranker brings is its list less that of the
    light ranker's order.
    """
    brings = {row["stage"]: row for row in document["stages"]}
    k = headline(document["k"], document["slate_size"])
    for row in document["funnel"]:
        told = brings.get(row["stage"])
        out = {**row, "changed": "", "ndcg": "", "diversity": "", "authors": ""}
        if told is not None:
            out["changed"] = f"{told['changed']:.0%}"
            out |= {metric: write(told[metric]) for metric in ("ndcg", "diversity", "authors")}
        heavy = next((r for r in document["heavy_ranker"] if r["against"] == "without heavy"), None)
        if row["stage"] == "heavy" and heavy is not None:
            out["ndcg"] = write(heavy["metrics"][f"ndcg@{k}"])
        yield out


def stages_in_words(document: dict[str, Any]) -> str:
    """What re-ranking stages cost and bring, one after the other; empty where none can be left out."""
    cost = {row["stage"]: row["ms_per_user"] for row in document["funnel"]}
    k, told = headline(document["k"], document["slate_size"]), []
    for row in document["stages"]:
        ndcg, topics = row["ndcg"]["value"], row["diversity"]["value"]
        varied = f", topic diversity {topics:+.3f}" if topics is not None and topics == topics else ""
        told.append(
            f"{row['stage']} changes {row['changed']:.0%} of the slates for {cost.get(row['stage'], 0.0):.2f} ms: "
            f"NDCG@{k} {ndcg:+.3f}{varied}"
        )
    return f"What stages bring: {'; '.join(told)}." if told else ""


def positions_in_words(document: dict[str, Any]) -> str:
    """How much less often the last place is taken than the first, whatever stands there; empty where unknown."""
    rows = document["positions"]
    if not rows:
        return ""
    last = rows[-1]
    return (
        f"Place {last['position']} of a list is taken {last['value']:.2f} ({last['low']:.2f} to {last['high']:.2f}) "
        f"times as often as place {rows[0]['position']}, the same items compared; rankers learn from it unless "
        "ranking.heavy.position_bias takes it out."
    )
