"""Gates between a new run and its place: what each measured, what it wanted, and what to do where it does not hold."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.live.config import GatesConfig

if TYPE_CHECKING:
    from recsys_cli.artifacts.runs import Run, RunManifest
    from recsys_cli.data.catalogue import Catalogue
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.pipeline.bundle import Bundle

FEWEST_POSITIVES = 50
"""Actions with fewer positives say nothing."""
SURE = 0.01
"""Chance of refusing a run that is as good as the one in use for its lists; retraining comes round often."""


@dataclass(frozen=True)
class Gate:
    """One gate."""

    gate: str
    passed: bool | None
    """None where it could not be judged"""
    measured: str
    wanted: str
    mend: str = ""
    """what to do where it does not hold"""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def first_refusal(gates: list[Gate]) -> Gate | None:
    return next((g for g in gates if g.passed is False), None)


def data_gates(
    dataset: Dataset, bundle: Bundle | None, used: RunManifest | None, config: GatesConfig, bot_events: int
) -> list[Gate]:
    """The new data against what the run in use remembers of its own; without one only that it is sound.

    bot_events: impressions of one day above which somebody is no person.
    """
    from recsys_cli.data.validate import validate_dataset

    checks = validate_dataset(dataset.path)
    failed = [c for c in checks if not c.ok]
    told = f"{len(failed)} fail, first: {failed[0].table}, {failed[0].check}" if failed else "all hold"
    gates = [Gate("data: sound", not failed, told, f"all {len(checks)} checks hold", "see `recsys data validate`")]
    if failed:
        return gates
    gates.append(_bots_gate(dataset, config, bot_events))
    if bundle is None:
        return gates
    log, state = dataset.log, bundle.state
    rows, before = len(log), int(state.impressions.sum())
    gates.append(Gate(
        "data: rows", rows >= config.rows_share * before, f"{rows:,} impressions",
        f"at least {config.rows_share:.0%} of {before:,}", "find out what the export left out",
    ))
    lost = lost_columns(bundle.catalogue, dataset.catalogue) + [
        f"impressions.{a}" for a in (*bundle.spec.positive, *bundle.negative_actions) if a not in log.actions
    ]
    gates.append(Gate(
        "data: columns", not lost, f"gone or emptied: {', '.join(lost)}" if lost else "all there",
        "every column that the run in use learned from", "bring them back, or train with `recsys train`",
    ))
    share, then = float(log.positive.mean()), float(state.interactions.sum() / max(before, 1))
    factor = max(share, then) / max(min(share, then), 1e-12)
    gates.append(Gate(
        "data: positive share", factor <= config.positive_factor, f"{share:.2%}, then {then:.2%}",
        f"at most {config.positive_factor:g} times higher or lower", "see `recsys data describe`",
    ))
    if used is not None and not used.windows.places and dataset.manifest.has_time and len(log):
        newest = int(log.time[-1])
        gates.append(Gate(
            "data: newest", newest >= used.windows.end - 1, _iso(newest), f"not before {_iso(used.windows.end - 1)}",
            "this is older data than that of the run in use",
        ))
    return gates


def _bots_gate(dataset: Dataset, config: GatesConfig, bot_events: int) -> Gate:
    """How much of the data comes from those who were shown more in one day than people are."""
    log = dataset.log
    wanted = f"at most {config.bots_share:.0%} of the impressions"
    if not dataset.manifest.has_time or not len(log):
        return Gate("data: bots", None, "the data know no days", wanted)
    day = (log.time - log.time.min()) // 86_400_000_000
    pair, times = np.unique(log.user.astype(np.int64) * (int(day.max()) + 1) + day, return_counts=True)
    users, rows = pair[times > bot_events] // (int(day.max()) + 1), times[times > bot_events]
    if not len(users):
        return Gate("data: bots", True, "none", wanted)
    most = np.argsort(-np.bincount(users, weights=rows))[: min(3, len(np.unique(users)))]
    share = rows.sum() / len(log)
    named = ", ".join(map(str, dataset.user_ids.external(most)))
    told = f"{share:.1%} from {len(np.unique(users))}: {named}"
    return Gate("data: bots", bool(share <= config.bots_share), told, wanted,
                "erase them (DELETE /v1/users/ID), or raise live.monitor.bot_events")


def lost_columns(before: Catalogue, now: Catalogue) -> list[str]:
    """Columns that a catalogue knew something of, and another does not know anything of."""
    lost = sorted(_known(before) - _known(now))
    return [name for name in lost if not name.startswith("items.safety ")]


def _known(catalogue: Catalogue) -> set[str]:
    """Columns of items and users of which anything is known."""
    found = {f"items.{n}" for n, codes in catalogue.item_codes.items() if (codes >= 0).any()}
    found |= {f"users.{n}" for n, codes in catalogue.user_codes.items() if (codes >= 0).any()}
    found |= {f"items.{n}" for n, v in catalogue.item_numbers.items() if np.isfinite(v).any()}
    found |= {f"users.{n}" for n, v in catalogue.user_numbers.items() if np.isfinite(v).any()}
    for table, columns in (("items", catalogue.item_columns), ("users", catalogue.user_columns)):
        texts = {**columns.lists, **columns.words}
        found |= {f"{table}.{n}" for n, ragged in texts.items() if len(ragged.values)}
        found |= {f"{table}.{n}" for n, v in columns.vectors.items() if np.isfinite(v).any()}
        found |= {f"{table}.{n}" for n, moments in columns.times.items() if (moments > 0).any()}
    for name, ragged in (("items.topics", catalogue.item_topics), ("items.text", catalogue.item_text)):
        if len(ragged.values):
            found.add(name)
    if (catalogue.item_author >= 0).any():
        found.add("items.author_id")
    if (catalogue.item_created > 0).any():
        found.add("items.created_at")
    return found


def _iso(moment: int) -> str:
    import datetime as dt

    return dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds")


def disk_gate(artifacts: Path, used: Run | None, config: GatesConfig) -> Gate:
    """Whether a training has space."""
    size = 2**26 if used is None else sum(entry.bytes for entry in used.manifest.files.values())
    free = shutil.disk_usage(artifacts if artifacts.exists() else artifacts.absolute().parent).free
    wanted = config.free_disk * size
    return Gate(
        "disk", free >= wanted, f"{free / 2**20:,.0f} MiB free", f"at least {wanted / 2**20:,.0f} MiB",
        "delete runs that nobody needs (`recsys runs delete`)",
    )


def learned_gates(new: RunManifest, used: RunManifest, config: GatesConfig) -> list[Gate]:
    """What both trainings found on their own validation windows: predictions, their calibration, and the lists."""
    gates = []
    heads = _heads(used)
    now = {name: row for name, row in _heads(new).items() if name in heads}
    if heads and not now:
        gates.append(Gate("predictions", False, "no action can be predicted", f"as before: {', '.join(heads)}",
                          "the new data holds too few of these actions"))
    if now:
        fall = {n: heads[n]["roc_auc"] - row["roc_auc"] for n, row in now.items()}
        worst = max(fall, key=fall.get)
        gates.append(Gate(
            "predictions", fall[worst] <= config.auc_loss,
            f"ROC-AUC of {worst} {now[worst]['roc_auc']:.3f}, then {heads[worst]['roc_auc']:.3f}",
            f"at most {config.auc_loss:g} lower", "the actions no longer follow from what was known before them",
        ))
        rise = {n: row["ece"] - heads[n]["ece"] for n, row in now.items()}
        worst = max(rise, key=rise.get)
        gates.append(Gate(
            "calibration", rise[worst] <= config.calibration_loss,
            f"error of {worst} {now[worst]['ece']:.4f}, then {heads[worst]['ece']:.4f}",
            f"at most {config.calibration_loss:g} higher", "see the reliability charts of `recsys evaluate`",
        ))
    first, second = (_best_list(m) for m in (used, new))
    if first and second and first[0] == second[0]:
        gates.append(Gate(
            "lists in training", second[1] >= (1 - config.order_loss) * first[1],
            f"{second[1]:.4f} on the validation window, then {first[1]:.4f}",
            f"at most {config.order_loss:.0%} lower", "people no longer turn to what is foreseen",
        ))
    return gates


def _heads(manifest: RunManifest) -> dict[str, dict]:
    """Action → what the heavy ranker reached on the validation window, where that says something."""
    rows = manifest.metrics.get("heavy", {})
    return {
        name: row for name, row in rows.items()
        if isinstance(row, dict) and row.get("positives", 0) >= FEWEST_POSITIVES and row.get("roc_auc") is not None
    }


def _best_list(manifest: RunManifest) -> tuple[str, float] | None:
    """(what it is measured by, the best order's figure for people with a history), None where nothing was compared."""
    account = manifest.metrics.get("order", {})
    figures = account.get("known", {}).get("figures", {})
    if not figures:
        return None
    return str(account.get("criterion", "")).partition(" of ")[0], max(f["value"] for f in figures.values())


def feature_gate(new: Bundle, used: Bundle) -> Gate:
    """Whether every feature that the rankers in use read is there still; similarities follow the sources, and columns
    of items and users were looked at before the training."""
    lost = [
        f.name for f in used.spec.features
        if f.family != "similarity" and f.name not in new.spec.column
        and not str(f.argument or "").startswith(("item.", "user."))
    ]
    told = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return Gate("features", not lost, f"gone: {told}" if lost else f"{len(new.spec.names)} there",
                "every feature of the run in use", "a column is gone, or `features` was changed: train by hand")


def list_gates(report: dict[str, Any], seconds: dict[str, float], config: GatesConfig) -> list[Gate]:
    """Both runs' lists on the newest window. report: of `lists.compared`, the run in use first."""
    used, new = (system["metrics"] for system in report["systems"])
    (row,) = report["comparisons"]
    quoted = report["quoted"]
    test = row["metrics"][quoted]
    worse = test["p"] is not None and test["p"] < SURE and test["value"] < 0
    span = f" ({test['value']:+.4f}, {test['low']:+.4f} to {test['high']:+.4f})" if test["p"] is not None else ""
    gates = [Gate(
        "quality", not worse and test["second"] >= (1 - config.quality_loss) * test["first"],
        f"{quoted} {test['second']:.4f} against {test['first']:.4f}{span}, {test['users']:,} users",
        f"at most {config.quality_loss:.0%} lower, and not surely", "see `recsys evaluate --run`",
    )]
    k = report["headline"]
    for gate, metric, wanted, holds, mend in (
        ("coverage", f"coverage@{k}", f"at most {config.coverage_loss:.0%} lower",
         lambda a, b: b["value"] >= (1 - config.coverage_loss) * a["value"],
         "see pipeline.exploration and the sources"),
        ("safety", f"unsafe@{k}", f"not surely more than {config.unsafe_gain:g} higher",
         lambda a, b: surely_higher(a, b) <= config.unsafe_gain, "see `recsys safety audit`"),
    ):
        if metric in used and metric in new:
            before, after = used[metric], new[metric]
            if before["value"] == before["value"] and after["value"] == after["value"]:
                told = f"{metric} {after['value']:.4f} against {before['value']:.4f}"
                gates.append(Gate(gate, bool(holds(before, after)), told, wanted, mend))
    before, after = (1000 * seconds[s["name"]] for s in report["systems"])
    gates.append(Gate(
        "latency", after <= max(config.latency_factor * before, before + 1.0),
        f"{after:.2f} ms of processor a slate against {before:.2f}", f"at most {config.latency_factor:g} times as long",
        "see `recsys recommend --explain`: which stage takes it",
    ))
    return gates


def surely_higher(before: dict[str, Any], after: dict[str, Any]) -> float:
    """By how much a figure is higher at least (95 %), as its intervals tell: what few people bring about by chance
    refuses nothing. By how much it is higher, where it has no interval."""
    spread = math.hypot(*(f["value"] - f["low"] for f in (before, after) if f.get("low") is not None))
    return after["value"] - before["value"] - spread


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
