"""Rankers on the impressions of a log: the protocol as a process, and what the file may say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys_cli.benchmark.config import BenchmarkConfig
from recsys_cli.config import read_yaml, validate
from recsys_cli.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
FILE = """
name: little
title: A little feed
protocol: {kind: impressions, mapping: MAPPING, settings: little.settings.yaml, actions: [click, like]}
rankers:
  trees: {kind: lightgbm, rounds: 20, dwell: false}
  network: {kind: shared_bottom, hidden: [16], epochs: 1, min_steps: 0}
  stages: {kind: esmm, first: nap}
published:
  - {method: Theirs, figures: {click: 0.76, "click, surface 1": 0.71}, source: "Somebody, 2020"}
"""


def test_models_must_fit_the_protocol():
    shipped = read_yaml(ROOT / "configs/benchmarks/kuairand_multitask.yaml")
    assert set(validate(BenchmarkConfig, shipped).contenders) >= {"lightgbm", "lambdamart", "dcn_v2", "masknet"}
    with pytest.raises(ConfigError, match="impressions needs rankers"):
        validate(BenchmarkConfig, shipped | {"models": {"als": {"kind": "als"}}})
    with pytest.raises(ConfigError, match="held_out needs models"):
        validate(BenchmarkConfig, shipped | {"protocol": {"kind": "held_out"}})


@pytest.mark.shared_data
def test_every_ranker_stands_beside_what_was_published(kuairand_slice, tmp_path):
    (tmp_path / "little.yaml").write_text(FILE.replace("MAPPING", str(ROOT / "configs/import/kuairand.yaml")))
    settings = (ROOT / "configs/kuairand.yaml").read_text().split("ranking:")[0]
    more = "retrieval:\n  two_tower: {enabled: false}\n  als: {dim: 8, epochs: 2}\n"
    (tmp_path / "little.settings.yaml").write_text(settings + more)

    def run(*more):
        return subprocess.run(
            [sys.executable, "-m", "recsys_cli", "benchmark", "little.yaml", "--from", str(kuairand_slice), "--quiet",
             "--threads", "1", *more],
            cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "100"},
        )

    done = run()
    assert done.returncode == 1 and "1 of 3 models failed: stages" in done.stderr, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 100
    (kept,) = (tmp_path / "artifacts/benchmarks").glob("*/result.json")
    document = json.loads(kept.read_text())
    assert [m["name"] for m in document["models"]] == ["trees", "network", "stages"]
    assert "'nap', which has no head" in document["models"].pop()["error"]
    assert "stages failed: ranking.heavy: esmm names 'nap'" in done.stdout
    for model in document["models"]:
        assert 0.6 < model["figures"]["click"] < 0.9 and 0 < model["figures"]["click ECE"] < 0.2
        assert model["figures"]["click, surface 1"] != model["figures"]["click"] and model["serve_ms"] > 0
        low, high = model["intervals"]["click"]
        assert low < model["figures"]["click"] < high
    table = done.stdout
    assert "Theirs" in table and "Surface 1" in table and "Without exact repeats" in table
