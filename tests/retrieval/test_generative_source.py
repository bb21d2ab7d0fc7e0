"""The generative retriever: the network in both of its lives, beams that lose nothing, items that nobody turned to."""

import dataclasses

import numpy as np
import pytest
import torch
from planted import DAY, NOW, make_catalogue, make_log, make_window

from recsys_cli.progress import Progress
from recsys_cli.retrieval.semantic.code_tree import CodeTree
from recsys_cli.retrieval.semantic.generative import Generative
from recsys_cli.retrieval.semantic.generative_config import GenerativeConfig
from recsys_cli.retrieval.semantic.generative_training import _Network, _segments

SMALL = {"hidden": 16, "codes_per_level": 6, "code_levels": 2, "epochs": 40, "batch_size": 16, "learning_rate": 0.01,
         "max_age_days": None, "dropout": 0.0, "column": "place"}  # fmt: skip
RING = 24


@pytest.fixture(scope="module")
def ring():
    """People who walk a ring of 24 places, each a point of a circle; nobody has been to place 23."""
    angle = 2 * np.pi * np.arange(RING) / RING
    catalogue = make_catalogue(60, [-1] * RING, [NOW - 50 * DAY] * RING)
    vectors = {"place": np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)}
    columns = dataclasses.replace(catalogue.item_columns, vectors=vectors)
    catalogue = dataclasses.replace(catalogue, item_columns=columns)
    rows = [(u, (7 * u + step) % (RING - 1), NOW - DAY + 1000 * step) for u in range(59) for step in range(10)]
    window = make_window(catalogue, make_log(rows))
    source = Generative(GenerativeConfig(**SMALL))
    source.fit(window, Progress())
    return window, source


def test_what_follows_in_the_walk_is_told(ring):
    window, source = ring
    users = np.arange(59)
    listed = source.retrieve(window.state, users, 3)[0]
    after = (7 * users + 10) % (RING - 1)
    assert np.mean([a in row for a, row in zip(after, listed, strict=True)]) > 0.6


def test_scores_are_the_sums_of_the_log_probabilities_of_torchs_network(ring):
    window, source = ring
    a = source._arrays
    network = _Network(2, SMALL["codes_per_level"], SMALL["hidden"], 0.0).eval()
    state = {n: torch.from_numpy(a[n.replace("_l0", "")]) for n in network.state_dict()}
    network.load_state_dict(state)
    user, codes = 5, torch.from_numpy(source.ids.codes.astype(np.int64))
    history = window.state.history[user]
    with torch.no_grad():
        h = network.read(sum(network.embedded(codes[torch.from_numpy(history.astype(np.int64))]))[None])[0][0, -1]
        expected = np.zeros(RING)
        for item in range(RING):
            before = torch.zeros(1, SMALL["hidden"])
            for level, embedded in enumerate(network.embedded(codes[item][None])):
                told = torch.log_softmax(network.tell[level](h[None], before), dim=1)
                expected[item] += float(told[0, codes[item, level]])
                before = before + embedded
    same = {i: np.flatnonzero((source.ids.codes == source.ids.codes[i]).all(axis=1)) for i in range(RING)}
    counts = a["counts"] + 1
    expected += [np.log(counts[i] / counts[same[i]].sum()) for i in range(RING)]
    items, scores = source.retrieve(window.state, np.array([user]), RING)
    given = {int(i): s for i, s in zip(items[0], scores[0], strict=True) if i >= 0}
    unseen = set(range(RING)) - set(history.tolist())
    assert set(given) == unseen  # beams wide enough lose nothing, and what was seen is left out
    for item, score in given.items():
        assert score == pytest.approx(expected[item], abs=1e-4)
    assert (np.diff(scores[0][items[0] >= 0]) <= 0).all()


def test_an_item_that_nobody_has_turned_to_can_be_told_and_people_without_a_history_get_nothing(ring):
    window, source = ring
    items = source.retrieve(window.state, np.arange(59), RING)[0]
    assert (items == RING - 1).any()
    assert (source.retrieve(window.state, np.array([59, -1]), 5)[0] == -1).all()


def test_an_appended_item_gets_the_codes_of_its_vector(ring):
    window, source = ring
    catalogue = window.catalogue
    places = catalogue.item_columns.vectors["place"]
    twin = dataclasses.replace(catalogue.item_columns, vectors={"place": np.concatenate([places, places[3:4]])})
    more = make_catalogue(60, [-1] * (RING + 1), [NOW - 50 * DAY] * (RING + 1))
    source.adapt(dataclasses.replace(more, item_columns=twin))
    assert (source.ids.codes[RING] == source.ids.codes[3]).all()
    _, items = source._tree.items_of(np.arange(len(source._tree.items)))
    assert sorted(items.tolist()) == list(range(RING + 1))
    source.adapt(catalogue)
    assert len(source.ids.codes) == RING


def test_narrow_beams_keep_the_best_beginnings(ring):
    window, source = ring
    wide = source.retrieve(window.state, np.arange(59), 1)
    narrow = Generative(GenerativeConfig(**{**SMALL, "beams": 2}))
    narrow._set(source._arrays, source._meta)
    given = narrow.retrieve(window.state, np.arange(59), 1)
    assert (given[1] <= wide[1] + 1e-6).all() and (given[0] == wide[0]).mean() > 0.8


def test_the_tree_holds_every_id_once_and_shares_sum_to_one():
    codes = np.array([[0, 1], [0, 1], [2, 0], [-1, -1], [0, 2]], np.int16)
    embedding = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    tree = CodeTree.of(codes, np.array([3, 0, 5, 9, 1], np.float32), embedding)
    place, first = tree.below(0, np.array([0]))
    assert tree.code[0][first].tolist() == [0, 2] and place.tolist() == [0, 0]
    place, second = tree.below(1, first)
    assert place.tolist() == [0, 0, 1] and tree.code[1][second].tolist() == [1, 2, 0]
    np.testing.assert_array_equal(tree.sums[1], embedding[0][[0, 2]])
    assert tree.items_of(second)[1].tolist() == [0, 1, 4, 2]
    np.testing.assert_allclose(np.exp(tree.share[[0, 1, 2, 4]]), [0.8, 0.2, 1, 1], rtol=1e-6)


def test_stretches_hold_every_step_of_every_walk_once():
    users, items = np.repeat([0, 1, 2], [8, 1, 4]), np.arange(13)
    rows, lengths = _segments(users, items, 4)
    steps = [(int(r[i]), int(r[i + 1])) for r, n in zip(rows, lengths, strict=True) for i in range(n - 1)]
    wanted = {(i, i + 1) for i in range(7)} | {(9, 10), (10, 11), (11, 12)}
    assert set(steps) == wanted and len(rows) == 4 and lengths.max() == 4
