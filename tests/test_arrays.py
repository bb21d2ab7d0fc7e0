"""Array files give back what went in, and say so where they cannot."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recsys_cli.arrays import load_arrays, save_arrays
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
