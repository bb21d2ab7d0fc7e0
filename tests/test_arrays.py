"""Array files give back what went in, and say so where they cannot."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys_cli import arrays as arrays_module
from recsys_cli.arrays import (
    count_in_rows,
    distinct,
    find_rows,
    find_sorted,
    in_rows,
    load_arrays,
    quantile,
    save_arrays,
)
from recsys_cli.errors import ArtifactError

ARRAYS = st.dictionaries(
    st.text(min_size=1, max_size=8),
    hnp.arrays(
        dtype=st.sampled_from(["<i4", "<i8", "<f4", "<f8", "|b1", "|u1", "|S5"]),
        shape=hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(arrays=ARRAYS)
def test_arrays_come_back_as_they_were(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("arrays") / "x.bin"
    save_arrays(path, arrays, {"note": [1, "two"]})
    loaded, meta = load_arrays(path)
    assert meta == {"note": [1, "two"]}
    assert list(loaded) == list(arrays)
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    save_arrays(path, {"a": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match="truncated"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"RSARR001" + b"\xff" * 8])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(ArtifactError):
        load_arrays(path)


def test_loaded_arrays_cannot_be_written(tmp_path):
    path = tmp_path / "x.bin"
    save_arrays(path, {"a": np.arange(3)})
    with pytest.raises(ValueError):
        load_arrays(path)[0]["a"][0] = 1


@pytest.fixture(params=[2**22, 40], ids=["all at once", "a row at a time"])
def cells(request, monkeypatch):
    """How many cells of the table there are."""
    monkeypatch.setattr(arrays_module, "CELLS", request.param)


@pytest.mark.usefixtures("cells")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_a_table_finds_the_keys_that_a_search_finds(seed):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 30))
    held = np.unique(rng.integers(0, 8 * width, int(rng.integers(0, 90))))
    first, codes = rng.integers(-1, 9, 5), rng.integers(-1, width, (5, 3, 2))
    keys = np.where((first[:, None, None] >= 0) & (codes >= 0), first[:, None, None] * width + codes, -1)
    expected = find_sorted(held, keys)
    np.testing.assert_array_equal(find_rows(held, first, width, codes), np.where(expected < len(held), expected, -1))
    shared = find_rows(held, first, width, codes[:1])
    np.testing.assert_array_equal(shared, find_rows(held, first, width, np.repeat(codes[:1], 5, axis=0)))


@pytest.mark.usefixtures("cells")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_numbers_are_found_and_counted_in_the_rows_that_hold_them(seed):
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, 25, int(rng.integers(0, 9))) for _ in range(6)]
    offsets = np.cumsum([0, *map(len, lists)])
    rows, wanted = rng.integers(-1, 6, 7), rng.integers(-1, int(rng.integers(1, 40)), (7, 20))
    expected = [[r >= 0 and w in lists[r].tolist() for w in row] for r, row in zip(rows, wanted, strict=True)]
    np.testing.assert_array_equal(in_rows(offsets, np.concatenate(lists), rows, wanted), expected)
    of = np.repeat(np.arange(6), [len(held) for held in lists])
    counts = count_in_rows(of, np.concatenate(lists), wanted[:6])
    np.testing.assert_array_equal(
        counts, [[lists[r].tolist().count(w) for w in row] for r, row in enumerate(wanted[:6])]
    )


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_one_row_alone_is_looked_up_as_among_others(seed):
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, 30))
    held = np.unique(rng.integers(0, 6 * width, int(rng.integers(0, 90))))
    first, codes = rng.integers(-1, 7, 2), rng.integers(-1, width, (2, 9))
    lists = [rng.integers(0, 40, int(rng.integers(0, 9))) for _ in range(6)]
    offsets, rows, wanted = np.cumsum([0, *map(len, lists)]), rng.integers(-1, 6, 2), rng.integers(-1, 50, (2, 9))
    for one in (slice(0, 1), slice(1, 2)):
        alone, among = find_rows(held, first[one], width, codes[one]), find_rows(held, first, width, codes)
        np.testing.assert_array_equal(alone, among[one])
        alone, among = (in_rows(offsets, np.concatenate(lists), rows[r], wanted[r]) for r in (one, slice(2)))
        np.testing.assert_array_equal(alone, among[one])


def test_the_table_is_left_empty_where_a_look_up_fails():
    with ThreadPoolExecutor(1) as alone:  # whose table is new, and no larger than it needs
        with pytest.raises(IndexError):
            alone.submit(find_rows, np.arange(50), np.array([0, 1]), 10, np.full((2, 3), 10**9)).result()
        absent = np.array([[0, 1, 2], [3, 4, -1]])
        found = alone.submit(find_rows, np.zeros(0, np.int64), np.array([0, 1]), 10, absent).result()
    assert (found == -1).all()


@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=50), st.floats(0, 1))
def test_different_numbers_and_quantiles_are_those_of_numpy(values, share):
    values = np.array(values)
    np.testing.assert_array_equal(distinct(values), np.unique(values))
    assert quantile(values, share) == np.quantile(values, share)
