"""How much the items of a history count: by hand, and that every family asks with the weights it was given."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY, NOW, make_catalogue, make_log, make_window, planted
from pydantic import ValidationError

from recsys_cli.data.log import Log
from recsys_cli.data.state import State
from recsys_cli.errors import DataError
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryWeighting, RecencyWeighting, WeightedHistories
from recsys_cli.retrieval.registry import SOURCES, make

FAMILIES = {
    "als": {"dim": 16, "epochs": 4},
    "blend": {"parts": {"ease": {"kind": "ease"}, "svd": {"kind": "svd", "dim": 8}}},
    "bpr": {"dim": 8, "epochs": 20},
    "content": {},
    "ease": {},
    "graph_filter": {"dim": 16},
    "item_neighbours": {},
    "lightgcn": {"dim": 16, "epochs": 2, "batch_size": 512},
    "nmf": {"dim": 8, "epochs": 20},
    "rp3beta": {},
    "slim": {},
    "svd": {"dim": 8},
    "user_neighbours": {},
}
BY_PLACE = HistoryWeighting(kind="place", decay=0.5, strength="none")


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, NOW - 4 * DAY, follows)


@pytest.fixture(scope="module")
def fitted(window):
    out = {}
    for kind, settings_ in FAMILIES.items():
        out[kind] = make(SOURCES[kind].config_type.model_validate({"kind": kind, **settings_}))
        out[kind].fit(window, Progress())
    return out


def state_of(rows, **columns) -> State:
    """One user's interactions (item, days ago), with numbers beside them."""
    log = make_log([(0, item, NOW - int(days * DAY)) for item, days in rows])
    log = dataclasses.replace(log, context={name: np.array(v, np.float32) for name, v in columns.items()})
    return State.build(make_catalogue(1, [-1] * 9), log, NOW)


def weights_of(state: State, **weighting) -> dict[int, float]:
    mine = WeightedHistories.of_state(state, np.array([0]), HistoryWeighting(**weighting))
    return dict(zip(mine.items.values.tolist(), mine.weights.tolist(), strict=True))


def test_places_count_back_from_the_newest_and_a_repeated_item_stands_at_its_newest_place():
    state = state_of([(4, 9), (2, 7), (4, 5), (7, 1)])
    assert weights_of(state, kind="place", decay=0.5) == {7: 1, 4: 0.5, 2: 0.25}
    assert weights_of(state) == weights_of(state, kind="uniform") == {2: 1, 4: 1, 7: 1}


def test_time_halves_from_the_newest_interaction_not_from_now():
    state = state_of([(4, 19), (2, 15), (7, 11)])
    assert weights_of(state, kind="time", half_life_days=4) == pytest.approx({7: 1, 2: 0.5, 4: 0.25}, rel=1e-6)


def test_weights_never_vanish_however_old_the_items():
    state = state_of([(4, 9000), (7, 1)])
    assert 0 < weights_of(state, kind="time", half_life_days=0.1)[4] < 1e-15


def test_strength_is_the_logarithm_over_the_mean_of_the_history():
    state = state_of([(4, 9), (2, 7), (4, 5), (7, 1)], plays=[3, np.nan, 4, 0])
    twice, once = np.log(3), np.log(2)
    mean = (twice + 2 * once) / 3
    expected = {4: twice / mean, 2: once / mean, 7: once / mean}
    assert weights_of(state, kind="uniform", strength="repeats") == pytest.approx(expected, rel=1e-6)
    # 7 plays of item 4 in all, unknown of 2, none of 7
    found = weights_of(state, kind="uniform", strength="plays")
    assert found[4] == pytest.approx(2, rel=1e-6) and found[2] == 1 and 0 < found[7] < 1e-15


def test_a_column_that_the_log_lacks_is_named_with_those_it_has():
    with pytest.raises(DataError, match="'watched'") as error:
        weights_of(state_of([(4, 9)], plays=[1]), strength="watched")
    assert "plays" in error.value.hint


def test_numbers_beside_a_history_survive_the_bundle_and_a_guest():
    state = state_of([(4, 9), (2, 7)], plays=[3, 5])
    again = State.from_arrays(*state.to_arrays(), state.catalogue)
    np.testing.assert_array_equal(again.history_numbers["plays"], [3, 5])
    guest = with_guest(again, np.array([1, 2], np.int32))
    mine = WeightedHistories.of_state(guest, np.array([1]), HistoryWeighting(kind="uniform", strength="plays"))
    assert mine.items.values.tolist() == [1, 2] and mine.weights.tolist() == [1, 1]


