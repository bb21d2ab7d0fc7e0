"""What a log can say of a policy at all: effective sample size, support, overlap."""

from __future__ import annotations

import numpy as np

from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable

FEW_EFFECTIVE = 100.0
"""Effective rows below which it is said that there are few."""
FEW_SHARE = 0.01
"""Share of the rows that the effective ones should be at least."""
LACKING = 0.01
"""Share of what a policy shows without support that is said."""
ONE_UNIT = 0.2
"""Share of the rows of one unit that is said."""


def effective_sample_size(w: np.ndarray) -> float:
    """(Σ w)² / Σ w² (Kish, 1965): rows of even weight that would say as much."""
    square = float(w @ w)
    return float(w.sum()) ** 2 / square if square > 0 else 0.0


def unsupported(rows: LoggedRows, policy: PolicyTable) -> float:
    """Share of what the policy would show, over the rows of the log, that the log never showed at that position."""
    positions = int(policy.position.max(initial=0)) + 1
    seen = np.zeros((policy.n_actions, positions), bool)
    seen[rows.action, rows.position] = True
    lacking = policy.expected(~seen[policy.action, policy.position[policy.cell]])
    return float((np.bincount(rows.cell, minlength=policy.n_cells) @ lacking) / max(len(rows), 1))


def figures(rows: LoggedRows, w: np.ndarray, policy: PolicyTable | None) -> dict[str, float]:
    """Effective rows, mean and largest weight, share of rows with weight 0, unsupported share, and the largest share of
    the rows that one unit has."""
    out = {
        "effective_rows": effective_sample_size(w),
        "mean_weight": float(w.mean()),
        "largest_weight": float(w.max()),
        "rows_without_overlap": float((w == 0).mean()),
        "largest_unit": float(np.bincount(rows.unit).max() / len(rows)),
    }
    if policy is not None:
        out["unsupported"] = unsupported(rows, policy)
    return out


def warnings_of(found: dict[str, float], n: int, mean_error: float) -> list[str]:
    """Sentences for a person. mean_error: standard error of the mean weight, which should be 1."""
    told = []
    effective = found["effective_rows"]
    if effective < FEW_EFFECTIVE or effective < FEW_SHARE * n:
        told.append(f"{n:,} rows say as much of this policy as {effective:,.0f} even ones: weights alone are weak")
    if found.get("unsupported", 0) > LACKING:
        told.append(
            f"{found['unsupported']:.1%} of what the policy shows was never shown in its place: no weight makes up "
            "for it"
        )
    if abs(found["mean_weight"] - 1) > max(4 * mean_error, 0.02):
        told.append(
            f"weights average {found['mean_weight']:.3f} where 1 was due: the log lacks support, or its propensities "
            "are not those of its policy"
        )
    if found["largest_unit"] > ONE_UNIT and n > 1:
        told.append(f"one unit has {found['largest_unit']:.0%} of the rows: intervals over so few units say little")
    return told
