"""Blend: one scale for every part, weights, and nested settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from planted import DAY, NOW, make_window, planted
from pydantic import ValidationError

from recsys_cli.progress import Progress
from recsys_cli.retrieval.blend import PARTS, Blend, BlendConfig, normalise

EVERY_PART = {
    "als": {"kind": "als", "dim": 8, "epochs": 3},
    "bpr": {"kind": "bpr", "dim": 8, "epochs": 20},
    "ease": {"kind": "ease"},
    "graph_filter": {"kind": "graph_filter", "dim": 8},
    "item_neighbours": {"kind": "item_neighbours"},
    "lightgcn": {"kind": "lightgcn", "dim": 16, "epochs": 3, "batch_size": 512},
    "nmf": {"kind": "nmf", "dim": 8, "epochs": 20},
    "rp3beta": {"kind": "rp3beta"},
    "slim": {"kind": "slim"},
    "svd": {"kind": "svd", "dim": 8},
}
USERS = np.arange(-1, 120, dtype=np.int32)


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, NOW - 4 * DAY, follows)


def blend(window, parts: dict, **more) -> Blend:
    out = Blend(BlendConfig.model_validate({"parts": parts, **more}))
    out.fit(window, Progress())
    return out


@pytest.fixture(scope="module")
def all_parts(window):
    return blend(window, EVERY_PART)


def test_every_kind_of_part_is_covered():
    assert set(EVERY_PART) == set(PARTS)


@pytest.mark.parametrize("how", ["z_score", "max", "none"])
@pytest.mark.parametrize("kind", ["als", "graph_filter", "ease"])
def test_a_blend_of_one_part_has_the_order_of_that_part(window, kind, how):
    settings = EVERY_PART[kind]
    alone = PARTS[kind](PARTS[kind].config_type.model_validate(settings))
    alone.fit(window, Progress())
    items, scores = alone.retrieve(window.state, USERS, 30)
    mixed, given = blend(window, {"only": settings}, normalisation=how, weights={"only": 3.0}).retrieve(
        window.state, USERS, 30
    )
    # near ties may change places, so what stands at a place is compared by what the part itself gives it
    assert ((mixed >= 0) == (items >= 0)).all()
    np.testing.assert_allclose(
        np.where(mixed >= 0, alone.score(window.state, USERS, mixed), -np.inf), scores, rtol=1e-4, atol=1e-5
    )
    assert (mixed == items).mean() > 0.9
    if how == "none":
        np.testing.assert_allclose(given, 3 * scores, rtol=1e-4)


def test_scores_are_weighted_sums_of_normalised_scores(window):
    """Worked out from the parts' own scores, in float64."""
    parts = {"a": EVERY_PART["als"], "b": EVERY_PART["graph_filter"]}
    source = blend(window, parts, weights={"b": 0.25}, exclude_seen=False)
    items = np.broadcast_to(np.arange(400, dtype=np.int32), (5, 400))
    users = np.array([0, 3, 50, 51, 119], np.int32)
    expected = np.zeros((5, 400))
    for name, weight in (("a", 1.0), ("b", 0.25)):
        scores = source.parts[name].score(window.state, users, items).astype(np.float64)
        known = np.bincount(window.interactions[1], minlength=400) > 0
        inside = scores[:, known]
        expected[:, known] += weight * (inside - inside.mean(axis=1, keepdims=True)) / inside.std(axis=1)[:, None]
    np.testing.assert_allclose(source.score(window.state, users, items), expected, rtol=1e-3, atol=1e-4)
    found, scores = source.retrieve(window.state, users, 3)
    for row, mine, best in zip(expected, found, scores, strict=True):
        np.testing.assert_allclose(np.sort(row)[::-1][:3], best, rtol=1e-3)
        np.testing.assert_allclose(row[mine], best, rtol=1e-3)


def test_normalisation_by_hand():
    known = np.array([True, True, True, False])
    given = np.array([[1.0, 2.0, 3.0, 7.0], [-4.0, 0.0, 2.0, 0.0], [5.0, 5.0, 5.0, 0.0]], np.float32)
    rows = given.copy()
    normalise(rows, known, "z_score", 2.0)
    third = np.sqrt(2 / 3)
    np.testing.assert_allclose(rows[0], [-2 / third, 0, 2 / third, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(rows[2], 0, atol=1e-6)
    rows = given.copy()
    normalise(rows, known, "max")
    np.testing.assert_allclose(rows, [[1 / 3, 2 / 3, 1, 0], [-1, 0, 0.5, 0], [1, 1, 1, 0]], rtol=1e-6)
    rows = given.copy()
    normalise(rows, known, "none", 0.5)
    np.testing.assert_allclose(rows, [[0.5, 1, 1.5, 0], [-2, 0, 1, 0], [2.5, 2.5, 2.5, 0]])


@given(
    arrays(np.float32, (3, 7), elements=st.floats(-8, 8, width=16)),
    st.floats(0.25, 4, width=16),
    st.sampled_from(["z_score", "max"]),
)
@settings(max_examples=60, deadline=None)
def test_the_scale_of_a_part_changes_nothing(rows, factor, how):
    known = np.ones(7, bool)
    once, twice = rows.copy(), rows * np.float32(factor)
    normalise(once, known, how)
    normalise(twice, known, how)
    np.testing.assert_allclose(once, twice, rtol=1e-3, atol=2e-3)


def test_a_history_folds_in_to_the_scores_of_its_user(window, all_parts):
    users = np.array([4, 70], np.int32)
    folded = all_parts.fold_in([window.state.history[u] for u in users] + [np.zeros(0, np.int32)])
    scores = all_parts.score(window.state, users, np.broadcast_to(np.arange(400, dtype=np.int32), (2, 400)))
    assert folded.shape == (3, 400) and not folded[2].any()
    # a graph embedding keeps a part of its own for people of the training, so the two are near, not equal
    for row, mine in zip(scores, folded, strict=False):
        assert np.corrcoef(row, mine)[0, 1] > 0.97


def test_parts_that_know_different_things_add_what_they_know(window):
    source = blend(window, {"a": EVERY_PART["ease"], "b": EVERY_PART["als"]})
    before = source.retrieve(window.state, USERS[1:3], 10)[1]
    source.parts["b"]._set({**source.parts["b"]._arrays, "known": np.zeros(400, bool)})
    alone = blend(window, {"a": EVERY_PART["ease"]}).retrieve(window.state, USERS[1:3], 10)
    items, scores = source.retrieve(window.state, USERS[1:3], 10)
    np.testing.assert_array_equal(items, alone[0])
    np.testing.assert_allclose(scores, alone[1], rtol=1e-5)
    assert not np.allclose(scores, before)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"parts": {}}, "needs parts"),
        ({"parts": {"a": {"kind": "ease"}}, "weights": {"b": 1}}, "which is no part"),
        ({"parts": {"a": {"kind": "ease", "exclude_seen": False}}}, "the blend's to say"),
        ({"parts": {"a": {"kind": "ease", "max_age_days": 3}}}, "the blend's to say"),
        ({"parts": {"a b": {"kind": "ease"}}}, "must have a name"),
        ({"parts": {"a": {"kind": "popularity"}}}, "popularity"),
        ({"parts": {"a": {"kind": "ease"}}, "weights": {"a": 0}}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, says):
    with pytest.raises(ValidationError, match=says):
        BlendConfig.model_validate(given)


def test_settings_survive_being_written_down():
    config = BlendConfig.model_validate({"parts": EVERY_PART, "weights": {"als": 0.5}})
    assert BlendConfig.model_validate(config.model_dump(mode="json")) == config
