"""What a load test found: percentiles, failures, processor time, and whether the load itself could be trusted."""

from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from urllib.parse import urlsplit

import numpy as np

from recsys_cli import report
from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.serving.keys import is_loopback
from recsys_cli.serving.load import LATE_MS, Load, Outcome, run_load

QUANTILES = (50, 90, 95, 99, 99.9)
KINDS = ("recommend", "events")


@dataclass
class Times:
    """Requests of one kind."""

    kind: str
    requests: int
    a_second: float
    """answered"""
    failed: int
    """answered by neither 200 nor, of events, 422; or not at all"""
    statuses: dict[str, int]
    ms: dict[str, float]
    """p50, … and max of the milliseconds from when each was due"""


@dataclass
class LoadReport:
    """What came of a load test."""

    url: str
    asked_a_second: float
    events_a_second: float
    seconds: float
    times: list[Times]
    fallback: dict[str, int]
    """why lists were not people's own → how many"""
    processor_ms_a_request: float | None
    """of the server and its workers, over requests of both kinds; None where the server tells no figures"""
    resident_mb: float | None
    """memory of the server's own process at its largest"""
    warnings: list[str]
    curve: list[dict[str, float]]
    """second by second: p50, p99 and requests"""

    def to_dict(self) -> dict:
        """The documented JSON form."""
        return asdict(self)


def load_test(url: str, load: Load, *, remote: bool = False) -> LoadReport:
    """Put a load on the server at `url`.

    Raises UsageError for an address that is not this machine's, unless `remote`, and RecsysError where no server
    answers there.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    host, port = parts.hostname or "", parts.port or 80
    if parts.scheme != "http" or not host:
        raise UsageError(f"{url} is no address of a server", "write http://127.0.0.1:8080")
    if not remote and not is_loopback(host):
        raise UsageError(f"{host} is another machine", "a load test of it needs --remote, and its owner's consent")
    if not load.users:
        raise UsageError("there are no users to ask for")
    before = figures(url, load.key)
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run
    outcome = run(run_load(host, port, load))
    return _report(url, load, outcome, before, figures(url, load.key))


def figures(url: str, key: str | None) -> dict[str, float]:
    """The server's own figures from /metrics; {} where they may not be read. RecsysError where nobody answers."""
    place = url if "://" in url else f"http://{url}"
    headers = {"x-api-key": key} if key else {}
    # load_test has seen that it begins with http
    request = urllib.request.Request(f"{place.rstrip('/')}/metrics", headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            text = answer.read().decode()
    except urllib.error.HTTPError:
        return {}
    except OSError as error:
        raise RecsysError(f"no server answers at {place}: {error}", "start one with `recsys serve`") from None
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {parts[0]: float(parts[1]) for parts in lines if len(parts) == 2}


def _report(url: str, load: Load, outcome: Outcome, before: dict, after: dict) -> LoadReport:
    ms, kinds, due = np.array(outcome.ms), np.array(outcome.kind), np.array(outcome.due)
    times = [_times(kind, name, ms[kinds == kind], outcome) for kind, name in enumerate(KINDS) if (kinds == kind).any()]
    spent = (
        after["recsys_processor_seconds"] - before["recsys_processor_seconds"]
        if "recsys_processor_seconds" in before and "recsys_processor_seconds" in after else None
    )
    return LoadReport(
        url=url, asked_a_second=load.rate, events_a_second=load.events * load.batch, seconds=round(outcome.seconds, 3),
        times=times,
        fallback={reason: n for reason, n in outcome.fallback.items() if reason is not None},
        processor_ms_a_request=None if spent is None or not len(ms) else round(spent * 1e3 / len(ms), 4),
        resident_mb=round(after["recsys_resident_bytes"] / 2**20, 1) if "recsys_resident_bytes" in after else None,
        warnings=list(_warnings(load, outcome, times)),
        curve=_curve(due, ms),
    )


def _times(kind: int, name: str, ms: np.ndarray, outcome: Outcome) -> Times:
    statuses = {str(s) if s else "no answer": n for (k, s), n in sorted(outcome.status.items()) if k == kind}
    good = statuses.get("200", 0) + (statuses.get("422", 0) if kind else 0)
    quantiles = {f"p{q:g}": round(float(v), 3) for q, v in zip(QUANTILES, np.percentile(ms, QUANTILES), strict=True)}
    return Times(
        name, len(ms), round(len(ms) / max(outcome.seconds, 1e-9), 1), len(ms) - good, statuses,
        quantiles | {"max": round(float(ms.max()), 3)},
    )


def _warnings(load: Load, outcome: Outcome, times: list[Times]) -> Iterable[str]:
    late = float(np.percentile(outcome.late, 99)) if outcome.late else 0.0
    if late > LATE_MS:
        yield (f"the load itself was {late:.0f} ms behind its schedule (p99): this machine is too busy to make it, and "
               "times are too high")
    if outcome.seconds > load.seconds * 1.05 + 0.5:
        yield (f"answers ended {outcome.seconds - load.seconds:.1f} s after the last request: the server is saturated "
               "at this rate")
    if failed := sum(t.failed for t in times):
        yield f"{failed:,} requests failed"


def _curve(due: np.ndarray, ms: np.ndarray) -> list[dict[str, float]]:
    second = due.astype(int)
    out = []
    for s in range(int(second.max(initial=-1)) + 1):
        mine = ms[second == s]
        if len(mine):
            p50, p99 = np.percentile(mine, (50, 99))
            out.append({"second": s, "requests": len(mine), "p50": round(float(p50), 3), "p99": round(float(p99), 3)})
    return out


def picture(found: LoadReport) -> str:
    """The report as one HTML page with charts."""
    seconds = [row["second"] for row in found.curve]
    curves = {name: (seconds, [row[name] for row in found.curve]) for name in ("p50", "p99", "requests")}
    charts = report.grid(
        report.line_chart(
            {name: curves[name] for name in ("p50", "p99")}, title="Milliseconds from when a request was due",
            x_label="second", y_label="ms", from_zero=True,
        ),
        report.line_chart(
            {"requests": curves["requests"]}, title="Requests", x_label="second", y_label="a second", from_zero=True
        ),
    )
    rows = [
        {"kind": t.kind, "requests": t.requests, "a second": t.a_second, "failed": t.failed, **t.ms}
        for t in found.times
    ]
    parts = [charts, report.html_table(rows), *(report.paragraph(text) for text in found.warnings)]
    subtitle = f"{found.url}, {found.asked_a_second:g} requests a second for {found.seconds:g} s"
    return report.page("Load test", [report.section("Times", *parts)], subtitle)
