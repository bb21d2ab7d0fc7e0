"""The weighted sum of the sources' standardised scores: how it is judged, learned, kept and followed."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.config import resolve
from recsys_cli.features.table import FeatureTable
from recsys_cli.pipeline.config import OrderConfig, PipelineConfig
from recsys_cli.pipeline.order import WEIGHTED, Order
from recsys_cli.pipeline.order_scores import by_sources, resolve_order
from recsys_cli.pipeline.request_features import STANDARD, WEIGHTED_SCORE
from recsys_cli.pipeline.request_rows import TAKEN, RequestRows
from recsys_cli.pipeline.weighted_fusion import (
    FEWEST_REQUESTS,
    _Requests,
    _side_by_side,
    learn_fusion,
    weighted,
    with_fusion,
)
from recsys_cli.settings import Settings


def rows(scores, taken, request, weight=None):
    """Rows of requests; scores: source → float[n], taken: bool[n], request: int[n] of each row."""
    names = (*(STANDARD + name for name in scores), WEIGHTED_SCORE)
    values = np.stack([*scores.values(), np.zeros(len(taken))], axis=1).astype(np.float32)
    n = len(taken)
    table = FeatureTable(
        values, names, {}, {TAKEN: np.array(taken, bool)}, None, np.zeros(n, np.int32), np.arange(n, dtype=np.int32),
        np.zeros(n, np.int64), weight=np.ones(n, np.float32) if weight is None else np.array(weight, np.float32),
        request=np.array(request, np.int64),
    )
    return RequestRows(table, table.request, int(sum(taken)), int(sum(taken)))


def planted(seed=0, requests=200, width=20):
    """Requests in which `good` knows what is taken, `other` knows a half of it apart, and `noise` nothing."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, requests, width))
    best = np.argsort(-(first + 0.5 * second), axis=1)[:, :3]
    taken = np.zeros((requests, width), bool)
    np.put_along_axis(taken, best, True, axis=1)
    noise = rng.normal(size=(requests, width))
    request = np.repeat(np.arange(requests), width)
    return rows({"good": first.ravel(), "other": second.ravel(), "noise": noise.ravel()}, taken.ravel(), request)


# --- the figure -------------------------------------------------------------------------------------------


def test_a_drawn_row_pushes_what_is_below_it_down_by_all_it_stands_for():
    # taken at the top, a row that stands for 3 left ones, taken again at the fifth place
    asked = _Requests(
        np.zeros((1, 1, 3), np.float32), np.array([[True, False, True]]), np.array([[1, 3, 1]], np.float32),
        np.array([1 + 1 / np.log2(3)]),
    )
    order = np.array([[3.0, 2.0, 1.0]], np.float32)
    assert asked.ndcg(order) == pytest.approx((1 + 1 / np.log2(6)) / (1 + 1 / np.log2(3)))
    # in the other order the second stands at the fifth place as well: both taken ones change their parts
    assert asked.ndcg(-order) == pytest.approx((1 + 1 / np.log2(6)) / (1 + 1 / np.log2(3)))
    # behind ten that one row stands for, nothing is within the list
    heavy = _Requests(asked.scores, asked.taken, np.array([[1, 9, 1]], np.float32), asked.ideal)
    assert heavy.ndcg(order) == pytest.approx(1 / (1 + 1 / np.log2(3)))


def test_requests_of_other_lengths_stand_side_by_side_and_fillers_never_rank():
    request = np.concatenate([np.repeat(np.arange(FEWEST_REQUESTS), 2), [FEWEST_REQUESTS - 1] * 10])
    taken = np.zeros(len(request), bool)
    taken[1 : 2 * FEWEST_REQUESTS : 2] = True
    # what was taken has the better score, and below nothing: a filler would stand above it
    scores = np.where(taken, -1.0, -2.0)
    asked = _side_by_side(rows({"a": scores}, taken, request), ["a"])
    assert asked.taken.shape == (FEWEST_REQUESTS, 12) and asked.taken.sum() == FEWEST_REQUESTS
    assert asked.ndcg(asked.scores[0]) == pytest.approx(1.0)
    assert asked.ndcg(-asked.scores[0]) < 0.5


