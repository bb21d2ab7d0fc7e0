"""One policy judged on one log: from the files to the document that is reported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.off_policy import learning, policies
from recsys_cli.off_policy.config import ColumnPolicy, OffPolicyConfig
from recsys_cli.off_policy.judged import Judged
from recsys_cli.off_policy.log_rows import LogTable, coded, load_log
from recsys_cli.off_policy.slate_estimates import slate_estimates
from recsys_cli.off_policy_estimates import diagnose, single
from recsys_cli.off_policy_estimates.intervals import (
    bootstrap,
    empirical_bernstein,
    grouped,
    slope,
    standard_error,
    sums,
)
from recsys_cli.off_policy_estimates.reward_model import Foretold, cross_fitted
from recsys_cli.off_policy_estimates.rows import LoggedRows
from recsys_cli.off_policy_estimates.single import Contributions

if TYPE_CHECKING:
    import polars as pl

    from recsys_cli.pipeline.config import PipelineConfig

THRESHOLDS = 6
"""Bounds of weights between which SLOPE chooses."""
WHOLE = 0.95
"""Share of the rows whose weights no bound touches."""
NO_OVERLAP = (
    "no row shows what the policy would show; a run is judged on rows from after what it knows, as it leaves out what "
    "people saw"
)
"""Why nothing can be told by weights that are all 0."""
PROPENSITY_ROWS = 20.0
"""Rows that the shares of a position count for in the estimated propensities of a context."""


def judge(
    config: OffPolicyConfig, log: Path, artifacts: Path, base: PipelineConfig, seed: int = 0
) -> tuple[dict[str, Any], pl.DataFrame | None]:
    """Estimate what the policy would have earned. Returns the document (`recsys docs off-policy`) and, where the policy
    was learned, its table. base: settings of a run's pipeline. Raises DataError for a log that cannot be used."""
    further = (config.policy.column,) if isinstance(config.policy, ColumnPolicy) else ()
    table = load_log(log, config.log, further)
    notes: list[str] = []
    judged, learned = _prepared(config, table, artifacts, base, seed, notes)
    rows = judged.rows
    group, n = grouped(rows.unit)
    ones = np.ones(len(rows))
    found = diagnose.figures(rows, judged.ratio, judged.policy)
    error = standard_error(sums(Contributions(judged.ratio, ones), group, n))
    notes += diagnose.warnings_of(found, len(rows), error)
    value = _described(Contributions(rows.reward, ones), group, n, config, seed)
    estimates, left_out = _estimates(config, judged, group, n, seed)
    if judged.ratio.any():
        of_slates, slate_value, why = slate_estimates(config, judged, seed, _described)
    else:
        of_slates, slate_value, why = [], None, {"slates": NO_OVERLAP}
    document = {
        "policy": config.name, "description": config.description, "kind": config.policy.kind, "log": str(log),
        "rows": len(rows), "units": int(rows.unit.max()) + 1, "actions": len(np.unique(rows.action)),
        "left_out_rows": table.left_out, "alpha": config.alpha, "seed": seed,
        "logging": value, "estimates": estimates, "slate_logging": slate_value, "slate_estimates": of_slates,
        "left_out": left_out | why, "figures": found, "warnings": notes,
    }
    return document, learned


