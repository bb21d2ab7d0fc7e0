"""The product's targets, each beside what was measured."""

from __future__ import annotations

from typing import Any

TARGETS = (
    ("catalogue coverage", "funnel", "coverage", 0.30),
    ("topic diversity of a slate", "funnel", "diversity", 0.70),
    ("NDCG@10", "funnel", "ndcg", 0.30),
    ("RCE of every action, %", "impressions", "rce", 5.0),
    ("ROC-AUC of every action", "impressions", "roc_auc", 0.60),
)
OF_ORACLE = ("share of the oracle, click and like", ("click", "like"), 0.9)
"""A target that only a generated dataset can tell."""
MIN_POSITIVES = 50
"""Actions with fewer positives among the test impressions say nothing on a target."""


def check_targets(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Each target as name, wanted, value and met (None where the data cannot tell, with `reason`).

    Ranking targets are taken on the funnel at 10, or at the k nearest to it.
    """
    k = min(document["k"], key=lambda k: (abs(k - 10), k))
    funnel = document["systems"][0]["metrics"]
    out = []
    for name, where, metric, wanted in TARGETS:
        target: dict[str, Any] = {"target": name, "wanted": wanted, "value": None, "met": None, "reason": None}
        if where == "funnel":
            value = funnel[f"{metric}@{k}"]["value"]
            target["reason"] = f"at {k}"
            best = [s["metrics"][f"{metric}@{k}"]["value"] for s in document["systems"] if s["kind"] == "oracle"]
            if best and metric == "ndcg":
                target["reason"] += f"; the oracle's is {best[0]:.3f}"
            if value == value:
                # a figure at another k is another figure: it is shown, not judged
                judged = metric != "ndcg" or k == 10
                target |= {"value": value, "met": value > wanted if judged else None}
                if not judged:
                    target["reason"] = f"at {k}, not at 10: ask for k 10 to judge it"
            else:
                target["reason"] = "the data has no topics"
        else:
            target |= _worst(document, metric, wanted)
        out.append(target)
    if document["oracle"] is not None:
        name, actions, wanted = OF_ORACLE
        worst = _worst(document, "oracle_share", wanted, actions)
        out.append({"target": name, "wanted": wanted, "value": None, "met": None, "reason": None} | worst)
    return out


def _worst(
    document: dict[str, Any], metric: str, wanted: float, actions: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """The lowest figure among the actions (all by default) with enough positives."""
    impressions = document["impressions"]
    if impressions is None:
        left_out = "predictions" in document["left_out"]
        return {"reason": "predictions are left out" if left_out else "the test window has no impressions"}
    figures = []
    for row in impressions["views"][0]["actions"]:
        value = row[metric]["value"] if isinstance(row[metric], dict) else row[metric]
        if row["positives"] >= MIN_POSITIVES and value == value and row["action"] in (actions or (row["action"],)):
            figures.append((value, row["action"]))
    if not figures:
        rows = [r for r in impressions["views"][0]["actions"] if r["positives"] >= MIN_POSITIVES]
        if rows and metric != "oracle_share":
            return {"reason": "nothing but positives: no row says that an action was left undone"}
        return {"reason": f"no action has {MIN_POSITIVES} positives"}
    value, action = min(figures)
    return {"value": value, "met": value > wanted, "reason": f"lowest: {action}"}
