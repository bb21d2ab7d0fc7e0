"""The parts of an evaluation page that are about predictions on logged impressions."""

from __future__ import annotations

from typing import Any

from recsys_cli import charts, report
from recsys_cli.evaluation.tables import half_width, number, of_oracle

CURVES = 6
"""Actions whose reliability is drawn, those with most positives."""


def predictions(impressions: dict) -> str:
    """The section on what the heavy ranker foretold of logged impressions: ROC-AUC of every action with its interval,
    and the tables of all its figures, view by view. impressions: that part of the report."""
    parts = []
    first = impressions["views"][0]["actions"]
    names = [a["action"] for a in first]
    aucs = [
        {"name": a["action"], "series": view["view"], **a["roc_auc"]}
        for view in impressions["views"]
        for a in view["actions"]
    ]
    parts.append(
        report.grid(
            charts.interval_chart(aucs, title="ROC-AUC", note="95 % interval over users"),
            charts.bar_chart(
                names, [a["rce"] for a in first], title="RCE, %", note="above 0: better than the base rate", form=".2f"
            ),
        )
    )
    for view in impressions["views"]:
        rows = [
            {
                **{c: a[c] for c in ("action", "positives", "rate", "pr_auc", "log_loss", "brier", "rce", "ece")},
                "grouped_auc": number(a["grouped_auc"], 4), "p_at_r": number(a["precision_at_recall_90"], 4),
                "roc_auc": half_width(a["roc_auc"], 4),
                **{c: a[c] for c in ("baseline_roc_auc", "oracle_roc_auc", "oracle_share")},
            }
            for a in view["actions"]
        ]
        columns = _columns_of_actions(rows)
        parts.append(report.paragraph(f"{view['view']}: {view['rows']:,} rows"))
        parts.append(report.html_table(rows, columns, {"rate": share, "oracle_share": share}))
        if view["dwell"]:
            d = view["dwell"]
            parts.append(
                report.paragraph(
                    f"Dwell: mean absolute error {d['mae']:.2f} s, {d['mae_of_median']:.2f} s for always saying the "
                    f"median; root mean square {d['rmse']:.2f} s, {d['rmse_of_mean']:.2f} s for the mean; "
                    f"Spearman {number(d['spearman'])}{of_oracle(d)}; mean {d['mean']:.2f} s, "
                    f"predicted {d['mean_prediction']:.2f} s."
                )
            )
    note = (
        "The oracle is the true probability of each response; the share is how much of the way from 0.5 to its ROC-AUC "
        "the ranker goes."
    )
    truth = any(a["oracle_roc_auc"] is not None for a in first)
    return report.section("Predictions on logged test impressions", *parts, note=note if truth else "")


def _columns_of_actions(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Column → heading, without those of LightGBM and the oracle where there are none."""
    return {
        "action": "action",
        "positives": "positives",
        "rate": "rate",
        "roc_auc": "ROC-AUC",
        **({"baseline_roc_auc": "ROC-AUC of LightGBM"} if any(r["baseline_roc_auc"] for r in rows) else {}),
        **(
            {"oracle_roc_auc": "ROC-AUC of the oracle", "oracle_share": "share of it"}
            if any(r["oracle_roc_auc"] for r in rows)
            else {}
        ),
        "grouped_auc": "AUC within users",
        "pr_auc": "PR-AUC",
        "p_at_r": "P at 90 % R",
        "log_loss": "log loss",
        "brier": "Brier",
        "rce": "RCE, %",
        "ece": "ECE",
    }


def calibration(impressions: dict) -> str:
    """The section with a reliability diagram for each action whose predictions and outcomes both vary: how often
    something came to pass among rows that were given about the same probability. impressions: as of `predictions`."""
    view = impressions["views"][0]
    # of an action that every row has, or that is predicted the same for all, a curve says nothing
    actions = [
        a
        for a in view["actions"]
        if 0 < a["positives"] < view["rows"] and len(set(a["reliability"]["predicted"])) > 1
    ]
    if not actions:
        return ""
    charts_ = []
    for action in sorted(actions, key=lambda a: -a["positives"])[:CURVES]:
        points = action["reliability"]
        charts_.append(
            charts.reliability_chart(
                *(points[side] for side in ("predicted", "observed", "low", "high")), title=action["action"],
                note=f"ECE {action['ece']:.4f}",
            )
        )  # fmt: skip
    return report.section(
        "Calibration", report.grid(*charts_),
        note="Bins of equal count: mean prediction against share of positives, with its 95 % interval.",
    )


def share(value: Any) -> str:
    """A share as a percentage, a dash where it is unknown (None or NaN)."""
    return "–" if value is None or value != value else f"{value:.1%}"
