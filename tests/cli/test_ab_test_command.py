"""`recsys ab-test` as a command: its sub-commands, what they print, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cli.cli import common

YAML = """
name: sales
hypothesis: Bolder pictures sell more.
metrics: [{name: sales, numerator: sold, covariate: before}, {name: buyers, numerator: sold, at_least: 1}]
segments: [country]
days: 7
"""


@pytest.fixture
def shop(tmp_path, monkeypatch) -> Path:
    """A project with an experiment of 600 users in which the treatment sells half as much again."""
    monkeypatch.chdir(tmp_path)
    for variable in ("RECSYS_CONFIG", "RECSYS_SET", "RECSYS_FORMAT"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    Path("sales.yaml").write_text(YAML)
    rng = np.random.default_rng(0)
    user, taste, arm = np.repeat(np.arange(600), 7), rng.gamma(2, 1, 600), rng.integers(0, 2, 600)
    pl.DataFrame(
        {
            "user_id": [f"u{i}" for i in user],
            "variant": np.array(["control", "treatment"])[arm[user]],
            "day": np.tile(np.arange(1, 8), 600),
            "sold": rng.poisson(taste[user] * (1 + 0.5 * arm[user])),
            "before": rng.poisson(10 * taste)[user],
            "country": np.array(["de", "fr"])[user % 2],
        }
    ).write_csv("log.csv")
    return tmp_path


def run(capsysbinary, *arguments: str) -> tuple[int, str, str]:
    code = common.run(["ab-test", *arguments])
    captured = capsysbinary.readouterr()
    return code, captured.out.decode(), captured.err.decode()


def test_a_file_alone_is_run_and_a_log_analysed(shop, capsysbinary):
    code, out, _ = run(capsysbinary, "sales.yaml", "--log", "log.csv", "--aa", "50")
    assert code == 0 and max(map(len, out.splitlines())) <= 100
    for words in ("Decision: ship treatment", "A/A: passed", "pre-period balance: passed", "country", "sales*"):
        assert words in out, words
    assert run(capsysbinary, "analyze", "sales.yaml", "--log", "log.csv", "--aa", "50")[1] == out
    document = json.loads(run(capsysbinary, "run", "sales.yaml", "--log", "log.csv", "--format", "json")[1])
    assert document["decision"]["outcome"] == "ship" and len(document["effects_by_day"]) == 7


def test_the_report_is_one_file_with_days_forest_segments_and_checks(shop, capsysbinary):
    run(capsysbinary, "analyze", "sales.yaml", "--log", "log.csv", "--html", "report.html")
    page = Path("report.html").read_text()
    assert page.count("<svg") >= 4 and "always valid" in page and "Lifts with intervals" in page and "shrunk" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_an_experiment_from_start_to_stop(shop, capsysbinary):
    text = Path("log.csv").read_text().splitlines()
    code, out, _ = run(capsysbinary, "start", "sales.yaml")
    assert code == 0 and "sales version 1 is running, day 1 of 7" in out
    assert "running" in run(capsysbinary, "list")[1]
    Path("sales.yaml").write_text(YAML + "alpha: 0.1\n")
    code, _, err = run(capsysbinary, "start", "sales.yaml")
    assert code == 3 and "the file has changed since" in err and "version 2" in err
    later = ["timestamp," + text[0], *(f"{int((time.time() + 60) * 1e6)},{line}" for line in text[1:])]
    Path("later.csv").write_text("\n".join(later))
    code, out, _ = run(capsysbinary, "report", "sales", "--log", "later.csv")
    assert code == 0 and "Decision: keep running" in out
    assert run(capsysbinary, "stop", "sales", "--reason", "seen enough")[0] == 0
    out = run(capsysbinary, "status", "sales")[1]
    assert "is stopped" in out and "keep_running" in out and "stop: seen enough" in out
    code, _, err = run(capsysbinary, "status", "sale")
    assert code == 5 and "did you mean 'sales'?" in err


def test_users_are_assigned_from_a_table_or_one_by_one(shop, capsysbinary):
    pl.DataFrame({"user_id": [f"u{i}" for i in range(300)]}).write_parquet("users.parquet")
    rows = json.loads(run(capsysbinary, "assign", "sales.yaml", "--users", "users.parquet", "--format", "json")[1])
    variants = {row["user_id"]: row["variant"] for row in rows}
    assert 110 < sum(v == "control" for v in variants.values()) < 190
    assert run(capsysbinary, "assign", "sales.yaml", "--user", "u7")[1] == f"u7  {variants['u7']}\n"
    run(capsysbinary, "assign", "sales.yaml", "--users", "users.parquet", "--output", "out.csv")
    assert dict(pl.read_csv("out.csv").iter_rows()) == variants
    assert run(capsysbinary, "assign", "sales.yaml")[0] == 2


def test_plans_are_made_of_numbers_and_of_logs(shop, capsysbinary):
    code, out, _ = run(capsysbinary, "plan", "sales.yaml", "--log", "log.csv")
    assert code == 0 and "off the variance (CUPED)" in out and "is found 80% of the time" in out
    document = json.loads(
        run(capsysbinary, "plan", "sales.yaml", *"--mean 3 --sd 5 --users-a-day 500 --format json".split())[1]
    )
    assert [row["effect"] for row in document["effects"]] == [0.01, 0.02, 0.05, 0.1]
    assert run(capsysbinary, "plan", "sales.yaml", "--mean", "3")[0] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("split: {control: 0.5, treatment: 0.6}", "shares of the variants sum to 1.1, not to 1"),
        ("variants: {a: {share: 0.5}, b: {}}", "all of them have a share, or none"),
        ("variants: {a: {}}", "has two or more"),
        ("variants: {a: {}, b: {}}\ntreatment: {slate_size: 5}", "instead of control, treatment and split"),
        ("variants: {control: same, treatment: same}", "cannot call two of them the same"),
        ("layer: {name: feed, start: 0.5, end: 0.2}", "end must be above start"),
        ("guardrails: {ctrr: 0.1}", "guardrails 'ctrr' is none of the metrics"),
        ("ramp: {1: 0.5, 2: 0.1}", "days and shares must rise"),
        ("metrics: [{name: q, numerator: y, quantile: 0.5, denominator: x}]", "leave denominator out"),
        ("stop: peeking", "stop"),
    ],
)
def test_experiments_that_make_no_sense_are_refused(shop, capsysbinary, text, words):
    Path("wrong.yaml").write_text(f"name: wrong\n{text}\n")
    code, out, err = run(capsysbinary, "analyze", "wrong.yaml", "--log", "log.csv")
    assert (code, out) == (3, "") and words in err and len(err.splitlines()) <= 2


def test_a_misspelt_command_is_no_file(shop, capsysbinary):
    code, _, err = run(capsysbinary, "analyse")
    assert code == 2 and "analyze" in err


def test_analysing_a_log_loads_no_slow_library(shop):
    code = (
        "import sys; from recsys_cli.cli import common; common.run(['ab-test','sales.yaml','--log','log.csv']);"
        "print([m for m in ('scipy.stats','tea_tasting','statsmodels','torch','sklearn','pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "Warning" not in out
