"""Products of vectors: what they are, and that company changes nothing."""

import numpy as np
import pytest

from recsys_cli.retrieval.vectors.products import product


@pytest.mark.parametrize(("rows", "width", "columns"), [(0, 8, 5), (3, 8, 0), (0, 8, 0), (1, 0, 4)])
def test_nothing_times_anything_is_nothing_of_the_right_shape(rows, width, columns):
    out = product(np.ones((rows, width), np.float32), np.ones((width, columns), np.float32))
    assert out.shape == (rows, columns) and not out.any()


@pytest.mark.parametrize(("width", "columns"), [(1, 1), (16, 3), (64, 400), (128, 5000)])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 12, 50, 301])
def test_a_row_alone_has_the_same_bits_as_among_others(rows, width, columns):
    rng = np.random.default_rng(rows)
    left, right = rng.standard_normal((rows, width), np.float32), rng.standard_normal((width, columns), np.float32)
    out = product(left, right)
    np.testing.assert_allclose(out, left.astype(float) @ right, atol=1e-4)
    for at in {0, rows // 2, rows - 1}:
        np.testing.assert_array_equal(product(left[at : at + 1], right)[0], out[at])
