"""The approximate index finds what the exact search finds, takes items in and lets them go."""

import subprocess
import sys

import numpy as np
import pytest
from planted import NOW, make_window, planted

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.errors import ArtifactError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.factors.als import Als, AlsConfig
from recsys_cli.retrieval.vectors import item_index
from recsys_cli.retrieval.vectors.approximate_index import FILE, ApproximateIndex, Choosable, exact_best, recall_of
from recsys_cli.retrieval.vectors.item_index import ItemIndex

N, DIM = 20_000, 32


@pytest.fixture(scope="module")
def vectors():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, DIM))
    out = centres[rng.integers(0, 200, N)] + 0.7 * rng.standard_normal((N, DIM))
    return (out / np.linalg.norm(out, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def queries(vectors):
    rng = np.random.default_rng(1)
    return vectors[rng.integers(0, N, 100)] + 0.05 * rng.standard_normal((100, DIM)).astype(np.float32)


@pytest.fixture
def index(vectors):
    return ApproximateIndex.build(vectors, np.ones(N, bool))


def test_exact_best_is_what_sorting_gives(vectors, queries):
    ids = np.arange(3, N, 7)
    expected = ids[np.argsort(-(queries @ vectors[ids].T), axis=1, kind="stable")[:, :10]]
    np.testing.assert_array_equal(exact_best(vectors, ids, queries, 10), expected)


@pytest.mark.parametrize(("k", "at_least"), [(10, 0.98), (100, 0.98), (500, 0.95)])
def test_it_agrees_with_the_exact_search_as_stated(index, vectors, queries, k, at_least):
    items, scores = index.search(queries, k)
    assert recall_of(items, exact_best(vectors, np.arange(N), queries, k)) >= at_least
    assert 0.98 <= index.report["recall@100"] <= 1 and index.report["items"] == N
    np.testing.assert_allclose(scores, np.einsum("bd,bkd->bk", queries, vectors[items]), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all() and all(len(set(row)) == k for row in items.tolist())


def test_a_query_alone_finds_what_it_finds_among_others(index, queries):
    together = index.search(queries, 50)
    for row in (0, 31, 99):
        alone = index.search(queries[row : row + 1], 50)
        np.testing.assert_array_equal(alone[0][0], together[0][row])


def test_items_left_out_of_what_may_be_found_are_not_found(index, vectors, queries):
    allowed = np.arange(N) % 3 > 0
    best = exact_best(vectors, np.flatnonzero(allowed), queries[:1], 150)[0]
    seen = np.append(best[:50], [N + 7, 0])
    mine = Choosable.of(allowed).without(seen)
    found = index.search(queries[:1], 100, mine)[0][0]
    assert not np.isin(found, seen).any() and allowed[found].all()
    assert np.isin(best[50:], found).mean() >= 0.95
    assert index.search(queries[:1], 100, allowed)[0][0, 0] == best[0], "the others are as they were"


def test_the_cheaper_of_index_and_exact_product_is_asked(index, vectors):
    index.report = {"ms_per_query": 1.0, "exact_ms_per_query": 10.0}
    assert index.pays(N, 100) and not index.pays(N // 20, 100)
    assert not index.pays(N, 100 * 30), "deep lists take many cells"
    index.report["exact_ms_per_query"] = 0.9
    assert not index.pays(N, 100)


def test_only_what_is_allowed_is_found(index, vectors, queries):
    allowed = np.arange(N) % 10 == 3
    items, _ = index.search(queries, 100, allowed)
    assert (items % 10 == 3).all()
    assert recall_of(items, exact_best(vectors, np.flatnonzero(allowed), queries, 100)) >= 0.95


def test_items_come_and_go_without_building_again(index, vectors, queries):
    gone = exact_best(vectors, np.arange(N), queries[:1], 3)[0]
    assert index.remove(gone) == 3 and index.remove(gone) == 0
    assert not np.isin(index.search(queries[:1], 50)[0], gone).any()
    more = np.concatenate([vectors, queries[:2]])
    index.extend(more, np.array([True] * (N + 1) + [False]))
    assert index.search(queries[:1], 1)[0][0, 0] == N
    assert index.search(queries[1:2], 1)[0][0, 0] != N + 1  # not among the known


def test_more_than_there_is_leaves_rows_short():
    few = np.eye(5, dtype=np.float32)
    index = ApproximateIndex.build(few, np.array([True, True, False, True, True]))
    items, scores = index.search(few[:1], 9)
    assert items[0, 0] == 0 and sorted(items[0]) == [-1] * 5 + [0, 1, 3, 4]
    assert np.isneginf(scores[0, 4:]).all()


def test_it_is_kept_in_a_file(index, vectors, queries, tmp_path):
    index.save(tmp_path)
    again = ApproximateIndex.load(tmp_path, vectors)
    assert again.report == index.report
    np.testing.assert_array_equal(again.search(queries, 20)[0], index.search(queries, 20)[0])


def test_a_file_of_another_version_or_of_other_vectors_is_refused(index, vectors, tmp_path):
    index.save(tmp_path)
    with pytest.raises(ArtifactError, match="19,999 of 32"):
        ApproximateIndex.load(tmp_path, vectors[1:])
    arrays, meta = load_arrays(tmp_path / FILE)
    arrays = {name: np.array(a) for name, a in arrays.items()}
    save_arrays(tmp_path / FILE, arrays, meta | {"version": 0})
    with pytest.raises(ArtifactError, match="version 0, this program reads 1"):
        ApproximateIndex.load(tmp_path, vectors)
    save_arrays(tmp_path / FILE, {"lists": arrays["lists"][100:]}, meta)
    with pytest.raises(ArtifactError, match="cannot be read by faiss"):
        ApproximateIndex.load(tmp_path, vectors)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:-50])
    with pytest.raises(ArtifactError):
        ApproximateIndex.load(tmp_path, vectors)


@pytest.fixture
def fitted():
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, NOW, follows)
    source = Als(AlsConfig(dim=16, epochs=5))
    source.fit(window, Progress())
    return source, window.state


def test_small_catalogues_stay_exact(fitted, tmp_path):
    source, state = fitted
    known = int((state.interactions > 0).sum())
    assert source.index.prepare() == {"kind": "exact", "items": known, "recall@100": 1.0}
    source.index.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_large_catalogues_are_searched_through_the_index(fitted, tmp_path, monkeypatch):
    source, state = fitted
    users = np.arange(-1, 120, dtype=np.int32)
    exact, _ = source.retrieve(state, users, 30)
    monkeypatch.setattr(item_index, "LARGE", 100)
    report = source.index.prepare(source.vectors(state, users[1:])[0])
    assert report["kind"].startswith("inverted lists") and report["recall@100"] >= 0.98
    source.save(tmp_path)
    source.index.write(tmp_path)
    other = Als.load(source.config, tmp_path)
    other.index.read(tmp_path)
    items, scores = other.retrieve(state, users, 30)
    assert recall_of(items, exact) >= 0.98
    assert not state.seen.contains(users[1:], items[1:]).any() and (items[0] == -1).all()
    np.testing.assert_allclose(other.score(state, users, items), np.where(items >= 0, scores, 0), atol=1e-4)


def test_vectors_of_new_items_enter_the_index(fitted, monkeypatch):
    source, _ = fitted
    monkeypatch.setattr(item_index, "LARGE", 100)
    first = source.index
    first.prepare()
    more = np.concatenate([first.vectors, 5 * first.vectors[:1]])
    grown = ItemIndex(more, np.append(first.known, True), None, previous=first)
    assert grown.approximate.search(first.vectors[:1], 1)[0][0, 0] == len(first.vectors)


def test_nobody_pays_for_the_index_library_without_a_large_catalogue():
    modules = "recsys_cli.retrieval.registry, recsys_cli.retrieval.vectors.approximate_index"
    program = f"import sys, {modules}; print('faiss' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
