"""Pages of the dashboard about the live loop: what was decided on runs, and drift with its alerts."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.report import line_chart
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, address, chart, facts, grid, link, listed, section, table, tag
from recsys_cli.serving.dashboard.visit import Redirect, Visit
from recsys_cli.serving.keys import Refused

if TYPE_CHECKING:
    from recsys_cli.live.on_demand import Retrainer
    from recsys_cli.settings import Settings

NAMES = {"learning": "Learning", "drift": "Drift"}
DAYS = 30
"""Days that the page of drift shows."""
FRESH = 600.0
"""Seconds after which the report behind the page is made anew, by a process behind all others."""
MOST = 50
"""Decisions that are shown."""
ACTION, WHAT = "retrain", "now"
HEADLINE = {
    "click_through_rate": "click-through", "click_through_rate_change": "against the week before",
    "negative_rate": "turned down", "coverage": "coverage", "fallback_share": "fallback", "psi.max": "largest PSI",
    "shown": "items shown", "users": "people",
}


class Pages:
    """The pages of one server."""

    def __init__(self, settings: Settings, retrainer: Retrainer):
        self._settings, self._retrainer = settings, retrainer

    def pages(self) -> dict[tuple[str | None, ...], Any]:
        """As `serving.dashboard.app.pages`."""
        return {
            ("GET", "learning"): (self.learning, "read"), ("GET", "learning", "confirm"): (self.confirm, "admin"),
            ("POST", "learning", "confirm"): (self.act, "admin"), ("GET", "drift"): (self.drift, "read"),
        }

    async def learning(self, visit: Visit) -> Page:
        """How learning stands, and what was decided."""
        told = await asyncio.to_thread(self._retrainer.told)
        rows = await asyncio.to_thread(self._retrainer.decisions.read)
        admin = "admin" in visit.caller.roles
        begin = tag("p", link("Learn again now", "learning", "confirm")) if admin and told.state == "idle" else None
        shown = [row for row in reversed(rows) if row["outcome"] != "started"][:MOST]
        listing = [
            {"ts": row["ts"][:19].replace("T", " "), **{k: str(row.get(k) or "–") for k in
             ("outcome", "run", "used_before", "reason")}} for row in shown
        ]
        gates = next((row for row in shown if row.get("gates")), None)
        body = [
            facts({"state": told.state, "next": told.next or "no time is set", "decisions": len(rows)}), begin,
            section("Decisions", table(
                {"ts": "when, UTC", "outcome": "outcome", "run": "run", "used_before": "before", "reason": "reason"},
                listing, "decisions on runs, the newest first", "nothing was decided yet",
            )),
            section(f"Gates of {gates.get('run') or 'the data'}", _gates(gates["gates"])) if gates else None,
        ]
        return Page("Learning", body, "learning", refresh=5)

    async def confirm(self, visit: Visit) -> Page:
        """Asks once more."""
        word = visit.desk.access.ask(visit.caller, ACTION, WHAT)
        form = tag("form", tag("input", type="hidden", name="word", value=word),
                   tag("button", "Yes, learn again", class_="first"), tag("a", "No", href=address("learning")),
                   method="post", action=address("learning", "confirm"))
        told = ("The events of the log are added to the data, and a run is trained behind everything that serves. "
                "It is served where every gate holds.")
        return Page("Learn again?", [tag("p", told), form], "learning")

    async def act(self, visit: Visit) -> Redirect:
        """Starts what was asked for and confirmed."""
        if not visit.desk.access.confirmed(visit.caller, visit.form.get("word", ""), ACTION, WHAT):
            raise Refused(409, "not_asked", "This was not asked for, or too long ago.", "Begin at the page again.")
        await asyncio.to_thread(self._retrainer.begin)
        visit.desk.site.trace.event("retrain", by=visit.caller.name)
        return Redirect(address("learning"))

    async def drift(self, visit: Visit) -> Page:
        """Figures of the latest days beside the training data, and the alerts on them."""
        try:
            document = await visit.desk.worked_out("drift", self._report, FRESH)
        except RecsysError as error:
            return Page("Drift", [tag("p", error.message), tag("p", error.hint) if error.hint else None], "drift")
        if document is None:
            return Page("Drift", tag("p", "The days are being counted; this takes a while the first time.",
                                     role="status"), "drift", refresh=5)
        return Page("Drift", _drift(document), "drift")

    def _report(self) -> dict[str, Any]:
        """The monitor's report of the days, made by another process. Raises RecsysError with what that told."""
        from recsys_cli.files import write_bytes

        folder = Path(self._settings.paths.artifacts) / "monitor"
        folder.mkdir(parents=True, exist_ok=True)
        given = folder / "settings.json"
        write_bytes(given, self._settings.model_dump_json(indent=1).encode())
        command = [sys.executable, "-m", "recsys_cli", "monitor", "report", "--config", str(given), "--days", str(DAYS),
                   "--format", "json", "--quiet"]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,  # noqa: S603 - this program
                              stderr=subprocess.PIPE) as process:
            os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            out, told = process.communicate()
        try:
            return orjson.loads(out)  # an alert that asks for an exit code leaves the report whole
        except orjson.JSONDecodeError:
            lines = told.decode(errors="replace").strip().splitlines() or ["the report could not be made"]
            raise UsageError(lines[0].removeprefix("recsys: "), " ".join(lines[1:2])) from None


