"""The served ranker gives what the trained one gives, fast, without torch."""

import subprocess
import sys
import time

import numpy as np
import orjson
import pytest

from recsys_cli.errors import ArtifactError, DataError
from recsys_cli.ranking.calibration import Calibration
from recsys_cli.ranking.networks.kinds import MmoeConfig, SharedBottomConfig
from recsys_cli.ranking.registry import load_ranker
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.testing.ranker_tables import make_table


@pytest.fixture(scope="module")
def served(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    fitted[0].export(folder)
    return folder


def largest_difference(a, b):
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max() / max(1, np.abs(a[k]).max())) for k in a)


@pytest.mark.parametrize(
    "config",
    [
        SharedBottomConfig(hidden=[16], epochs=2, min_steps=0, head=8, calibration="isotonic"),
        SharedBottomConfig(hidden=[16, 8], epochs=2, min_steps=0, members=2, batch_norm=False, calibration="platt"),
        MmoeConfig(hidden=[16], epochs=2, min_steps=0, experts=3, calibration="temperature"),
        SharedBottomConfig(epochs=1, min_steps=0, dwell=False, calibration="none"),
    ],
    ids=["isotonic", "members", "mmoe", "no dwell"],
)
def test_torch_and_onnx_agree_to_1e_5(config, tmp_path):
    valid = make_table(700, seed=1)
    valid.values[:5] *= 1e6  # far outside what training saw
    valid.values[5, -1] = 99
    ranker = fit_heavy(config, make_table(1500), make_table(700, seed=1), seed=3)
    ranker.export(tmp_path)
    served = load_ranker(tmp_path)
    assert (served.names, served.tasks, served.dwell, served.kind) == (
        ranker.names, ranker.tasks, ranker.dwell, config.kind,
    )
    expected, found = ranker.predict(valid.values), served.predict(valid.values)
    assert largest_difference(expected, found) < 1e-5
    assert all(v.dtype == np.float32 and v.shape == (700,) for v in found.values())
    assert all(len(v) == 0 for v in served.predict(valid.values[:0]).values())


def test_a_row_scores_the_same_alone_and_in_a_batch(fitted, served):
    ranker = load_ranker(served)
    rows = fitted[1].values[:50]
    together = ranker.predict(rows)
    for i in (0, 17, 49):
        alone = ranker.predict(rows[i : i + 1])
        assert all(np.allclose(alone[k][0], together[k][i], rtol=0, atol=1e-6) for k in alone)


def test_an_isotonic_curve_is_served(fitted, tmp_path):
    ranker, valid = fitted
    before = ranker.calibration
    try:
        ranker.set_calibration(before | {"click": Calibration("isotonic", knots=[0.0, 1.0], values=[0.2, 0.4])})
        ranker.export(tmp_path)
        click = load_ranker(tmp_path).predict(valid.values)["click"]
    finally:
        ranker.set_calibration(before)
    assert 0.2 <= click.min() < click.max() <= 0.4


def test_serving_imports_neither_torch_nor_scikit_learn(served):
    code = (
        "import sys, numpy as np; from recsys_cli.ranking.registry import load_ranker; import recsys_cli.ranking.light;"
        f"r = load_ranker({str(served)!r}); r.predict(np.zeros((3, len(r.names)), np.float32));"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'polars', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_configuration_is_cheap_to_import():
    code = (
        "import sys, recsys_cli.ranking.config;"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'polars', 'numpy', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wrong_features_are_refused(served):
    ranker = load_ranker(served)
    with pytest.raises(DataError, match=r"takes \[n, 7\]"):
        ranker.predict(np.zeros((4, 6), np.float32))


@pytest.mark.parametrize("name", ["heavy.dense.bin", "heavy.onnx", "heavy.json"])
@pytest.mark.parametrize("harm", ["missing", "garbage", "truncated", "empty"])
def test_a_missing_or_damaged_file_is_an_artifact_error_that_names_it(fitted, tmp_path, name, harm):
    fitted[0].export(tmp_path, graph=name == "heavy.onnx")
    path = tmp_path / name
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes({"garbage": b"\xff\x00garbage", "truncated": content[: len(content) // 2], "empty": b""}[harm])
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        load_ranker(tmp_path)


@pytest.mark.parametrize("graph", [False, True])
def test_a_description_of_other_features_is_refused(fitted, tmp_path, graph):
    fitted[0].export(tmp_path, graph=graph)
    side = orjson.loads((tmp_path / "heavy.json").read_bytes())
    (tmp_path / "heavy.json").write_bytes(orjson.dumps(side | {"names": side["names"][:-1]}))
    with pytest.raises(ArtifactError, match="takes 7 features"):
        load_ranker(tmp_path)


@pytest.mark.slow
def test_500_candidates_of_150_features_take_2_ms_and_loading_60(tmp_path):
    train, valid = make_table(600, features=149), make_table(50, 1, features=149)
    ranker = fit_heavy(SharedBottomConfig(epochs=1, min_steps=0), train, valid, seed=0)
    ranker.export(tmp_path)
    load_ranker(tmp_path)  # the library itself is loaded once
    start = time.perf_counter()
    served = load_ranker(tmp_path)
    loading = time.perf_counter() - start
    rows = make_table(500, 2, features=149).values
    times = []
    for _ in range(50):
        start = time.perf_counter()
        served.predict(rows)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.002
    assert loading < 0.06
