"""Features of training rows are the same to the bit however many are made at once."""

import numpy as np
import pytest
from feature_worlds import make_world

from recsys_cli.features import evaluate
from recsys_cli.features.build import build_table
from recsys_cli.features.families import similarity
from recsys_cli.testing.small_world import similarity as scores


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_few_rows_at_once_give_what_all_at_once_give(monkeypatch, rows):
    spec, catalogue, log, edges = make_world(5)
    whole = build_table(spec, catalogue, log, None, edges, edges, scores).values
    for module, name in (
        (evaluate, "_ROWS_AT_ONCE"), (evaluate, "_COUNTED_AT_ONCE"), (similarity, "_PAIRS_AT_ONCE"),
    ):
        monkeypatch.setattr(module, name, rows)
    assert np.array_equal(build_table(spec, catalogue, log, None, edges, edges, scores).values, whole)
