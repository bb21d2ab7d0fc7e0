"""What to do, in a fixed order: invalid, roll back, ship, keep running, no difference; and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.experiments.compare import change, has_lift, is_good

if TYPE_CHECKING:
    from recsys_cli.experiments.config import ExperimentConfig

OUTCOMES = ("invalid", "roll_back", "ship", "keep_running", "no_difference")


@dataclass(frozen=True)
class Progress:
    """How far an experiment is."""

    day: int | None
    """last day that the data hold; None where they have no days"""
    days: int

    @property
    def over(self) -> bool:
        """Whether as much is known as was planned. Data without days are taken as whole."""
        return self.day is None or self.day >= self.days


def decide(
    rows: list[dict], checks: list[dict], beliefs: list[dict], progress: Progress, config: ExperimentConfig
) -> dict[str, Any]:
    """`outcome`, `variant` that it is about, and `because`, sentences.

    rows: every metric of every variant, with `decided` (significant by the rule that the experiment stops by).
    """
    failed = [c for c in checks if c["voids"]]
    if failed:
        return _decision("invalid", None, [f"{c['check']}: {c['told']}" for c in failed])
    harmed = {(r["variant"], r["metric"]): told for r in rows if (told := _harm(r, config, progress))}
    primary = [r for r in rows if r["metric"] == config.deciding]
    variants = dict.fromkeys(variant for variant, _ in harmed)
    spared = [r for r in primary if r["variant"] not in variants]
    if harmed and not spared:
        return _decision("roll_back", next(iter(variants)), list(harmed.values()))
    because = list(harmed.values())
    better = [r for r in spared if r["decided"] and is_good(r)]
    if better:
        chance = {b["variant"]: b["probability_best"] for b in beliefs}
        best = max(better, key=lambda r: (chance.get(r["variant"], 0.0), _size(r)))
        if _size(best) >= config.practical_effect:
            return _decision("ship", best["variant"], [*because, _told(best, config)])
        because.append(
            f"{_told(best, config)}, which is less than practical_effect ({config.practical_effect:.1%})"
        )
    undecided = [r for r in spared if not r["decided"]]
    if not progress.over and (undecided or (better and config.stop == "fixed")):
        because.append(f"day {progress.day} of {progress.days}: not enough is known yet")
        return _decision("keep_running", None, because)
    return _decision("no_difference", None, because + [_told(r, config) for r in undecided])


def _decision(outcome: str, variant: str | None, because: list[str]) -> dict[str, Any]:
    return {"outcome": outcome, "variant": variant, "because": because}


def _size(row: dict) -> float:
    """Relative effect in the direction that is wanted; without a lift any effect is as good as it gets."""
    return abs(row["lift"]["value"]) if has_lift(row) else float("inf")


def _harm(row: dict, config: ExperimentConfig, progress: Progress) -> str | None:
    """Why a variant must not go on, None where nothing shows harm."""
    if row["metric"] == config.deciding and row["decided"] and not is_good(row):
        return _told(row, config)
    tolerated = config.guardrails.get(row["metric"])
    # before the end a guardrail is looked at more often than once, and only the band that allows it counts
    interval = row["lift"] if progress.over and config.stop == "fixed" else (row["sequential"] or {})
    if tolerated is None or is_good(row):
        return None
    if not has_lift(row):
        return f"guardrail: {_told(row, config)}" if row["decided"] else None
    nearest = interval.get("low" if row["goal"] == "down" else "high")
    if nearest is None or not np.isfinite(nearest):
        return None
    harm = nearest if row["goal"] == "down" else -nearest
    return f"guardrail beyond {tolerated:.1%}: {_told(row, config)}" if harm > tolerated else None


def _told(row: dict, config: ExperimentConfig) -> str:
    who = "" if len(config.arms) == 2 else f"{row['variant']}: "
    if not np.isfinite(row["p_value"]):
        return f"{who}{row['metric']} cannot be compared: {row['refused']}"
    low, high, p = stated(row, config)
    return f"{who}{row['metric']} {change(row, 'value')} ({low} to {high}, p = {p:.2g})"


def stated(row: dict, config: ExperimentConfig) -> tuple[str, str, float]:
    """Ends of the interval and the p-value by which a row is decided."""
    band = row["sequential"]
    if config.stop != "always_valid" or band is None or row["metric"] != config.deciding or row["method"] != "welch":
        return change(row, "low"), change(row, "high"), row["p_value"]
    write = "{:+.1%}".format if band["relative"] else "{:+.4g}".format
    return write(band["low"]), write(band["high"]), band["p_value"]


def headline(decision: dict) -> str:
    """The decision in two or three words, as every report tells it: "ship bolder", "keep running"."""
    who = f" {decision['variant']}" if decision["variant"] else ""
    return decision["outcome"].replace("_", " ") + who


def sentence(decision: dict, rows: list[dict], config: ExperimentConfig) -> str:
    """The decision in words, with what else came out."""
    if decision["outcome"] == "invalid":
        return (
            f"No figure here can be trusted until this is found: {'; '.join(decision['because'])}."
        )
    primary = [r for r in rows if r["metric"] == config.deciding]
    named = [r for r in primary if r["variant"] == decision["variant"]] or primary
    shown = {"roll_back": named[:1], "ship": named[:1]}.get(decision["outcome"], primary)
    text = " ".join(_of_primary(row, config) for row in shown)
    if decision["outcome"] == "keep_running":
        text = f"Keep running. {text}"
    guarded = [told for told in decision["because"] if told.startswith("guardrail")]
    if guarded:
        text += f" Roll back: {'; '.join(guarded)}."
    elif decision["outcome"] == "no_difference" and any("practical_effect" in told for told in decision["because"]):
        text += f" That is less than practical_effect ({config.practical_effect:.1%})."
    others = [r for r in rows if r["significant"] and not any(r is row for row in shown)]
    if others:
        told = [
            f"{_who(r, config)}{r['metric']} {change(r, 'value')} ({'good' if is_good(r) else 'bad'})" for r in others
        ]
        text += f" Also significant after adjusting for several metrics: {', '.join(told)}."
    return text


def _who(row: dict, config: ExperimentConfig) -> str:
    return "" if len(config.arms) == 2 else f"{row['variant']} "


def _of_primary(row: dict, config: ExperimentConfig) -> str:
    name, level = row["metric"], f"{1 - config.alpha:.0%}"
    if not np.isfinite(row["p_value"]):
        return f"{name} cannot be compared: {row['refused']}."
    low, high, p = stated(row, config)
    if row["decided"]:
        value = change(row, "value")
        side = "better" if is_good(row) else "worse"
        who = row["variant"][:1].upper() + row["variant"][1:]
        return f"{who} is {side}: {name} {value} ({level} interval {low} to {high}, p = {p:.2g})."
    text = f"No difference in {name} could be shown ({_who(row, config)}{change(row, 'value')}, p = {p:.2g})"
    seen = row["detectable_lift"]
    known = np.isfinite(seen) and config.stop == "fixed"
    found = f"; with so many users a change of {seen:.1%} would be found {config.power:.0%} of the time"
    return f"{text}{found if known else ''}."
