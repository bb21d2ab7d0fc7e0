"""The first page, and what somebody should look at."""

from __future__ import annotations

import time

from recsys_cli.report import bar_chart, line_chart
from recsys_cli.serving.dashboard.figures import ANSWERS, Window
from recsys_cli.serving.dashboard.frame import Page
from recsys_cli.serving.dashboard.markup import Part, chart, facts, grid, listed, milliseconds, percent, section, table
from recsys_cli.serving.dashboard.tally import Counts
from recsys_cli.serving.dashboard.visit import Visit
from recsys_cli.serving.dashboard.words import age, clock, moment, read_so_far

WINDOW = 300
"""Seconds that the headline stands for."""
REFRESH = 5
EXACT = 900
"""Seconds of a chart up to which its ticks tell seconds."""
ALERTS = {
    "error": "requests that ended in an error", "disk_full": "writes that the disk refused",
    "served_not_logged": "answers that were not logged", "warm_up": "warm-ups that failed",
    "user_events": "people who brought more events than one person may: see the events that were refused",
    "run": "runs that could not be served", "state_not_kept": "times that the state could not be kept",
    "dashboard": "pages of the dashboard that failed", "retrain": "retrainings that failed",
}
"""Kinds of alerts that the server counts, in words; others are shown by their name."""


async def page(visit: Visit) -> Page:
    """Requests, latency, click-through, errors, cache, fallback shares, and what each source brings."""
    figures, tally = visit.desk.figures, visit.desk.tally
    window = figures.last(WINDOW)
    minutes = max(min(WINDOW, window.seconds), 1) / 60
    times = window.quantiles(ANSWERS)
    answers, fallbacks = window.count(ANSWERS), sum(window.fallbacks.values())
    hour = Counts()
    for minute, counts in tally.by_minute():
        if minute * 60 > time.time() - 3_600:
            hour.shown, hour.engaged = hour.shown + counts.shown, hour.engaged + counts.engaged
    lookups = sum(window.pool_lookups.values())
    headline: dict[str, Part] = {
        "answers a minute": round(answers / minutes, 1),
        "p50": milliseconds(times[0]), "p95": milliseconds(times[1]), "p99": milliseconds(times[2]),
        "click-through, last hour": percent(hour.engaged, hour.shown),
        "errors": percent(window.count(failed=True), window.count()),
        "pools found ready": percent(window.pool_lookups.get("yes", 0), lookups),
        "fallbacks": percent(fallbacks, answers),
        "events a minute": round(sum(window.events.values()) / minutes, 1),
    }
    troubles = visit.service.troubles
    told = section("Troubles", listed(troubles)) if troubles else None
    rows = [
        row | {q: milliseconds(row[q]) for q in ("p50", "p95", "p99")} for row in window.routes()
    ]
    columns = {"route": "path", "requests": "requests", "refused": "refused", "failed": "failed", "p50": "p50",
               "p95": "p95", "p99": "p99"}
    reasons = [{"reason": reason, "n": int(n), "share": percent(n, answers)} for reason, n in window.fallbacks.items()]
    body = [
        facts(headline), told, _over_time(visit), _sources(visit),
        section("Paths", table(columns, rows, "requests of the last five minutes", "no request in five minutes")),
        section("Fallbacks", table({"reason": "reason", "n": "answers", "share": "share"}, reasons,
                                   "answers that were not the person's own", "every answer was the person's own")),
    ]
    return Page("Overview", body, "", REFRESH)


def _over_time(visit: Visit) -> Part:
    """Requests, times and click-through as lines."""
    steps = visit.desk.figures.steps()
    ticks, rates, latency = [], [], {"p50": [], "p95": [], "p99": []}
    for at, window in steps:
        ticks.append(clock(at, exact=steps[-1][0] - steps[0][0] < EXACT))
        rates.append(_rate(window))
        for name, value in zip(latency, window.quantiles(ANSWERS), strict=True):
            latency[name].append(None if value is None else value * 1e3)
    xs = list(range(len(steps)))
    minutes = visit.desk.tally.by_minute()
    clicks = [counts.engaged / counts.shown if counts.shown else None for _, counts in minutes]
    return section("Over time", grid(
        chart(line_chart({"answers": (xs, rates)}, title="Answers a second", x_names=ticks, from_zero=True))
        if len(xs) > 1 else None,
        chart(line_chart({name: (xs, ys) for name, ys in latency.items()}, title="Time to answer, ms", x_names=ticks,
                         from_zero=True)) if len(xs) > 1 else None,
        chart(line_chart({"click-through": (list(range(len(minutes))), clicks)}, title="Click-through by minute",
                         note="of what was served in it", x_names=[clock(minute * 60) for minute, _ in minutes],
                         from_zero=True)) if len(minutes) > 1 else None,
    ), note="Times in UTC. " + read_so_far(visit.desk.tally, visit.desk.behind))


def _rate(window: Window) -> float:
    return window.count(ANSWERS) / max(window.seconds, 1e-9)


def _sources(visit: Visit) -> Part:
    sources = visit.desk.tally.by_source()[:12]
    if not sources:
        return None
    names = [name for name, _ in sources]
    return section("What each source brings", grid(
        chart(bar_chart(names, [counts.served for _, counts in sources], title="Items served")),
        chart(bar_chart(names, [counts.engaged for _, counts in sources], title="Items engaged with")),
    ), note="An item that several sources proposed counts for each.")


async def alerts(visit: Visit) -> Page:
    """What is not as it should be: troubles, counted alerts, events that were refused."""
    figures, service = visit.desk.figures, visit.service
    look = figures.look()
    hour = figures.last(3_600)
    troubles = service.troubles
    rows = [
        {"kind": ALERTS.get(kind, kind), "n": int(n)} for kind, n in sorted(look.alerts.items()) if n
    ]
    rejects = await visit.desk.worked_out("rejects", lambda: service.recorder.log.rejects(20), 5.0) or []
    refused = [
        {"when": moment(at / 1e6), "reason": reason, "event": body[:200]}
        for at, reason, body in rejects
    ]
    events = {f"events {outcome}": int(n) for outcome, n in sorted(look.events.items())}
    state = {
        "status": "degraded" if troubles else "ready", "started": age(figures.started),
        "pools waiting": service.live.pools.waiting, "pools kept": len(service.live.pools.cache),
        "pools built": int(look.pools_built), "batches of pools that failed": int(look.pool_failures),
        "errors, last hour": hour.count(failed=True),
    }
    body = [
        facts(state), facts(events) if events else None,
        section("Troubles", listed(troubles) if troubles else "none"),
        section("Alerts since the start", table({"kind": "what", "n": "times"}, rows, "counted alerts", "none")),
        section("Events that were refused", table({"when": "when", "reason": "reason", "event": "event"}, refused,
                                                  "the latest refused events", "none")),
    ]
    return Page("Alerts", body, "alerts", REFRESH)
