"""Terminal, HTML report and dashboard tell the same decision in the same words."""

from __future__ import annotations

import html
import io
import re

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.html import experiment_page
from recsys_cli.experiments.outcomes import outcomes_of
from recsys_cli.experiments.run import analyse_log
from recsys_cli.experiments.tables import render
from recsys_cli.serving.dashboard.experiments import told


def plain(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


@pytest.mark.parametrize(
    ("lift", "share", "days", "expected"),
    [(0.5, 0.5, 1, "ship treatment"), (-0.5, 0.5, 1, "roll back treatment"), (0.0, 0.5, 1, "no difference"),
     (0.5, 0.8, 1, "invalid"), (0.5, 0.5, 9, "keep running")],
)
def test_every_report_says_the_same(lift, share, days, expected):
    rng, n = np.random.default_rng(1), 1000
    arm = (rng.random(n) < share).astype(int)
    frame = pl.DataFrame({
        "user_id": np.arange(n), "variant": np.array(["control", "treatment"])[arm],
        "sold": rng.normal(5, 1, n) + lift * arm, "day": np.ones(n, int),
    })
    config = ExperimentConfig(name="sales", days=days, metrics=({"name": "sales", "numerator": "sold"},))
    document = analyse_log(config, outcomes_of(frame, config, "here"), "here")
    console = Console(width=1000, record=True, file=io.StringIO())
    render(console, document)
    reports = {
        "terminal": " ".join(console.export_text().split()),
        "page": plain(experiment_page(document)),
        "dashboard": plain("".join(map(str, [told(document)]))),
    }
    for where, text in reports.items():
        assert f"ecision {expected}" in text.replace("Decision:", "Decision"), where
        assert document["verdict"] in text, where
    for where in ("page", "dashboard"):
        assert all(because in reports[where] for because in document["decision"]["because"]), where
