"""Experiment files: overrides of the pipeline, checked as the configuration is."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_cli.errors import ConfigError
from recsys_cli.experiments.config import load_experiment
from recsys_cli.pipeline.config import PipelineConfig

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "configs" / "experiments").glob("*.yaml"))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_experiments_load(path):
    loaded = load_experiment(path, PipelineConfig())
    assert (loaded.control == loaded.treatment) == (path.stem == "aa")


def test_arms_lie_over_the_configured_pipeline(tmp_path):
    base = PipelineConfig(slate_size=7)
    text = "name: e\ntreatment:\n  exploration: {epsilon: 0.3}\n  utility: {weights: {click: 9}}\n"
    loaded = load_experiment(write(tmp_path, text), base)
    assert loaded.control == base
    assert loaded.treatment.slate_size == 7 and loaded.treatment.exploration.epsilon == 0.3
    assert loaded.treatment.utility.weights == base.utility.weights | {"click": 9}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "name: e\ntreatment:\n  diversity:\n    max_per_autor: 1\n",
            "line 4: unknown key 'treatment.diversity.max_per_autor'",
            "did you mean 'max_per_author'?",
        ),
        ("name: e\ntreatmnt: {}\n", "line 2: unknown key 'treatmnt'", "did you mean 'treatment'?"),
        ("name: e\ncontrol:\n  exploration: {epsilon: 3}\n", "control.exploration.epsilon", None),
        ("name: e\nmetrics: [ctrr]\n", "did you mean 'ctr'?", None),
        ("name: e\nmetrics: [ctr]\nprimary: dwell\n", "primary 'dwell' is none of the metrics ctr", None),
        ("name: e\nmetrics: [ctr, ctr]\n", "the same name", None),
        ("name: e\ntreatment: {slate_size: 10}\n", "same pipeline", None),
        ("treatment: {slate_size: 5}\n", "name", None),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, text, message, hint):
    with pytest.raises(ConfigError) as error:
        load_experiment(write(tmp_path, text), PipelineConfig())
    assert message in error.value.message
    assert hint is None or error.value.hint == hint


def test_days_of_the_command_line_win(tmp_path):
    assert load_experiment(write(tmp_path, "name: e\ndays: 3\n"), PipelineConfig(), 9).config.days == 9
