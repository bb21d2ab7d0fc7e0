"""The Grafana dashboard against what the server really exports."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from recsys_cli.docs import FOLDER as DOCS
from recsys_cli.serving.metrics import Metrics

DASHBOARD = json.loads((DOCS / "deployment" / "grafana.json").read_text())
SCRAPED = {"instance", "job"}
"""Labels that Prometheus adds."""


@pytest.fixture(scope="module")
def exported() -> dict[str, list[dict[str, str]]]:
    """Name of each exported series → its labels."""
    metrics = Metrics()
    for route in ("GET /v1/recommend/{user_id}", "POST /v1/recommend/{user_id}", "GET /metrics"):
        for status in (200, 503):
            metrics.answered(route, status, 0.002)
    metrics.fallbacks.labels("no history").inc()
    metrics.events.labels("accepted").inc()
    metrics.alerts.labels("error").inc()
    for found in ("yes", "no"):
        metrics.hits.labels(found).inc()
    text = metrics.text("20260101-000000", [], pool_bytes=1, pools=1, pools_waiting=0, log_offset=1).decode()
    out: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            out.setdefault(sample.name, []).append(sample.labels)
    return out


def expressions() -> list[tuple[str, str]]:
    told = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return told + [(v["name"], v["query"]["query"]) for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_every_query_asks_for_what_is_exported(title, expression, exported):
    names = re.findall(r"recsys_\w+", expression)
    assert names, title
    for name, chosen in re.findall(r'(recsys_\w+)(?:\{((?:\w+=~?"[^"]*",?)*)\})?', expression):
        assert name in exported, f"{title}: {name} is not exported"
        labels = exported[name]
        for label, how, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', chosen):
            if label in SCRAPED:
                continue
            assert all(label in found for found in labels), f"{title}: {name} has no label {label}"
            fits = re.compile(value if how == "=~" else re.escape(value))
            assert any(fits.fullmatch(found[label]) for found in labels), f"{title}: nothing has {label} {value}"
    grouped = {w for group in re.findall(r"by \(([^)]*)\)", expression) for w in re.findall(r"\w+", group)}
    for label in grouped - SCRAPED:
        assert all(label in found for name in names for found in exported[name]), f"{title}: no label {label}"
    legend = [t["legendFormat"] for p in DASHBOARD["panels"] for t in p["targets"] if t["expr"] == expression]
    assert set(re.findall(r"{{(\w+)}}", " ".join(legend))) <= grouped
    assert expression.count("(") == expression.count(")") and expression.count("{") == expression.count("}")


def test_counters_are_asked_for_as_rates_and_gauges_as_they_are():
    for title, expression in expressions():
        for name in re.findall(r"recsys_\w+", expression):
            grows = name.endswith(("_total", "_bucket")) or name == "recsys_processor_seconds"
            assert grows == bool(re.search(rf"(rate|increase)\({name}\b", expression)), f"{title}: {name}"


def test_nothing_that_is_exported_is_forgotten(exported):
    asked = {name for _, expression in expressions() for name in re.findall(r"recsys_\w+", expression)}
    plain = {name for name in exported if not name.endswith(("_created", "_sum", "_count"))}
    assert plain <= asked


def test_panels_do_not_lie_upon_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not mine & taken and max(x for x, _ in mine) < 24, panel["title"]
        taken |= mine
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
