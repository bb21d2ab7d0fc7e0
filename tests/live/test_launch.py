"""The launch list: rows judged by hand-made figures, and the command on a trained run."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from recsys_cli.cli.common import run
from recsys_cli.config import validate
from recsys_cli.live import launch
from recsys_cli.live.config import LiveConfig
from recsys_cli.live.rollup import DayStore
from recsys_cli.settings import Settings


def settings_of(tmp_path, data="none") -> Settings:
    tree = Settings().model_dump(mode="json")
    return validate(Settings, tree | {"paths": {"data": str(data), "artifacts": str(tmp_path)}})


def test_the_worst_group_of_enough_users_decides():
    def part(by, *rows):
        segments = [{"segment": s, "users": n, "metrics": {"ndcg@10": {"value": v}}} for s, n, v in rows]
        return {"by": by, "segments": segments}

    document = {"segments": [part("country", ("de", 40, 0.3), ("fr", 40, 0.11)), part("plan", ("x", 29, 0.01))]}
    row = launch._groups(document, "ndcg@10", {"ndcg@10": 0.2}, 0.5)
    assert row.passed and "of country fr" in row.measured
    assert launch._groups(document, "ndcg@10", {"ndcg@10": 0.23}, 0.5).passed is False
    assert launch._groups({"segments": []}, "ndcg@10", {"ndcg@10": 0.2}, 0.5).passed is None


def test_an_experiment_must_run_for_enough_users(tmp_path):
    from recsys_cli.experiments.config import ExperimentConfig
    from recsys_cli.experiments.registry import ExperimentRegistry

    settings = settings_of(tmp_path)
    assert launch._experiment(settings).passed is False
    config = validate(ExperimentConfig, {"name": "tiny", "traffic": 0.01})
    ExperimentRegistry(tmp_path).start(config)
    row = launch._experiment(settings)
    assert (row.passed, row.measured) == (False, "tiny runs for 1% of the users")
    ExperimentRegistry(tmp_path).start(validate(ExperimentConfig, {"name": "enough", "traffic": 0.05}))
    ExperimentRegistry(tmp_path).stop("tiny")
    assert launch._experiment(settings).passed


def test_alerts_that_are_on_hold_a_launch_up(tiny_dataset, tmp_path):
    settings = settings_of(tmp_path, tiny_dataset)
    assert launch._monitor(settings).measured == "nothing was rolled up"
    day = {("shown", ""): 1_000.0, ("action", "click"): 200.0, ("fallback", ""): 10.0, ("sourced", ""): 1_000.0}
    store = DayStore(tmp_path)
    store.update({dt.date(2026, 1, 1): day}, trimmed=False)
    assert launch._monitor(settings).passed
    store.update({dt.date(2026, 1, 2): day | {("fallback", ""): 900.0}}, trimmed=False)
    row = launch._monitor(settings)
    assert row.passed is False and row.measured.endswith("on: fallback")


def test_thresholds_come_from_the_settings_and_wrong_ones_are_refused(tmp_path, capsys):
    assert validate(LiveConfig, {"check": {"slate_ms": 5}}).check.slate_ms == 5
    assert run(["check", "--artifacts-dir", str(tmp_path), "--set", "live.check.slate_m=5"]) == 3
    assert "did you mean 'slate_ms'" in capsys.readouterr().err
    assert run(["check", "--artifacts-dir", str(tmp_path)]) == 5


@pytest.mark.slow
def test_the_list_of_a_trained_run(tmp_path, monkeypatch, capsys):
    from recsys_cli.world.generate import generate

    tree = Settings().model_dump(mode="json") | {"paths": {"data": str(tmp_path / "d"), "artifacts": str(tmp_path)}}
    tree["world"] |= {"users": 80, "items": 400, "days": 7}
    settings = validate(Settings, tree)
    generate(settings.world, 3, tmp_path / "d", threads=1)
    at = ["--data-dir", str(tmp_path / "d"), "--artifacts-dir", str(tmp_path), "--threads", "1"]
    train = [*at, "--set", "ranking.heavy={kind: shared_bottom, epochs: 1, hidden: [16]}", "--quiet",
             "--set", "tuning.budget_seconds=0.5"]
    assert run(["train", *train]) == 0
    capsys.readouterr()
    assert run(["check", *at, "--format", "json", "--set", "live.check.slate_ms=0.001"]) == 1
    told = capsys.readouterr()
    rows = {row["gate"]: row for row in json.loads(told.out)["rows"]}
    assert rows["run"]["passed"] and rows["feature dependencies"]["passed"] and rows["load"]["passed"] is not None
    assert rows["latency"]["passed"] is False and "latency" in told.err
    assert rows["rollback"]["measured"] == "there is no other run" and rows["coverage"]["passed"] is not None