def _gates(gates: list[dict[str, Any]]) -> Part:
    marks = {True: "holds", False: "does not hold", None: "could not be judged"}
    rows = [{"gate": g["gate"], "passed": marks[g["passed"]], "measured": g["measured"], "wanted": g["wanted"]}
            for g in gates]
    columns = {"gate": "gate", "passed": "outcome", "measured": "measured", "wanted": "wanted"}
    return table(columns, rows, "gates of a run")


def _drift(document: dict[str, Any]) -> Part:
    daily, period = document["daily"], document["period"]
    on = document["alerts_on"]
    return [
        tag("p", f"Alerts that are on: {', '.join(on)}", class_="bad", role="alert") if on
        else tag("p", "No alert is on.", class_="good"),
        facts({HEADLINE[n]: _rounded(period[n]) for n in HEADLINE if n in period}),
        section("Over the days", grid(
            _lines(daily, "Click-through rate", ["click_through_rate"]),
            _lines(daily, "Drift from the training data (PSI)", _family(daily, "psi.")),
            _lines(daily, "Share that each source proposed", _family(daily, "source.")),
            _lines(daily, "Coverage and fallback", ["coverage", "fallback_share"]),
            _lines(daily, "Observed actions for each foretold one", _family(daily, "calibration.")),
        ), note=f"{document['from']} to {document['to']}, UTC. PSI below 0.1 is taken for no change, above 0.25 for a "
                "large one."),
        section("Features", table(
            {"feature": "feature", "psi": "PSI", "js": "Jensen–Shannon, bits"}, _features(period),
            "how far the days lie from the training data", "nothing is known of both",
        )),
        section("Alerts", table(
            {"day": "day", "name": "alert", "state": "state", "figure": "figure", "value": "value", "bound": "bound"},
            list(reversed(document["alerts"])), "alerts raised and ended", "none was raised or ended",
        )),
        section("Left out as no people", listed([f"{day}: {', '.join(people)}" for day, people in
                                                document["bots"].items()])) if document["bots"] else None,
        section("Every day", table({"day": "day", **HEADLINE}, list(reversed(daily)), "figures of each day")),
    ]


def _features(period: dict[str, float]) -> list[dict[str, Part]]:
    names = [n.removeprefix("psi.") for n in period if n.startswith("psi.") and n != "psi.max"]
    rows = [{"feature": n, "psi": _rounded(period[f"psi.{n}"]), "js": _rounded(period.get(f"js.{n}"))} for n in names]
    return sorted(rows, key=lambda row: -(row["psi"] or 0.0))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _family(daily: list[dict[str, Any]], beginning: str) -> list[str]:
    found = sorted({n for row in daily for n in row if n.startswith(beginning) and n != "psi.max"})
    return sorted(found, key=lambda n: -max(row.get(n) or 0.0 for row in daily))[:8]


def _lines(daily: list[dict[str, Any]], title: str, names: list[str]) -> Part:
    there = [n for n in names if any(row.get(n) is not None for row in daily)]
    if len(daily) < 2 or not there:
        return None
    xs = list(range(len(daily)))
    series = {n.partition(".")[2] or n.replace("_", " "): (xs, [row.get(n) for row in daily]) for n in there}
    return chart(line_chart(series, title=title, x_names=[row["day"][5:] for row in daily], from_zero=True))
