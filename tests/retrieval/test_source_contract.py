"""What every source promises, whichever its kind."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import NOW, edges, make_catalogue, make_log, make_window, planted

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import ArtifactError
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.config import settle_seen
from recsys_cli.retrieval.pairs import best_pairs, find_pairs, sum_pairs, without_pairs
from recsys_cli.retrieval.registry import OPTIONAL, SOURCES, default_retrieval, make

SMALL_NETWORK = {"dim": 32, "layers": 1, "epochs": 20, "batch_size": 512, "learning_rate": 0.01, "dropout": 0.4}
SMALL = {
    "twhin": {"dim": 32, "epochs": 6, "batch_size": 256, "uniform_negatives": 64, "learning_rate": 0.02},
    "lightgcn": {"dim": 32, "epochs": 10, "batch_size": 512, "uniform_negatives": 64},
    "bpr": {"dim": 16},
    "repeat_consumption": {"neighbours": 20, "within_decay": 1.0, "group_decay": 1.0},
    "fresh": {"max_age_days": 60, "max_impressions": 1_000_000},
    "svd": {"dim": 8},
    "nmf": {"dim": 8},
    "als": {"dim": 16, "epochs": 5},
    "semantic": {"dim": 32, "codes_per_level": 8},
    "generative": {
        "dim": 32, "codes_per_level": 8, "hidden": 32, "epochs": 12, "batch_size": 16, "learning_rate": 0.01,
    },
    "two_tower": {
        "dim": 32, "hidden": 32, "epochs": 4, "batch_size": 256, "uniform_negatives": 64, "learning_rate": 0.01,
    },
    "sasrec": SMALL_NETWORK, "bert4rec": {**SMALL_NETWORK, "epochs": 40}, "gru4rec": {**SMALL_NETWORK, "hidden": 32},
}
OTHER_WORLDS = {"real_graph": 1.1, "next_basket": 1.3, "semantic": 1.3, "generative": 1.2}
"""Sources that learn something else than taste, and how far they lead here all the same."""
GRAPHS = ("sasrec", "bert4rec", "gru4rec")
"""Sources that serve from an ONNX graph."""
LEARNED = [kind for kind, cls in SOURCES.items() if cls.learns]
CUT = NOW - 4 * 86_400_000_000


def small(kind: str, **more):
    return SOURCES[kind].config_type(**{**SMALL.get(kind, {}), **more})


@pytest.fixture(scope="module")
def world():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, CUT, follows), log


@pytest.fixture(scope="module")
def fitted(world):
    sources = {}
    for kind in SOURCES:
        sources[kind] = make(small(kind))
        sources[kind].fit(world[0], Progress())
    return sources


def recall(source, window, log, k: int) -> float:
    test = log.window(start=window.end)
    users = np.unique(test.user)
    items = source.retrieve(window.state, users, k)[0]
    return float(np.mean([np.isin(test.item[test.user == u], row).mean() for u, row in zip(users, items, strict=True)]))


@pytest.mark.parametrize("kind", LEARNED)
def test_learned_sources_beat_popularity_where_taste_matters(world, fitted, kind):
    lead = OTHER_WORLDS.get(kind, 1.5)
    assert recall(fitted[kind], *world, 40) > lead * recall(fitted["popularity"], *world, 40)


@pytest.mark.parametrize("kind", SOURCES)
def test_a_user_alone_gets_what_the_user_gets_in_a_batch(world, fitted, kind):
    users = np.arange(-1, 120, dtype=np.int32)
    items, scores = fitted[kind].retrieve(world[0].state, users, 30)
    for at in (0, 1, 50, 120):
        alone = fitted[kind].retrieve(world[0].state, users[at : at + 1], 30)
        np.testing.assert_array_equal(alone[0][0], items[at])
        np.testing.assert_array_equal(alone[1][0], scores[at])


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_are_ordered_distinct_and_filled_from_the_front(world, fitted, kind):
    items, scores = fitted[kind].retrieve(world[0].state, np.arange(-1, 120, dtype=np.int32), 500)
    assert items.shape == scores.shape == (121, 500) and items.dtype == np.int32 and scores.dtype == np.float32
    assert ((items >= 0) == np.isfinite(scores)).all()
    filled = (items >= 0).sum(axis=1)
    assert (items[np.arange(500) >= filled[:, None]] == -1).all()
    assert filled[1:].max() > 0 and (scores[:, 1:] <= scores[:, :-1]).all()
    for row, n in zip(items, filled, strict=True):
        assert len(np.unique(row[:n])) == n
    seen = world[0].state.seen
    assert not seen.contains(np.arange(120), items[1:]).any()


@pytest.mark.parametrize("kind", SOURCES)
def test_items_of_the_future_are_never_proposed(world, fitted, kind):
    catalogue = world[0].catalogue
    created = catalogue.item_created.copy()
    created[::3] = CUT + np.arange(len(created[::3])) % 2
    later = dataclasses.replace(catalogue, item_created=created)
    state = make_window(later, world[1], CUT, edges([(u, (u + 5) % 120) for u in range(120)])).state
    items = fitted[kind].retrieve(state, np.arange(120, dtype=np.int32), 300)[0]
    assert (items >= 0).any() and (items[items >= 0] % 3 != 0).all()


@pytest.mark.parametrize("kind", SOURCES)
def test_score_agrees_with_retrieve(world, fitted, kind):
    users = np.arange(0, 120, 7, dtype=np.int32)
    items, scores = fitted[kind].retrieve(world[0].state, users, 20)
    given = fitted[kind].score(world[0].state, users, items)
    if given is None:
        return
    np.testing.assert_allclose(given, np.where(items >= 0, scores, 0), rtol=1e-5, atol=1e-6)
    pairs = fitted[kind].score(world[0].state, np.repeat(users, 20), items.reshape(-1, 1))
    np.testing.assert_allclose(pairs.reshape(items.shape), given, rtol=1e-5, atol=1e-6)
    nobody = fitted[kind].score(world[0].state, np.array([-1], np.int32), items[:1])
    assert not nobody.any()


@pytest.mark.parametrize("kind", SOURCES)
def test_somebody_who_is_not_in_the_data_is_served_from_a_history(world, fitted, kind):
    window, _ = world
    history = window.state.history[7]
    state = with_guest(window.state, history)
    guest = np.array([window.catalogue.n_users], np.int32)
    items, scores = fitted[kind].retrieve(state, guest, 20)
    assert items.shape == scores.shape == (1, 20) and not np.isin(items, history).any()
    if fitted[kind].score(state, guest, items) is not None:
        assert fitted[kind].score(state, guest, items).shape == (1, 20)
    assert len(fitted[kind].explain(state, int(guest[0]), items[0, :3])) == 3
    if kind in LEARNED and kind not in ("real_graph",):
        topic = window.catalogue.item_topics.values
        assert (topic[items[items >= 0]] == 7 % 5).mean() > 0.5


@pytest.mark.parametrize("kind", LEARNED)
def test_checkpoint_and_bundle_give_what_training_gives(world, fitted, kind, tmp_path):
    source, users = fitted[kind], np.arange(-1, 120, dtype=np.int32)
    (tmp_path / "bundle").mkdir()
    source.save(tmp_path / "bundle")
    torch.save(source.checkpoint(), tmp_path / "source.pt")
    restored = make(source.config)
    restored.restore(torch.load(tmp_path / "source.pt", weights_only=True))
    expected = source.retrieve(world[0].state, users, 50)
    for other in (type(source).load(source.config, tmp_path / "bundle"), restored):
        items, scores = other.retrieve(world[0].state, users, 50)
        np.testing.assert_array_equal(items, expected[0])
        np.testing.assert_allclose(scores, expected[1], atol=1e-5)


@pytest.mark.parametrize("kind", LEARNED)
def test_a_damaged_bundle_is_refused(fitted, kind, tmp_path):
    fitted[kind].save(tmp_path)
    file = next(path for path in sorted(tmp_path.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ArtifactError):
        SOURCES[kind].load(fitted[kind].config, tmp_path)
    file.unlink()
    with pytest.raises(ArtifactError):
        SOURCES[kind].load(fitted[kind].config, tmp_path)


def test_serving_imports_no_training_library(world, fitted, tmp_path):
    for kind in LEARNED:
        (tmp_path / kind).mkdir()
        fitted[kind].save(tmp_path / kind)
    program = f"""
