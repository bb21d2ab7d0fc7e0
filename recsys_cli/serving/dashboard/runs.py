"""The runs: which is served, how two differ, and serving another one, which is asked twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.config import leaves
from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.report import interval_chart, number
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, address, chart, facts, link, section, table, tag
from recsys_cli.serving.dashboard.secrets import hidden
from recsys_cli.serving.dashboard.visit import Redirect, Visit
from recsys_cli.serving.keys import Refused

if TYPE_CHECKING:
    from recsys_cli.artifacts.runs import RunManifest

ACTIONS = {"promote": "Serve this run", "rollback": "Go back to the run before"}
PARTS = ("dataset", "windows", "metrics", "settings", "packages", "durations")
"""Parts of a manifest that are compared, in this order."""
MOST = 400
"""Differences that a page shows."""


def _opened(visit: Visit) -> tuple[RunStore, dict[str, RunManifest | None]]:
    """Run → its manifest, None for one that cannot be read; oldest first."""
    store = RunStore(visit.service.settings.paths.artifacts)
    held: dict[str, RunManifest | None] = {}
    for run in store.ids():
        try:
            held[run] = store.open(run, verify=False).manifest
        except RecsysError:
            held[run] = None
    return store, held


async def page(visit: Visit) -> Page:
    """All runs, the newest first, with what may be done with each."""
    store, held = _opened(visit)
    served, current, admin = visit.service.live.run, store.current(), "admin" in visit.caller.roles
    rows = []
    for run, manifest in reversed(held.items()):
        state = ", ".join(filter(None, ("served" if run == served else "", "in use" if run == current else "")))
        actions = [] if run == served else [
            link("compare", "runs", "compare", a=served, b=run),
            [" · ", link("promote", "runs", "confirm", action="promote", run=run)] if admin and manifest else None,
        ]
        rows.append({"run": run, "state": state, **_told(manifest), "actions": actions})
    columns = {"run": "run", "state": "state", "created": "trained", "dataset": "data", "value": "lists",
               "seconds": "seconds", "notes": "notes", "actions": "actions"}
    done = tag("p", f"Run {served} is served now.", class_="good", role="status")
    body = [
        done if visit.query.get("served") == served else None,
        table(columns, rows, "runs, the newest first", "no run"),
        tag("p", link(ACTIONS["rollback"], "runs", "confirm", action="rollback")) if admin and len(held) > 1 else None,
        None if admin else tag("p", "Switching runs takes a key with the role admin.", class_="note"),
    ]
    return Page("Runs", body, "runs")


def _told(manifest: RunManifest | None) -> dict[str, Part]:
    if manifest is None:
        return {"created": "", "dataset": "", "value": None, "seconds": None, "notes": "cannot be read"}
    figures = _figures(manifest)
    chosen = figures.get(manifest.metrics.get("order", {}).get("known", {}).get("chosen"), {})
    return {
        "created": manifest.created_at[:19].replace("T", " "), "dataset": manifest.dataset.name,
        "value": chosen.get("value"), "seconds": round(manifest.durations.get("total", 0.0)),
        "notes": "final: nothing was held out" if manifest.final else "",
    }


def _figures(manifest: RunManifest) -> dict[str, dict[str, float]]:
    """Order → what the lists of the validation window are worth by it, with low and high."""
    known = manifest.metrics.get("order", {}).get("known", {})
    return known.get("figures", {}) if isinstance(known, dict) else {}


def _pair(visit: Visit, first: str, second: str) -> tuple[RunManifest, RunManifest]:
    store = RunStore(visit.service.settings.paths.artifacts)
    return store.open(first, verify=False).manifest, store.open(second, verify=False).manifest


async def compared(visit: Visit) -> Page:
    """What differs between two runs."""
    first, second = visit.query.get("a", ""), visit.query.get("b", "")
    store = RunStore(visit.service.settings.paths.artifacts)
    if not {first, second} <= set(store.ids()):
        raise UsageError("Two runs are needed.", "Follow one of the links of the page of runs.")
    admin = "admin" in visit.caller.roles and second != visit.service.live.run
    body = [_comparison(visit, first, second),
            tag("p", link(f"Serve {second}", "runs", "confirm", action="promote", run=second)) if admin else None]
    return Page(f"Run {second} against {first}", body, "runs")


def _comparison(visit: Visit, first: str, second: str) -> Part:
    manifests = _pair(visit, first, second)
    sides = [manifest.model_dump(mode="json") for manifest in manifests]
    rows: list[dict[str, Part]] = []
    for part in PARTS:
        a, b = (leaves(side[part]) for side in sides)
        rows += [
            {"key": f"{part}.{key}", "a": _value(key, a.get(key)), "b": _value(key, b.get(key))}
            for key in sorted({*a, *b}) if a.get(key) != b.get(key)
        ]
    figures = [_figures(manifest) for manifest in manifests]
    names = [name for name in figures[0] if name in figures[1]][:12]
    series = {
        run: tuple([held[name][side] for name in names] for side in ("value", "low", "high"))
        for run, held in zip((first, second), figures, strict=True)
    }
    criterion = manifests[1].metrics.get("order", {}).get("criterion", "")
    picture = chart(interval_chart(names, series, title="Lists of the validation window")) if names else None
    same = manifests[0].dataset.digest == manifests[1].dataset.digest
    told = "Both were trained on the same data." if same else (
        "They were trained on other data: their figures are of other windows and decide nothing.")
    cut = f" The first {MOST} of {len(rows):,}." if len(rows) > MOST else ""
    columns = {"key": "key", "a": first, "b": second}
    return [
        section("How good the lists are", picture or "No figure that both have.", note=f"{criterion} {told}".strip()),
        section("What differs", table(columns, rows[:MOST], "settings and figures that differ", "nothing"), note=cut),
    ]


def _value(key: str, value: Any) -> str:
    return "–" if value is None else number(hidden(key, value))[:300]


def _wanted(visit: Visit, given: dict[str, str]) -> tuple[str, str]:
    """(action, run) that was asked for; the run is "" for going back."""
    action, run = given.get("action", ""), given.get("run", "")
    if action not in ACTIONS:
        raise UsageError("That is no action.", f"It is one of {', '.join(ACTIONS)}.")
    if action == "promote" and run not in RunStore(visit.service.settings.paths.artifacts).ids():
        raise UsageError("There is no such run.", "Follow one of the links of the page of runs.")
    return action, run if action == "promote" else ""


async def confirm(visit: Visit) -> Page:
    """Asks once more, with what would change in sight."""
    action, run = _wanted(visit, visit.query)
    served = visit.service.live.run
    word = visit.desk.access.ask(visit.caller, action, run)
    held = {"action": action, "run": run, "word": word}
    form = tag(
        "form", [tag("input", type="hidden", name=name, value=value) for name, value in held.items()],
        tag("button", "Yes, " + (f"serve {run}" if run else "go back"), class_="first"),
        tag("a", "No", href=address("runs")), method="post", action=address("runs", "confirm"),
    )
    told = f"Run {run} will be served in the place of {served}." if run else (
        f"The run that was served before {served} will be served again.")
    body = [facts({"served now": served or "none", "then": run or "the run before"}), tag("p", told), form,
            _comparison(visit, served, run) if run and served and run != served else None]
    return Page(f"{ACTIONS[action]}?", body, "runs")


async def act(visit: Visit) -> Page | Redirect:
    """Does what was asked for and confirmed."""
    action, run = _wanted(visit, visit.form)
    if not visit.desk.access.confirmed(visit.caller, visit.form.get("word", ""), action, run):
        raise Refused(409, "not_asked", "This was not asked for, or too long ago.", "Begin at the page of runs.")
    switched = await visit.service.switch(run or None)
    visit.desk.site.trace.event("run_by_hand", action=action, run=switched.run_id, by=visit.caller.name)
    return Redirect(address("runs", served=switched.run_id))