def _prepared(
    config: OffPolicyConfig, table: LogTable, artifacts: Path, base: PipelineConfig, seed: int, notes: list[str]
) -> tuple[Judged, pl.DataFrame | None]:
    kind, where = config.policy.kind, f"policy {config.name}"
    choices = None
    if kind == "uniform":
        choices = policies.uniform(table)
    elif kind == "file":
        choices = policies.of_file(config.policy, config.log, table)
    elif kind == "log":
        choices = policies.of_log(config.policy, config.log)
    elif kind == "run":
        choices = policies.of_run(config.policy, table, artifacts, base)
    keys = choices.keys if choices is not None else config.log.contexts
    items = _items(table, choices)
    cells = policies.cells_of(table, keys)
    rows = _rows(config, table, cells, items, notes)
    if kind == "learned":
        rows, policy, frame = learning.learn(config, rows, cells, items, seed)
        notes.append(f"learned from {len(table) - len(rows):,} rows, judged on the other {len(rows):,}")
        return Judged(rows, policy, single.importance(policy.of(rows.cell, rows.action), rows.propensity)), frame
    if kind == "column":
        p = table.column(config.policy.column, "the policy's probability of what was shown")
        if ((p < 0) | (p > 1 + 1e-6)).any():
            row = int(((p < 0) | (p > 1 + 1e-6)).argmax())
            raise DataError(f"{table.where}: {config.policy.column} is {p[row]:g}", "it lies between 0 and 1")
        return Judged(rows, None, single.importance(p, rows.propensity)), None
    notes += choices.notes
    policy = policies.table_of(choices, cells, items, where)
    if not np.isin(policy.action, rows.action).any():
        raise DataError(
            f"{where} shows none of the {len(np.unique(rows.action)):,} items of {table.where}",
            "is it the log of another policy's items? check log.item",
        )
    return Judged(rows, policy, single.importance(policy.of(rows.cell, rows.action), rows.propensity)), None


def _items(table: LogTable, choices: policies.Choices | None) -> pl.Series:
    import polars as pl

    logged = table.frame["item"].unique()
    if choices is not None:
        logged = pl.concat([logged, choices.frame["item"].unique()]).unique()
    return logged.sort()


def _rows(
    config: OffPolicyConfig, table: LogTable, cells: policies.Cells, items: pl.Series, notes: list[str]
) -> LoggedRows:
    action, _ = coded(table.frame["item"], items)
    slate = coded(table.frame["request"])[0].astype(np.int64) if table.has("request") else None
    if table.has("user"):
        unit = coded(table.frame["user"])[0].astype(np.int64)
    else:
        unit = slate if slate is not None else np.arange(len(table))
    position = cells.position[cells.of_row]
    propensity = table.propensity
    if propensity is None:
        propensity = _estimated(config, table, action, position)
        notes.append(
            "propensities are estimated from shares of the log: what the old policy knew beyond position and contexts "
            "biases every weight"
        )
    elif len(propensity) > 1 and np.ptp(propensity) == 0:
        n = len(np.unique(action))
        if abs(1 / propensity[0] - n) > 0.05 * n:
            notes.append(
                f"every propensity is {propensity[0]:g}, which is right only for a policy that draws evenly among "
                f"{1 / propensity[0]:,.0f} items; the log shows {n:,}"
            )
    return LoggedRows(action, table.reward, propensity, cells.of_row, position, unit, slate)


def _estimated(config: OffPolicyConfig, table: LogTable, action: np.ndarray, position: np.ndarray) -> np.ndarray:
    """float64[n] share of each row's item at its position, and within its contexts shrunk to that."""
    n = int(action.max()) + 1

    def share(group: np.ndarray, prior: np.ndarray | None) -> np.ndarray:
        key = group.astype(np.int64) * n + action
        _, place, count = np.unique(key, return_inverse=True, return_counts=True)
        total = np.bincount(group)[group]
        rows = 0.0 if prior is None else PROPENSITY_ROWS
        return (count[place] + rows * (0.0 if prior is None else prior)) / (total + rows)

    out = share(position, None)
    if config.log.contexts:
        out = share(policies.cells_of(table, config.log.contexts).of_row, out)
    return out


def _wanted(config: OffPolicyConfig, name: str) -> bool:
    return config.estimators is None or name in config.estimators