import sys, numpy as np
sys.path.insert(0, {str(__file__.rsplit("/", 1)[0])!r})
from pathlib import Path
from planted import *
from recsys_cli.retrieval.registry import SOURCES
catalogue, log, follows = planted()
state = make_window(catalogue, log, {CUT}, follows).state
configs = {SMALL!r}
libraries = {{"torch", "implicit", "sklearn", "scipy", "polars", "onnxruntime"}}
for kind in sorted(SOURCES, key=lambda kind: kind in {GRAPHS!r}):
    cls, allowed = SOURCES[kind], {{"onnxruntime"}} if kind in {GRAPHS!r} else set()
    source = cls.load(cls.config_type(**configs.get(kind, {{}})), Path({str(tmp_path)!r}) / kind)
    items, _ = source.retrieve(state, np.array([3], np.int32), 20)
    source.score(state, np.array([3], np.int32), items)
    source.explain(state, 3, items[0, :3])
    source.adapt(catalogue)
    print(*sorted((libraries & set(sys.modules)) - allowed), end="")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("kind", SOURCES)
def test_nothing_in_the_log_gives_empty_rows(kind):
    catalogue = make_catalogue(3, [0, 1], [NOW - 5, NOW - 5])
    window = make_window(catalogue, make_log([]))
    source = make(small(kind))
    assert source.missing(window) is not None or kind in ("random", "fresh")
    source.fit(window, Progress())
    items, scores = source.retrieve(window.state, np.array([0, -1], np.int32), 4)
    assert items.shape == (2, 4)
    if kind not in ("random", "fresh", "two_tower"):
        assert (items == -1).all() and np.isneginf(scores).all()


