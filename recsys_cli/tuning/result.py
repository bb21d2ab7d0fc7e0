"""What a study came to: every trial, the front of those that nothing beats, the winner and whether it is confirmed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from recsys_cli.evaluation.intervals import bootstrap_means
from recsys_cli.files import write_bytes
from recsys_cli.tuning.space import configuration_text
from recsys_cli.tuning.study import DEFAULT, FAILURE, TREE, Study
from recsys_cli.tuning.trial import Outcome

if TYPE_CHECKING:
    import optuna

    from recsys_cli.settings import Settings
    from recsys_cli.tuning.config import SpaceConfig

RESAMPLES = 2000
"""Of people, for intervals and for how sure a gain is."""
ENOUGH = 4
"""Completed trials with different figures from which on it is told which settings mattered."""


def study_document(study: Study, kept: optuna.Study) -> dict[str, Any]:
    """The result of a study: "trials" (settings, figures and state of each), "pareto", "importance", "default",
    "winner" and "verdict".

    The winner is the trial best by the first objective for the people searched on; it is kept only where it is better
    than the default, with the confidence asked for, for the people who had no part in the search.
    """
    config = study.space.config
    figures = [o.figure for o in config.objectives]
    rows = [_row(t, figures) for t in kept.get_trials(deepcopy=False) if not t.user_attrs.get("default")]
    default = study.outcome(DEFAULT)
    done = [row for row in rows if row["state"] == "complete"]
    base = {"number": DEFAULT, "settings": {}, "figures": {f: default.value(f) for f in figures}}
    front = pareto([base, *done], config)
    best = max(done, key=lambda r: _sign(config, 0) * r["figures"][figures[0]], default=None)
    verdict = _verdict(study, default, None if best is None else study.outcome(best["number"]))
    return {
        "study": config.name,
        "folder": str(study.folder),
        "objectives": [{"figure": o.figure, "direction": "maximise" if o.maximised else "minimise"}
                       for o in config.objectives],
        "people": {"searching": int((~default.confirming).sum()), "confirming": int(default.confirming.sum())},
        "counts": {state: sum(r["state"] == state for r in rows) for state in ("complete", "pruned", "failed")},
        "default": base | {"confirming": {f: default.value(f, "confirming") for f in figures}},
        "trials": rows,
        "pareto": [row["number"] for row in front],
        "importance": importance(kept, config),
        "best": best,
        "verdict": verdict,
        "settings": best["settings"] if verdict["kept"] == "winner" else {},
    }


def pareto(rows: list[dict[str, Any]], config: SpaceConfig) -> list[dict[str, Any]]:
    """Rows that no other is at least as good as by every objective and better by one, the best by the first first."""
    signs = np.array([_sign(config, i) for i in range(len(config.objectives))])
    values = np.array([[row["figures"][o.figure] for o in config.objectives] for row in rows]) * signs
    at_least = (values[:, None, :] >= values[None]).all(axis=2)
    better = (values[:, None, :] > values[None]).any(axis=2)
    beaten = (at_least & better).any(axis=0)
    return sorted((row for row, b in zip(rows, beaten, strict=True) if not b),
                  key=lambda r: -signs[0] * r["figures"][config.objectives[0].figure])  # fmt: skip


def importance(kept: optuna.Study, config: SpaceConfig) -> dict[str, dict[str, float]]:
    """Figure → setting → share of the variance of the figure that it explains by a random forest (fANOVA: Hutter,
    Hoos and Leyton-Brown, ICML 2014); {} where too few trials differ to tell."""
    import optuna

    complete = kept.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    out: dict[str, dict[str, float]] = {}
    for place, objective in enumerate(config.objectives):
        values = [t.values[place] for t in complete]
        if len(set(values)) < ENOUGH:
            continue

        def target(trial, place=place):
            return trial.values[place]

        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        shares = optuna.importance.get_param_importances(kept, evaluator=evaluator, target=target)
        out[objective.figure] = {key: float(share) for key, share in shares.items()}
    return out


def compared(default: Outcome, other: Outcome, figure: str, side: str | None, seed: int) -> dict[str, Any]:
    """A figure of the users whom both measured, other − default: "value", "low" and "high" (95 %), "sure" (share of
    resamples in which it is above 0) and "users". side: searching or confirming, None for all."""
    _, mine, theirs = np.intersect1d(other.users, default.users, assume_unique=True, return_indices=True)
    less = other.by_user[figure][mine] - default.by_user[figure][theirs]
    if side is not None:
        less = less[default.confirming[theirs] == (side == "confirming")]
    less = less[np.isfinite(less)]
    if not len(less):
        return {"value": float("nan"), "low": None, "high": None, "sure": 0.0, "users": 0}
    value, low, high = (float(f[0]) for f in bootstrap_means(less[:, None], resamples=RESAMPLES, seed=seed))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(less), np.full(len(less), 1 / len(less)), RESAMPLES) @ less
    known = np.isfinite([low, high]).all()
    return {
        "value": value, "low": low if known else None, "high": high if known else None,
        "sure": float((drawn > 0).mean()), "users": len(less),
    }


def _verdict(study: Study, default: Outcome, best: Outcome | None) -> dict[str, Any]:
    config = study.space.config
    figure, sign = config.objectives[0].figure, _sign(config, 0)
    if best is None:
        return {"kept": "default", "why": "no trial was completed", "figure": figure}
    found = {side: compared(default, best, figure, side, study.seed) for side in ("searching", "confirming")}
    told = found["confirming"]
    if sign < 0:
        told = told | {"sure": float(1 - told["sure"])}
    gained = sign * found["searching"]["value"] > 0
    sure = gained and told["sure"] >= config.confidence
    why = (
        f"its {figure} is better than the default's for people who had no part in the search, {told['sure']:.0%} sure"
        if sure else "no trial is better than the default" if not gained
        else f"for people who had no part in the search it is better only {told['sure']:.0%} surely "
        f"({config.confidence:.0%} are asked for)"
    )
    return {"kept": "winner" if sure else "default", "why": why, "figure": figure, **found}


def write_result(study: Study, document: dict[str, Any], page: str) -> dict[str, Path]:
    """Write `result.json`, `report.html`, `winner.yaml` (the default's where that is kept) and a configuration a trial
    of the front; returns the paths."""
    folder, verdict = study.folder, document["verdict"]
    out = {"result": folder / "result.json", "report": folder / "report.html", "winner": folder / "winner.yaml"}
    write_bytes(out["result"], orjson.dumps(document, option=orjson.OPT_INDENT_2))
    write_bytes(out["report"], page.encode())
    what = "the best trial" if verdict["kept"] == "winner" else "the default, which is kept"
    remarks = [f"Study {document['study']}: {what}. {verdict['why'][0].upper()}{verdict['why'][1:]}."]
    write_bytes(out["winner"], configuration_text(_of(study, document["settings"]), remarks).encode())
    if len(document["objectives"]) > 1:
        for row in document["trials"]:
            if row["number"] in document["pareto"]:
                told = ", ".join(f"{n} {v:.4g}" for n, v in row["figures"].items())
                text = configuration_text(_of(study, row["settings"]), [f"Trial {row['number']}: {told}."])
                write_bytes(folder / "pareto" / f"{row['number']:05d}.yaml", text.encode())
    return out


def _of(study: Study, values: dict[str, Any]) -> Settings:
    return study.space.settings(values, written=True)


def _row(trial: optuna.trial.FrozenTrial, figures: list[str]) -> dict[str, Any]:
    state = trial.state.name.lower()
    row = {
        "number": trial.number, "state": {"fail": "failed"}.get(state, state),
        "settings": trial.user_attrs.get(TREE, {}),
        "figures": dict(zip(figures, trial.values, strict=True)) if trial.values else {},
        "seconds": None if trial.duration is None else round(trial.duration.total_seconds(), 3),
    }
    if FAILURE in trial.user_attrs:
        row["error"] = trial.user_attrs[FAILURE]
    if trial.intermediate_values:
        row["first"] = trial.intermediate_values[min(trial.intermediate_values)]
    return row


def _sign(config: SpaceConfig, place: int) -> float:
    return 1.0 if config.objectives[place].maximised else -1.0
