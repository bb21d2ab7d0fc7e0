"""An evaluation report as one long table: one row a figure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recsys_cli.evaluation.figures import headline

OF_PREDICTIONS = (
    "rows", "positives", "rate", "mean_prediction", "roc_auc", "baseline_roc_auc", "oracle_roc_auc", "oracle_share",
    "grouped_auc", "pr_auc", "precision_at_recall_90", "log_loss", "brier", "rce", "ece",
)
"""Figures of the predictions of one action."""


def report_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of `part`, `name`, `view`, `metric`, `k`, `value`, `low`, `high`; what does not apply is None.

    part: "ranking" (name = system), "against" and "heavy ranker" (name = "funnel − SYSTEM"), "sourced", "group" (name =
    group of users), "group over popularity" (what the funnel has more than popularity), "cut",
    "frontier" (name = kind and weight), "source" (name = source), "stage"
    (name = stage: what it brings, and milliseconds), "position" (name = place from 1) and "impressions" (name = action
    or "dwell").
    """
    rows: list[dict[str, Any]] = []

    def add(part: str, name: str, metric: str, value: Any, view: str | None = None) -> None:
        metric, _, k = metric.partition("@")
        figure = value if isinstance(value, dict) else {"value": value}
        rows.append(
            {
                "part": part,
                "name": name,
                "view": view,
                "metric": metric,
                "k": int(k) if k else None,
                **{side: _number(figure.get(side)) for side in ("value", "low", "high")},
            }
        )

    for system in document["systems"]:
        for metric, value in system["metrics"].items():
            add("ranking", system["name"], metric, value)
    for part, compared in (("against", document["against"]), ("heavy ranker", document["heavy_ranker"])):
        for row in compared:
            for metric, value in row["metrics"].items():
                add(part, f"funnel − {row['against']}", metric, value)
    for metric in ("recall", "candidates"):
        add("sourced", "union of sources", metric, document["sourced"][metric])
    for metric in ("kept", "utility", "ndcg") if document["cut"] else ():
        name = f"{metric}@{document['cut']['k']}" if metric != "utility" else "utility"
        add("cut", "light ranker's cut", name, document["cut"][metric])
    for row in (document["frontier"] or {"rows": []})["rows"]:
        for metric, value in row["metrics"].items():
            name = row["kind"] if row["weight"] is None else f"{row['kind']} {row['weight']:g}"
            add("frontier", name, f"{metric}@{document['frontier']['k']}", value)
    for group in document["groups"]:
        add("group", group["group"], "users", group["users"])
        for metric, value in group["metrics"].items():
            add("group", group["group"], metric, value)
        for metric, value in group["over_popularity"].items():
            add("group over popularity", group["group"], metric, value)
    for part, name, metric, value in _of_stages(document):
        add(part, name, metric, value)
    for source in document["by_source"]:
        for metric in ("slots", "share", "alone", "hits", "precision", "share_of_hits"):
            add("source", source["source"], metric, source[metric])
    for view in (document["impressions"] or {"views": []})["views"]:
        for action in view["actions"]:
            for metric in OF_PREDICTIONS:
                add("impressions", action["action"], metric, action[metric], view["view"])
        for metric, value in (view["dwell"] or {}).items():
            add("impressions", "dwell", metric, value, view["view"])
    return rows


def _of_stages(document: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """What stages cost and bring, and how often places are looked at."""
    k = headline(document["k"], document["slate_size"])
    for row in document["stages"]:
        for metric in ("changed", "ndcg", "diversity", "authors"):
            yield "stage", row["stage"], f"{metric}@{k}", row[metric]
    for row in document["funnel"]:
        yield "stage", row["stage"], "ms_per_user", row["ms_per_user"]
    for row in document["positions"]:
        yield "position", str(row["position"]), "examination", row


def _number(value: Any) -> float | None:
    return float(value) if value is not None and value == value else None
