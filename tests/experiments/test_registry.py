"""Experiments under way: frozen, logged, assigned and decided, from programs and by their files."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from recsys_cli.errors import ArtifactError, ConfigError, DataError
from recsys_cli.experiments import assign, create_experiment, get_experiment_results, record
from recsys_cli.experiments.assignment import assign as split
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.registry import ExperimentRegistry, variants_of

SALES = {"name": "sales", "metrics": [{"name": "sold", "numerator": "sold"}], "min_users": 10}


def config(**more) -> ExperimentConfig:
    return ExperimentConfig.model_validate(SALES | more)


def test_an_experiment_lives_from_its_start_to_its_decision(tmp_path):
    place = {"artifacts": tmp_path}
    create_experiment(SALES, **place)
    variants = assign("sales", list(range(60)), **place)
    assert set(variants) == {"control", "treatment"} and assign("sales", 7, **place) == variants[7]
    rng = np.random.default_rng(0)
    for user, variant in enumerate(variants):
        record("sales", user, exposed=True, **place)
        record("sales", user, sold=float(rng.normal(10 + 5 * (variant == "treatment"))), **place)
    found = get_experiment_results("sales", **place)
    assert found["decision"]["outcome"] == "keep_running" and found["users"]["control"] == variants.count("control")
    assert found["metrics"][0]["difference"]["value"] == pytest.approx(5, abs=1.5)
    assert [d["what"] for d in found["decisions"]] == ["start", "decision"]
    assert len(get_experiment_results("sales", **place)["decisions"]) == 2  # the same decision is noted once
    with pytest.raises(DataError, match="in no variant"):
        record("sales", 1, variant="other", **place)
    ExperimentRegistry(tmp_path).stop("sales", "seen enough")
    assert get_experiment_results("sales", **place)["state"] == "stopped"


def test_a_started_experiment_is_frozen(tmp_path):
    registry = ExperimentRegistry(tmp_path)
    registry.start(config())
    with pytest.raises(ConfigError, match="is running already"):
        registry.start(config())
    with pytest.raises(ConfigError, match="the file has changed since") as error:
        registry.start(config(alpha=0.1))
    assert error.value.hint.endswith("a new one is version 2")
    with pytest.raises(ConfigError, match="version 1 is running"):
        registry.start(config(version=2))
    registry.stop("sales")
    with pytest.raises(ArtifactError, match="was stopped on"):
        registry.stop("sales")
    registry.start(config(version=2, alpha=0.1))
    assert registry.open("sales").config.version == 2 and registry.open("sales", 1).state == "stopped"
    ids = range(2000)
    one, two = (split(ids, c.key, (1, 1)) for c in (config(), config(version=2)))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.08


def test_a_changed_file_of_a_running_experiment_is_refused(tmp_path):
    started = ExperimentRegistry(tmp_path).start(config())
    frozen = started.folder / "experiment.json"
    content = json.loads(frozen.read_text())
    content["experiment"]["alpha"] = 0.4
    frozen.write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match="was changed since the experiment started"):
        ExperimentRegistry(tmp_path).open("sales")
    frozen.write_text("{")
    with pytest.raises(ArtifactError, match="cannot be read"):
        ExperimentRegistry(tmp_path).all()
    with pytest.raises(ArtifactError, match="no experiment 'sale'") as error:
        ExperimentRegistry(tmp_path).open("sale")
    assert error.value.hint == "did you mean 'sales'?"


def test_experiments_of_one_layer_never_meet(tmp_path):
    registry = ExperimentRegistry(tmp_path)
    registry.start(config(name="a", layer={"name": "feed", "end": 0.5}))
    with pytest.raises(ConfigError, match=r"places 0.4 to 1 of layer feed overlap those of a, 0 to 0.5"):
        registry.start(config(name="b", layer={"name": "feed", "start": 0.4}))
    registry.start(config(name="b", layer={"name": "feed", "start": 0.5}))
    registry.start(config(name="c", layer={"name": "mail"}))
    served = variants_of(registry.running(), range(4000))
    a, b, c = (np.array([v is not None for v in served[n]]) for n in "abc")
    assert not (a & b).any() and (a | b).all() and c.all() and 0.46 < a.mean() < 0.54


def test_a_log_of_others_counts_from_the_start_on(tmp_path):
    registry = ExperimentRegistry(tmp_path)
    begun = datetime.now(UTC)
    rows = [
        {"user_id": f"u{i}", "variant": ("control", "treatment")[i % 2], "sold": float(i % 7),
         "timestamp": begun + timedelta(seconds=60 if i >= 10 else -3600)}
        for i in range(70)
    ]
    path = tmp_path / "log.parquet"
    pl.DataFrame(rows).write_parquet(path)
    registry.start(config(), path)
    found = get_experiment_results("sales", artifacts=tmp_path)
    assert found["left_out"] == {"before the experiment started": 10} and sum(found["users"].values()) == 60


def test_nothing_recorded_is_said(tmp_path):
    create_experiment(SALES, tmp_path)
    with pytest.raises(DataError, match="nothing was recorded for sales yet"):
        get_experiment_results("sales", artifacts=tmp_path)
    with pytest.raises(ConfigError, match="unknown key 'metric'"):
        create_experiment({"name": "x", "metric": []}, tmp_path)