def test_requests_in_which_nothing_was_taken_tell_nothing():
    found = planted()
    empty = rows({"good": [1.0], "other": [0.0], "noise": [0.0]}, [False], [10_000])
    from recsys_cli.pipeline.request_rows import joined

    assert learn_fusion(joined(found, empty), ("good", "other", "noise")) == learn_fusion(
        found, ("good", "other", "noise")
    )


# --- learning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_what_tells_is_weighed_by_how_much_and_what_tells_nothing_is_left_out(seed):
    found = learn_fusion(planted(seed), ("good", "other", "noise"))
    assert sum(found.values()) == pytest.approx(1.0)
    # they were made of one part of the first and half a part of the second
    assert found["good"] == pytest.approx(2 / 3, abs=0.1) and found["other"] == pytest.approx(1 / 3, abs=0.1)
    assert found.get("noise", 0.0) < 0.05


def test_a_single_source_has_all_the_weight():
    assert learn_fusion(planted(), ("good",)) == {"good": 1.0}


def test_equal_rows_give_equal_weights():
    names = ("good", "other", "noise")
    assert learn_fusion(planted(4), names) == learn_fusion(planted(4), names)


def test_sources_that_the_rows_do_not_know_are_left_out():
    assert "absent" not in learn_fusion(planted(), ("absent", "good", "other"))
    assert learn_fusion(planted(), ("absent",)) == {} == learn_fusion(planted(), ())


def test_too_few_requests_give_no_weights():
    names = ("good", "other", "noise")
    assert learn_fusion(planted(requests=FEWEST_REQUESTS - 1), names) == {}
    assert learn_fusion(planted(requests=FEWEST_REQUESTS), names)
    nothing = planted()
    nothing.table.labels[TAKEN][:] = False
    assert learn_fusion(nothing, names) == {}


def test_the_weighted_sum_becomes_a_feature_of_the_rows():
    found = rows({"a": [1.0, 2.0], "b": [10.0, -10.0]}, [True, False], [0, 0])
    out = with_fusion(found, {"a": 0.75, "b": 0.25})
    np.testing.assert_allclose(out.table.values[:, -1], [0.75 + 2.5, 1.5 - 2.5])
    # of no weights the feature says nothing
    np.testing.assert_array_equal(with_fusion(found, {}).table.values[:, -1], 0)


def test_a_source_that_stepped_aside_since_leaves_its_part_out():
    found = weighted({"a": np.array([[1.0, 2.0]], np.float32)}, {"a": 0.5, "gone": 0.5}, (1, 2))
    np.testing.assert_allclose(found, [[0.5, 1.0]])


# --- as an order ------------------------------------------------------------------------------------------


def bundle(**more):
    retrievers = {name: SimpleNamespace(learns=True) for name in ("als", "popularity")}
    defaults = {
        "order": Order("popularity", "popularity"), "light": None, "relevance": None, "heavy": None,
        "configured": tuple(retrievers), "retrievers": retrievers, "fusion": {"als": 1.0},
    }
    return SimpleNamespace(**{**defaults, **more})


def test_a_configuration_file_names_the_weighted_fusion_as_the_order(tmp_path):
    (tmp_path / "own.yaml").write_text("pipeline:\n  order: {known: weighted_fusion}\n")
    config = resolve(Settings, file=tmp_path / "own.yaml").config.pipeline
    order = resolve_order(config, bundle())
    assert (order.known, order.new) == (WEIGHTED, "popularity")
    assert order.of_requests and not order.ranked


def test_without_weights_the_even_fusion_takes_its_place():
    config = PipelineConfig(order=OrderConfig(known=WEIGHTED))
    assert resolve_order(config, bundle(fusion={})).known == "fusion"


def test_the_order_is_that_of_the_weighted_sum(make):
    candidates = make.candidates([[4, 5, 6]], rrf=[[0.3, 0.2, 0.1]], z_weighted=[[-1.0, 0.5, 0.2]])
    scores = by_sources(candidates, WEIGHTED)
    assert candidates.items[0, np.argsort(-scores[0])].tolist() == [5, 6, 4]
