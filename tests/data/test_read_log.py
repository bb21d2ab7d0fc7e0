"""The log of a dataset is the same however few rows are read at once, and is read in bounded memory."""

import subprocess
import sys
from dataclasses import fields

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.read_log import order_of, read_log
from recsys_cli.errors import DataError


def rows(n: int, seed: int = 0, *, texts: bool) -> pl.DataFrame:
    """Impressions in no order of time, many of one moment, with every column that a log has."""
    rng = np.random.default_rng(seed)
    request = rng.integers(0, n // 3, n)
    some = rng.random(n) < 0.1
    frame = pl.DataFrame({
        "user_id": rng.integers(0, 7, n), "item_id": rng.integers(0, 11, n),
        "timestamp": pl.Series(10**15 + 10**6 * rng.integers(0, n // 2, n)).cast(pl.Datetime("us", "UTC")),
        "position": pl.Series(rng.integers(0, 9, n), dtype=pl.Int32).zip_with(pl.Series(~some), pl.Series([None] * n)),
        "surface": rng.choice(["feed", "search", "profile"], n), "device": rng.choice(["ios", "web"], n),
        "request_id": request, "session_id": request // 2, "propensity": rng.random(n, np.float32),
        "like": rng.random(n) < 0.4, "hide": rng.random(n) < 0.1, "dwell_seconds": rng.random(n, np.float32),
        "battery": rng.random(n), "app": rng.choice(["old", "new", "beta"], n),
    })
    if texts:
        spelt = pl.col("request_id").cast(pl.String)
        frame = frame.with_columns(
            request_id=pl.when(pl.Series(~some)).then(spelt), user_id=pl.format("u{}", "user_id")
        )
    return frame


def dataset(path, frame: pl.DataFrame) -> Dataset:
    return Dataset.from_frames(path, {"impressions": frame}, {"like": "positive", "hide": "negative"})


@pytest.mark.parametrize("texts", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_the_log_does_not_depend_on_how_many_rows_are_read_at_once(tmp_path, batch, texts):
    data = dataset(tmp_path / "d", rows(200, texts=texts))
    frame = data.table("impressions")
    frame = frame.with_columns(_user=pl.Series(data.user_ids.positions(frame["user_id"].to_numpy())))
    frame = frame.sort(["timestamp", "_user"], maintain_order=True)
    log = read_log(data, batch)
    assert np.array_equal(log.user, frame["_user"].to_numpy())
    assert np.array_equal(log.item, data.item_ids.positions(frame["item_id"].to_numpy()))
    assert np.array_equal(log.time, frame["timestamp"].dt.epoch("us").to_numpy())
    assert np.array_equal(log.actions["like"], frame["like"].to_numpy())
    assert np.array_equal(log.dwell, frame["dwell_seconds"].to_numpy())
    assert np.array_equal(log.position, frame["position"].fill_null(-1).to_numpy())
    named = np.array(data.categories["surface"])[log.surface]
    assert named.tolist() == frame["surface"].to_list()
    request = frame["request_id"]
    expected = request.rank("dense").cast(pl.Int64).fill_null(-1) if texts else request
    assert np.array_equal(log.request, expected.to_numpy())
    assert np.array_equal(log.context["battery"], frame["battery"].cast(pl.Float32).to_numpy())
    assert np.array(data.categories["impression.app"])[log.context["app"]].tolist() == frame["app"].to_list()
    whole = data.log
    for field in fields(whole):
        mine, other = getattr(log, field.name), getattr(whole, field.name)
        if isinstance(other, np.ndarray):
            assert mine.dtype == other.dtype and np.array_equal(mine, other, equal_nan=other.dtype.kind == "f")


def test_rows_are_put_in_order_only_where_they_are_not():
    assert order_of(np.array([1, 2, 2, 3]), np.array([5, 1, 1, 0])) is None
    assert order_of(np.array([1, 2, 2, 3]), np.array([5, 2, 1, 0])).tolist() == [0, 2, 1, 3]
    assert order_of(np.array([3, 1, 1, 1]), np.array([0, 4, 2, 4])).tolist() == [2, 1, 3, 0]
    assert order_of(np.zeros(0, np.int64), np.zeros(0, np.int32)) is None


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_the_place_of_an_unknown_item_is_that_in_the_file(tmp_path, batch):
    data = dataset(tmp_path / "d", rows(30, texts=False))
    frame = data.table("impressions").with_columns(
        item_id=pl.when(pl.int_range(pl.len()) >= 21).then(pl.lit(77)).otherwise("item_id")
    )
    frame.write_parquet(tmp_path / "d" / "impressions.parquet")
    with pytest.raises(DataError, match=r"row 22: item_id 77 is not in items\.parquet"):
        read_log(Dataset.open(tmp_path / "d"), batch)


PEAK = """
import re, sys
from recsys_cli.data.dataset import Dataset

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

data = Dataset.open(sys.argv[1])
data.user_ids, data.item_ids, next(data.batches("impressions"))
before = peak()
log = data.log
columns = [v for v in (*vars(log).values(), *log.actions.values(), *log.context.values()) if hasattr(v, "nbytes")]
print(peak() - before, sum(v.nbytes for v in columns))
"""


def test_beside_the_log_only_a_column_of_it_stands_in_memory(tmp_path):
    dataset(tmp_path / "d", rows(600_000, texts=False))
    told = subprocess.run([sys.executable, "-c", PEAK, str(tmp_path / "d")], capture_output=True, text=True)
    assert not told.returncode, told.stderr
    took, log = map(int, told.stdout.split())
    assert took < log + 24 * 600_000 + 64 * 2**20  # a column of 8 bytes twice, the order, and a batch