def _estimates(
    config: OffPolicyConfig, judged: Judged, group: np.ndarray, n: int, seed: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    rows, w = judged.rows, judged.ratio
    left_out: dict[str, str] = {}
    foretold = None
    if judged.policy is None:
        left_out = dict.fromkeys(single.MODELLED, "needs the policy's whole distribution, not one probability a row")
    elif any(_wanted(config, name) for name in single.MODELLED):
        foretold = cross_fitted(rows, judged.policy, config.folds)
    clipped, bound = _bounded(config, judged, None, group, n)
    made: dict[str, tuple[Contributions, float | None]] = {
        "ips": (single.ips(w, rows.reward), None),
        "clipped_ips": (clipped, bound),
        "self_normalised_ips": (single.self_normalised_ips(w, rows.reward), None),
    }
    if foretold is not None:
        switched, bound = _bounded(config, judged, foretold, group, n)
        made["direct_method"] = single.direct_method(foretold), None
        made["doubly_robust"] = single.doubly_robust(w, rows.reward, foretold), None
        made["switch_doubly_robust"] = switched, bound
    out = []
    for name, (parts, bound) in made.items():
        if not _wanted(config, name):
            continue
        row = {"estimator": name, "most_weight": bound, **_described(parts, group, n, config, seed)}
        row["difference"] = _difference(parts, rows.reward, group, n)
        out.append(row)
    if not w.any():
        left_out |= {name: NO_OVERLAP for name in made if name != "direct_method" and _wanted(config, name)}
        out = [row for row in out if row["estimator"] == "direct_method"]
    chosen = "switch_doubly_robust" if foretold is not None else "clipped_ips"
    for row in out:
        row["chosen"] = row["estimator"] == chosen and config.most_weight is None
    return out, left_out


def _bounded(
    config: OffPolicyConfig, judged: Judged, foretold: Foretold | None, group: np.ndarray, n: int
) -> tuple[Contributions, float]:
    """The estimator with bounded weights, and the bound: the one configured, or that of SLOPE."""
    rows, w = judged.rows, judged.ratio

    def of(most: float) -> Contributions:
        if foretold is None:
            return single.clipped_ips(w, rows.reward, most)
        return single.switch_doubly_robust(w, rows.reward, foretold, most)

    if config.most_weight is not None:
        return of(config.most_weight), config.most_weight
    top = float(w.max())
    # SLOPE sees variance alone, and the model's own is not in its rows: most weights stay whole
    low = max(float(np.quantile(w, WHOLE)), 1.0)
    bounds = [*np.geomspace(top, low, THRESHOLDS)] if top > low else [top]
    every = [sums(of(most), group, n) for most in bounds]
    place = slope([parts.estimate for parts in every], [standard_error(parts) for parts in every])
    return of(bounds[max(place, 0)]), float(bounds[max(place, 0)])


def _described(
    parts: Contributions, group: np.ndarray, n: int, config: OffPolicyConfig, seed: int
) -> dict[str, Any]:
    by_group = sums(parts, group, n)
    low, high = bootstrap(by_group, config.alpha, seed)
    sure_low, sure_high = empirical_bernstein(by_group, config.alpha)
    return {"value": by_group.estimate, "low": low, "high": high, "bernstein_low": sure_low,
            "bernstein_high": sure_high, "standard_error": standard_error(by_group)}


def _difference(parts: Contributions, reward: np.ndarray, group: np.ndarray, n: int) -> dict[str, float]:
    """What the policy earns more than the log's, with an interval of two standard errors that knows both come from the
    same rows."""
    by_group, logged = sums(parts, group, n), sums(Contributions(reward, np.ones(len(reward))), group, n)

    def influence(of: Contributions) -> np.ndarray:
        total = of.weight.sum()
        return (of.value - of.estimate * of.weight) / total if total > 0 else np.full(n, np.nan)

    gap = influence(by_group) - influence(logged)
    value = by_group.estimate - logged.estimate
    error = float(np.sqrt(gap @ gap * n / max(n - 1, 1)))
    return {"value": value, "low": value - 1.96 * error, "high": value + 1.96 * error}