def test_dwell_can_be_a_strength():
    log = make_log([(0, 1, NOW - 5), (0, 2, NOW - 4)])
    log = dataclasses.replace(log, dwell=np.array([1, 100], np.float32))
    assert isinstance(log, Log)
    found = weights_of(State.build(make_catalogue(1, [-1] * 3), log, NOW), strength="dwell_seconds")
    assert found[2] / found[1] == pytest.approx(np.log(101) / np.log(2), rel=1e-5)


@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=5), st.sampled_from([1.0, 0.9, 0.3]))
@settings(max_examples=60, deadline=None)
def test_lists_agree_with_counting_by_hand(lists, decay):
    found = WeightedHistories.of_lists(lists, HistoryWeighting(kind="place", decay=decay))
    assert len(found) == len(lists)
    for place, history in enumerate(lists):
        part = found.part(slice(place, place + 1))
        expected = {item: decay**behind for behind, item in enumerate(dict.fromkeys(reversed(history)))}
        assert part.items.values.tolist() == sorted(expected)
        assert dict(zip(part.items.values.tolist(), part.weights, strict=True)) == pytest.approx(expected, rel=1e-6)
        norm = np.sqrt(sum(w * w for w in expected.values())) if expected else 1
        assert found.scale[place] == pytest.approx(norm, rel=1e-6)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_decay_of_1_is_uniform_to_the_last_bit(window, fitted, kind):
    users = np.arange(-1, 60, dtype=np.int32)
    flat = HistoryWeighting(kind="place", decay=1, strength="none")
    expected = fitted[kind].retrieve(window.state, users, 20)
    found = fitted[kind].reweighted(flat).retrieve(window.state, users, 20)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize("kind", FAMILIES)
def test_with_decay_lists_turn_towards_the_newest_item(window, fitted, kind):
    """A long history of one community and one newest item of another: the other comes to lead."""
    topic = window.catalogue.item_topics.values
    known = window.state.interactions > 3
    old = np.flatnonzero((topic == 0) & known)[:12].astype(np.int32)
    new = np.flatnonzero((topic == 1) & known)[:2].astype(np.int32)
    state = with_guest(window.state, np.concatenate([old, new]))
    guest = np.array([window.catalogue.n_users], np.int32)
    near = fitted[kind].reweighted(HistoryWeighting(kind="place", decay=0.2, strength="none"))
    shares = [(topic[s.retrieve(state, guest, 10)[0]] == 1).mean() for s in (fitted[kind], near)]
    assert shares[1] > shares[0]
    for source in (fitted[kind], near):
        items, scores = source.retrieve(state, guest, 10)
        np.testing.assert_allclose(source.score(state, guest, items), scores, rtol=1e-5, atol=1e-6)
    if kind in ("ease", "rp3beta", "svd", "als", "nmf", "bpr", "lightgcn"):
        folded = near.fold_in([np.concatenate([old, new])])
        alike = near.vectors(state, guest) if near.index is not None else near.rows(state, guest)
        np.testing.assert_allclose(folded, alike[0], rtol=1e-4, atol=1e-5)


def test_weighted_als_is_the_weighted_ridge_solution(window, fitted):
    source = fitted["als"].reweighted(BY_PLACE)
    c, items = source.config, np.unique(window.state.history[5])[:30]
    history = np.random.default_rng(1).permutation(items)
    vectors = source.index.vectors.astype(np.float64)
    for length in (6, len(history)):
        listed = history[-length:]
        weights = 0.5 ** np.arange(length)[::-1]
        y = vectors[listed]
        matrix = vectors.T @ vectors + y.T @ (y * ((c.alpha - 1) * weights)[:, None])
        expected = np.linalg.solve(
            matrix + c.l2 * np.eye(c.dim), y.T @ (1 + (c.alpha - 1) * weights)
        )
        np.testing.assert_allclose(source.fold_in([listed])[0], expected, rtol=2e-3, atol=1e-4)


def test_scores_after_proposals_are_not_computed_twice(window, fitted, monkeypatch):
    source = fitted["ease"].reweighted(BY_PLACE)
    users = np.array([7, 3, 5], np.int32)
    items, scores = source.retrieve(window.state, users, 10)
    monkeypatch.setattr(type(source.map), "apply", None)
    np.testing.assert_array_equal(source.score(window.state, users, items), scores)
    np.testing.assert_array_equal(source.retrieve(window.state, users, 5)[0], items[:, :5])


@pytest.mark.parametrize("wrong", [{"decay": 0}, {"decay": 1.1}, {"half_life_days": 0}, {"kind": "latest"}])
def test_weights_without_meaning_are_refused(wrong):
    with pytest.raises(ValidationError):
        RecencyWeighting(**wrong)
