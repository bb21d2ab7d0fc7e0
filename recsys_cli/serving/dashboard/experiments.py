"""Experiments under way, and one of them with its verdict. Nothing is written: looking decides nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.experiments.registry import ExperimentRegistry, Started
from recsys_cli.report import interval_chart
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, chart, facts, link, listed, section, table, tag
from recsys_cli.serving.dashboard.visit import Visit
from recsys_cli.serving.dashboard.words import COUNTED, counted, moment

if TYPE_CHECKING:
    from recsys_cli.settings import Settings

WORKING = "The verdict is being worked out; look again in a moment."


def _registry(settings: Settings) -> ExperimentRegistry:
    return ExperimentRegistry(settings.paths.artifacts)


async def page(visit: Visit) -> Page:
    """All experiments that were ever started, with what was last decided of each."""
    registry = _registry(visit.service.settings)
    rows, damaged = [], []
    for name in registry.names():
        try:
            started = registry.open(name)
        except ArtifactError as error:
            damaged.append(error.message)
            continue
        rows.append({
            "name": link(name, "experiments", name), "state": started.state, "day": started.day,
            "days": started.config.days, "primary": started.config.deciding, "last": _last(registry, started),
        })
    columns = {"name": "experiment", "state": "state", "day": "day", "days": "of", "primary": "decided by",
               "last": "last decision"}
    empty = "none was started; recsys ab-test start starts one"
    arms = [{"arm": arm} | counted(counts) for arm, counts in sorted(visit.desk.tally.arms.items())]
    body = [
        table(columns, rows, "experiments", empty),
        section("Cannot be read", listed(damaged)) if damaged else None,
        section("Arms in the log", table({"arm": "arm"} | COUNTED, arms, "what came of the answers of each arm"))
        if arms else None,
    ]
    return Page("Experiments", body, "experiments")


def _last(registry: ExperimentRegistry, started: Started) -> str:
    decided = [d for d in registry.decisions(started) if d["what"] == "decision"]
    return str(decided[-1].get("outcome", "")).replace("_", " ") if decided else "none yet"


async def one(visit: Visit) -> Page:
    """One experiment: verdict, metrics, checks and the log of its decisions."""
    name, settings = visit.params[0], visit.service.settings
    registry = _registry(settings)
    try:
        started = registry.open(name)
    except ArtifactError as error:
        return Page("Experiment", [tag("p", error.message), tag("p", error.hint)], "experiments", status=404)
    config = started.config
    head: dict[str, Part] = {
        "state": started.state, "version": config.version, "day": f"{started.day} of {config.days}",
        "started": moment(started.started_at.timestamp()), "decided by": config.deciding,
        "variants": ", ".join(arm.name for arm in config.arms),
    }
    decisions = [
        {"at": str(d["at"])[:19].replace("T", " "), "what": d["what"], "because": _because(d)}
        for d in reversed(registry.decisions(started))
    ]
    body = [
        facts(head), tag("p", config.hypothesis or config.description or ""), await _verdict(visit, started),
        section("Decisions", table({"at": "when, UTC", "what": "what", "because": "because"}, decisions,
                                   "the log of decisions", "none")),
    ]
    return Page(f"Experiment {name}", body, "experiments")


def _because(decision: dict[str, Any]) -> str:
    because, outcome = decision.get("because", ""), decision.get("outcome", "")
    told = because if isinstance(because, str) else " ".join(map(str, because))
    return f"{str(outcome).replace('_', ' ')}: {told}" if outcome else told


async def _verdict(visit: Visit, started: Started) -> Part:
    # the log that `recsys ab-test report` reads
    path = _registry(visit.service.settings).log_of(started)
    key = ("experiment", started.config.key, path.stat().st_mtime_ns if path.is_file() else 0)
    try:
        document = await visit.desk.worked_out(key, lambda: _analysed(started, path), 600.0 if path.is_file() else 60.0)
    except RecsysError as error:
        return section("Verdict", tag("p", error.message), tag("p", error.hint))
    return section("Verdict", WORKING) if document is None else told(document)


def told(document: dict[str, Any]) -> Part:
    """The verdict as `recsys ab-test report` tells it, with the metrics and checks that it rests on."""
    from recsys_cli.experiments.verdict import headline

    decision = document["decision"]
    head = {"decision": headline(decision)}
    head |= {f"{document['unit']}s in {arm}": count for arm, count in document["users"].items()}
    checks = [
        {"check": c["check"], "outcome": "passed" if c["passed"] else "failed" if c["voids"] else "note",
         "told": c["told"]} for c in document["checks"]
    ]
    return section(
        "Verdict", facts(head), tag("p", document["verdict"]), listed(decision["because"]), _metrics(document),
        table({"check": "check", "outcome": "outcome", "told": "what was seen"}, checks, "trust checks", "no checks"),
    )


def _analysed(started: Started, path: Path) -> dict[str, Any]:
    from recsys_cli.experiments.live import read_started
    from recsys_cli.experiments.run import analyse_log

    return analyse_log(started.config, read_started(started, path), str(path))


def _metrics(document: dict[str, Any]) -> Part:
    from recsys_cli.experiments.compare import change, has_lift

    rows = [
        {"metric": row["metric"], "variant": row["variant"], "control": row["control"], "treatment": row["treatment"],
         "change": change(row, "value"), "interval": f"{change(row, 'low')} to {change(row, 'high')}",
         "p": row["p_value"], "adjusted": row["p_adjusted"], "test": row["method"] or row["refused"] or ""}
        for row in document["metrics"]
    ]
    lifted = [row for row in document["metrics"] if has_lift(row)]
    sides = tuple([row["lift"][side] for row in lifted] for side in ("value", "low", "high"))
    picture = interval_chart([f"{row['metric']}, {row['variant']}" for row in lifted], {"lift": sides},
                             title="Lifts with intervals", zero_line=True)
    columns = {"metric": "metric", "variant": "variant", "control": "control", "treatment": "treatment",
               "change": "change", "interval": "interval", "p": "p", "adjusted": "p adjusted", "test": "test"}
    return [table(columns, rows, "metrics against the control", "no metric could be measured yet"), chart(picture)]
