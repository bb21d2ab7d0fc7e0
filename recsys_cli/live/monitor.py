"""The monitor's report: what the log tells of the latest days, beside the training data, and the alerts on it."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.data.intact import open_intact
from recsys_cli.errors import DataError
from recsys_cli.live import alerts as al
from recsys_cli.live.figures import Figures, daily_figures, period_figures, reference_of
from recsys_cli.live.rollup import Day, DayStore, Described, roll_up, rows_of_log

if TYPE_CHECKING:
    from recsys_cli.settings import Settings


def monitor(
    settings: Settings, log: str | os.PathLike | None, days: int, *, predictions: int = 0
) -> tuple[dict[str, Any], dict[str, list[al.Alert]]]:
    """Roll up the days that a log tells of, and report on the latest ones.

    log: None reads what was rolled up before. days: up to the last day that is known. predictions: rows of each of
    these days on which the run in use foretells the actions, for calibration and their drift; 0 leaves them out.
    Returns the report, and each rule's history. Raises DataError where nothing is known, ConfigError for rules that
    name no figure.
    """
    config = settings.live.monitor
    dataset = open_intact(settings.paths.data, settings.paths.artifacts)
    described = Described.of(dataset, settings.pipeline.sourcing.fallback)
    store, bots = DayStore(settings.paths.artifacts), {}
    known, reference = store.read(), reference_of(dataset, described)
    if log is not None:
        rows = rows_of_log(log, described.actions)
        rolled = roll_up(rows, described, config.bot_events)
        if predictions and rolled.days:
            from recsys_cli.live.predicted import add_predictions

            last = max(rolled.days) - dt.timedelta(days=days - 1)
            reference = reference | add_predictions(
                settings, dataset, log, {d: c for d, c in rolled.days.items() if d >= last}, predictions
            )
        known = store.update(rolled.days, trimmed=rows.trimmed)
        bots = {str(day): people[:20] for day, people in rolled.bots.items()}
    if not known:
        raise DataError("nothing was served or shown yet", "name the log of the server with --events")
    daily = daily_figures(known, reference)
    shown = list(daily)[-days:]
    history = al.standing(config, daily)
    document = _document(settings, {d: daily[d] for d in shown}, {d: known[d] for d in shown if d in known}, reference)
    document["bots"] = {day: people for day, people in bots.items() if dt.date.fromisoformat(day) in shown}
    document["alerts"] = [a.to_dict() for of in history.values() for a in of if a.day in shown and a.state != "on"]
    document["alerts_on"] = [of[-1].name for of in history.values() if of and of[-1].state != "ended"]
    return document, history


def _document(
    settings: Settings, daily: dict[dt.date, Figures], counts: dict[dt.date, Day], reference: Day
) -> dict[str, Any]:
    from recsys_cli.artifacts.runs import RunStore

    return {
        "run": RunStore(settings.paths.artifacts).current(),
        "from": str(min(daily)), "to": str(max(daily)), "days": len(daily),
        "period": period_figures(counts.values(), reference),
        "daily": [{"day": str(day), **figures} for day, figures in daily.items()],
    }


def send(settings: Settings, history: dict[str, list[al.Alert]]) -> tuple[list[str], bool]:
    """Send what is new of the latest day: lines to tell, and whether a rule asks for an exit code.

    What a webhook did not take is sent again by the next report; an exit code is asked for as long as an alert is on.
    """
    config, sent = settings.live.monitor, al.Sent(settings.paths.artifacts)
    rules = {rule.name: rule for rule in config.alerts}
    latest = [of[-1] for of in history.values() if of]
    newest = max((a.day for a in latest), default=None)
    fresh = sent.new(a for a in latest if a.day == newest and a.state != "on")
    lines = [f"alert: {a.words}" for a in fresh if "log" in rules[a.name].send]
    to_post = [a for a in fresh if "webhook" in rules[a.name].send]
    done = [a for a in fresh if a not in to_post]
    if to_post:
        wrong = (
            al.post(config.webhook, to_post, config.webhook_seconds) if config.webhook
            else "live.monitor.webhook names no address"
        )
        if wrong is None:
            done += to_post
        else:
            lines.append(f"warning: {len(to_post)} alerts could not be posted: {wrong}")
    if done:
        sent.add(done)
    wants_exit = any(a.state != "ended" and "exit" in rules[a.name].send for a in latest)
    return lines, wants_exit


def page(document: dict[str, Any]) -> str:
    """The report as one HTML page that needs no network."""
    from recsys_cli import charts, report

    daily = document["daily"]
    names = [row["day"] for row in daily]

    def lines(title: str, wanted: list[str], form: str = ".3f") -> str:
        rows = [
            {"series": n.partition(".")[2] or n.replace("_", " "), "x": row["day"], "y": row.get(n)}
            for n in wanted for row in daily
        ]
        return charts.line_chart(rows, title=title, x_label="day (UTC)", names=names, form=form)

    def family(beginning: str) -> list[str]:
        return sorted({n for row in daily for n in row if n.startswith(beginning)})

    period = document["period"]
    headline = {
        n.replace("_", " "): period[n]
        for n in ("requests", "shown", "users", "click_through_rate", "negative_rate", "dwell_seconds", "coverage",
                  "fallback_share", "psi.max") if n in period
    }  # fmt: skip
    sections = [
        report.section("The period", report.facts(headline), note="Coverage and users are means over the days."),
        report.section("Alerts", report.html_table(document["alerts"]) if document["alerts"]
                       else report.paragraph("None was raised or ended.")),
        report.section("What people did", report.grid(
            lines("Click-through rate", ["click_through_rate"]), lines("Negative feedback", ["negative_rate"], ".4f"),
            lines("Dwell time (s)", ["dwell_seconds"], ".1f"), lines("Items shown", ["shown"], ",.0f"),
        )),
        report.section("What was served", report.grid(
            lines("Coverage of the catalogue", ["coverage"]), lines("Share from fallback", ["fallback_share"]),
            lines("Share that each source proposed", family("source.")),
        )),
        report.section("Drift from the training data", report.grid(
            lines("Population stability index", [n for n in family("psi.") if n != "psi.max"]),
            lines("Jensen–Shannon divergence (bits)", family("js.")),
        ), note="PSI below 0.1 is taken for no change, above 0.25 for a large one."),
        report.section("Calibration", lines("Observed actions for each foretold one", family("calibration.")))
        if family("calibration.") else "",
        report.section("Every day", report.html_table(
            [{n: row.get(n) for n in ("day", "shown", "users", "requests", "click_through_rate", "positive_rate",
                                      "negative_rate", "dwell_seconds", "coverage", "fallback_share", "psi.max")}
             for row in daily]
        )),
    ]  # fmt: skip
    sub = f"run {document['run']} · {document['from']} to {document['to']}"
    return report.page("Monitor", [s for s in sections if s], sub, style=charts.STYLE, end=charts.scripts())


def report_path(artifacts: str | Path) -> Path:
    """Where the page is kept."""
    return Path(artifacts) / "monitor" / "report.html"
