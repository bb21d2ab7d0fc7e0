"""What every heavy ranker promises, whichever its kind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.features.table import FeatureTable
from recsys_cli.metrics import roc_auc
from recsys_cli.ranking.heavy_config import HeavyConfig
from recsys_cli.ranking.kind import RankerKind
from recsys_cli.ranking.registry import RANKERS, load_ranker
from recsys_cli.ranking.serving.served import ServedRanker
from recsys_cli.ranking.trained import TrainedRanker
from recsys_cli.testing.ranker_tables import make_table
from recsys_cli.testing.refusal import must_refuse

CLOSE = 1e-5
"""By how much a probability may differ between training and serving."""
LIBRARIES = ("torch", "sklearn", "lightgbm", "polars", "onnx")
"""Libraries of training, which serving does without."""


def check_ranker(kind: RankerKind, config: HeavyConfig | None = None) -> None:
    """Fit, save, restore, export and serve a ranker on a small table; AssertionError names the promise that it breaks.

    kind: an entry as it stands in the registry. config: settings with which a fit takes seconds, by default those of
    the kind. The rows have numbers of many scales, one category and actions that follow from them.
    """
    from recsys_cli.ranking.trainer import fit_heavy  # brings torch, which whoever checks a source may do without

    config = kind.config() if config is None else config
    _check_settings(kind, config)
    train, valid, rows = _requests(600, 0), _requests(300, 1), _requests(200, 2)
    before = train.values.copy()
    ranker = fit_heavy(config, train, valid, seed=1, threads=1, kind=kind)
    assert np.array_equal(before, train.values), "a fit leaves the training rows as they are"
    _check_predictions(ranker, train, rows)
    again = fit_heavy(config, train, valid, seed=1, threads=1, kind=kind)
    _check_equal(again, ranker, rows, 0, "the same seed and rows give the same ranker")
    with tempfile.TemporaryDirectory() as name:
        folder, checkpoint = Path(name) / "served", Path(name) / "heavy.pt"
        save_checkpoint(checkpoint, ranker.checkpoint())
        content = load_checkpoint(checkpoint)
        _check_equal(kind.restore(config, content), ranker, rows, 0, "a checkpoint restores the same ranker")
        must_refuse(ArtifactError, kind.restore, config, {"weights": 1}, what="the checkpoint of something else")
        folder.mkdir()
        ranker.export(folder)
        _check_served(kind, ranker, folder, rows)
    _check_refusals(fit_heavy, kind, config, train, valid)


def _requests(n: int, seed: int) -> FeatureTable:
    """n rows of `make_table`, five of which are one request each."""
    table, request = make_table(n, seed=seed), np.arange(n) // 5
    return replace(table, user=table.user[request * 5], time=table.time[request * 5], request=request)


def _check_settings(kind: RankerKind, config: HeavyConfig) -> None:
    assert isinstance(config, kind.config) and isinstance(config, HeavyConfig), "settings are those of the kind"
    assert kind.config.model_fields["kind"].default == config.kind, "the name of the kind is the default of `kind`"
    told = config.model_dump(mode="json")
    assert kind.config.model_validate(told) == config, "settings come back from what is written of them"


def _check_predictions(ranker: TrainedRanker, train: FeatureTable, rows: FeatureTable) -> None:
    assert ranker.names == train.names, "names are the features in the order of their columns"
    assert ranker.tasks == ("click", "like", "hide"), "tasks are those it was given: an action nobody did has no head"
    logits, mean, log_variance = ranker.logits(rows.values, rows.entities)
    assert logits.shape == (len(rows), len(ranker.tasks)), "logits are [n, T]"
    assert mean.shape == log_variance.shape == (len(rows),), "mean and log-variance of dwell time are [n]"
    assert np.isfinite(logits).all(), "logits are finite"
    _check_columns(ranker, ranker.predict(rows.values, rows.entities), len(rows))
    auc = roc_auc(train.labels["click"], ranker.predict(train.values, train.entities)["click"])
    assert auc > 0.6, f"it learns something of the rows that it was fitted on (ROC-AUC of click {auc:.3f})"


def _check_columns(ranker: TrainedRanker | ServedRanker, predicted: dict[str, np.ndarray], n: int) -> None:
    heads = {*ranker.tasks, *(("dwell",) if ranker.dwell else ())}
    assert set(predicted) == heads, f"it predicts {sorted(heads)}, not {sorted(predicted)}"
    for task, column in predicted.items():
        assert column.shape == (n,) and column.dtype == np.float32, f"{task} is float32[n]"
        assert np.isfinite(column).all() and (column >= 0).all(), f"{task} is finite and not negative"
        assert task == "dwell" or (column <= 1).all(), f"{task} is a probability"


def _check_equal(
    one: TrainedRanker | ServedRanker, other: TrainedRanker, rows: FeatureTable, tolerance: float, promise: str
) -> None:
    assert (one.names, one.tasks, one.dwell) == (other.names, other.tasks, other.dwell), promise
    found, expected = (r.predict(rows.values, rows.entities) for r in (one, other))
    for task, column in expected.items():
        size = np.maximum(np.abs(column), 1)  # seconds differ by shares
        assert (np.abs(found[task] - column) / size).max() <= tolerance, f"{promise}: {task} differs"


def _check_served(kind: RankerKind, ranker: TrainedRanker, folder: Path, rows: FeatureTable) -> None:
    served = kind.serve(folder, 1)
    assert served.kind == ranker.config.kind, "the served form tells its kind"
    _check_equal(served, ranker, rows, CLOSE, "it serves what it learned")
    for n in (0, 1):
        some = rows.take(slice(0, n))
        _check_columns(served, served.predict(some.values, some.entities), n)
    alone, together = (served.predict(r.values, r.entities) for r in (rows.take(slice(7, 8)), rows))
    for task in alone:
        assert abs(alone[task][0] - together[task][7]) <= CLOSE * max(1, abs(together[task][7])), (
            f"{task} of a row does not depend on the rows beside it"
        )
    must_refuse(DataError, served.predict, rows.values[:, 1:], rows.entities, what="too few features")
    if RANKERS.get(ranker.config.kind) is kind:
        _check_without_training_libraries(folder, served)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        must_refuse(ArtifactError, kind.serve, folder, 1, what=f"half of {path.name}")
        path.unlink()
        must_refuse(ArtifactError, kind.serve, folder, 1, what=f"a folder without {path.name}")
        path.write_bytes(content)


def _check_without_training_libraries(folder: Path, served: ServedRanker) -> None:
    if served.side is not None:  # it would need entities, which bring nothing more
        return
    program = (
        "import sys, numpy; from recsys_cli.ranking.registry import load_ranker; "
        f"r = load_ranker({str(folder)!r}); r.predict(numpy.zeros((2, len(r.names)), 'f4')); "
        f"print(*[m for m in {LIBRARIES} if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)  # noqa: S603 - this very program
    assert done.returncode == 0, f"it serves in a fresh process: {done.stderr[-500:]}"
    assert not done.stdout.split(), f"serving does without {done.stdout.strip()}"
    assert isinstance(load_ranker(folder), type(served)), "the registry serves it as it serves itself"


def _check_refusals(
    fit: Callable, kind: RankerKind, config: HeavyConfig, train: FeatureTable, valid: FeatureTable
) -> None:
    nan = train.take(slice(None))
    nan = replace(nan, values=nan.values.copy())
    nan.values[3, 1] = np.nan
    nobody = replace(train, labels={task: np.zeros(len(train), bool) for task in train.labels})
    for table, what in ((nan, "a feature that is NaN"), (nobody, "rows in which nobody did anything")):
        must_refuse(DataError, fit, config, table, valid, seed=1, kind=kind, what=what)