@pytest.mark.parametrize("kind", SOURCES)
def test_one_user_and_one_item_are_enough(kind):
    catalogue = make_catalogue(1, [0], [NOW - 5])
    window = make_window(catalogue, make_log([(0, 0, NOW - 2)]), follows=edges([(0, 0)]))
    source = make(small(kind, exclude_seen=False))
    source.fit(window, Progress())
    items, _ = source.retrieve(window.state, np.array([0], np.int32), 3)
    assert items[0, 0] in (0, -1) and (items[0, 1:] == -1).all()
    assert len(source.explain(window.state, 0, np.array([0]))) == 1


def test_what_was_seen_is_left_out_as_the_pipeline_does_unless_somebody_said():
    open_, kept, left = (small("popularity", exclude_seen=seen) for seen in ("auto", False, True))
    assert [settle_seen(c, True).exclude_seen for c in (open_, kept, left)] == [False, False, True]
    assert [settle_seen(c, False).exclude_seen for c in (open_, kept, left)] == [True, False, True]
    assert default_retrieval()["popularity"].exclude_seen == "auto"


def test_every_kind_has_default_settings():
    settings = default_retrieval()
    assert set(settings) == set(SOURCES)
    assert {name for name, s in settings.items() if not s.enabled} == OPTIONAL
    assert all(settings[kind].kind == kind for kind in SOURCES)


pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.floats(-4, 4, width=16)), max_size=40)


@given(pairs, st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_best_pairs_picks_what_sorting_picks(rows, k):
    place, item, score = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.zeros(0, int)] * 3
    items, scores = best_pairs(place, item, score, 4, k)
    for p in range(4):
        expected = sorted((r for r in rows if r[0] == p), key=lambda r: -r[2])[:k]
        assert items[p].tolist() == [r[1] for r in expected] + [-1] * (k - len(expected))
        assert scores[p][: len(expected)].tolist() == [r[2] for r in expected]
        mine = place == p
        alone = best_pairs(place[mine] * 0, item[mine], score[mine], 1, k)
        assert alone[0][0].tolist() == items[p].tolist() and alone[1][0].tolist() == scores[p].tolist()


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_sums_and_lookups_agree_with_a_dictionary(rows):
    place, item, score = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.zeros(0, int)] * 3
    totals = {}
    for p, i, s in rows:
        totals[p, i] = totals.get((p, i), 0) + s
    found = sum_pairs(place, item, score, 7)
    assert {(p, i): t for p, i, t in zip(*(f.tolist() for f in found), strict=True)} == pytest.approx(totals)
    index = Ragged.group(place, item, 4).sorted_rows()
    wanted = np.array([(p, i) for p in range(5) for i in range(7)])
    rows_asked = np.array([0, 1, 2, 3, -1])
    has, at = find_pairs(index, rows_asked, wanted[:, 0], wanted[:, 1])
    assert has.tolist() == [(p, i) in totals for p, i in wanted.tolist()]
    assert (index.values[at[has]] == wanted[has, 1]).all() and (index.rows[at[has]] == wanted[has, 0]).all()
    together = without_pairs(index, rows_asked, wanted[:, 0], wanted[:, 1], np.arange(len(wanted)))[2]
    alone = [without_pairs(index, rows_asked[p : p + 1], *(c[wanted[:, 0] == p] for c in (
        wanted[:, 0] * 0, wanted[:, 1], np.arange(len(wanted)))))[2] for p in range(5)]  # fmt: skip
    assert together.tolist() == np.concatenate(alone).tolist() == np.flatnonzero(~has).tolist()


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 15))
def test_chunks_cover_everything_within_the_limit(costs, limit):
    parts = list(chunks(np.array(costs, np.int64), limit))
    assert [i for s in parts for i in range(s.start, s.stop)] == list(range(len(costs)))
    assert all(sum(costs[s]) <= limit or s.stop - s.start == 1 for s in parts)
