"""What every candidate source promises, whichever its kind."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.data.state import State
from recsys_cli.errors import ArtifactError
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import Retriever, Window
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.reason import Reason
from recsys_cli.testing.planted_world import DAY, NOW, edges, make_catalogue, make_log, make_window, planted
from recsys_cli.testing.refusal import must_refuse

USERS = 120
"""Users of the planted world."""
CUT = NOW - 4 * DAY
"""Moment as of which a source is fitted."""


def check_retriever(source: type[Retriever], config: RetrieverConfig | None = None) -> None:
    """Fit, ask, save and load a source on a small world; AssertionError names the promise that it breaks.

    config: settings with which a fit takes seconds, by default those of the kind. In the world 120 users click nine
    times of ten on items of their own community, follow its members, and items tell it by topic, words and author.
    """
    config = source.config_type() if config is None else config
    told = config.model_dump(mode="json")
    assert source.config_type.model_validate(told) == config, "settings come back from what is written of them"
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, CUT, follows)
    fitted = _fitted(source, config, window)
    _check_rows(fitted, window)
    _check_scores(fitted, window.state)
    _check_future(fitted, window)
    _check_guest(fitted, window)
    _same(fitted, _fitted(source, config, window), window.state, "the same seed and log give the same source")
    if source.learns:
        with tempfile.TemporaryDirectory() as name:
            _check_two_lives(fitted, window.state, Path(name))
    _check_tiny_worlds(source, config)


def _fitted(source: type[Retriever], config: RetrieverConfig, window: Window) -> Retriever:
    out = source(config)
    lack = out.missing(window)
    assert lack is None or isinstance(lack, str), "what is missing is told in words"
    out.fit(window, Progress())
    return out


def _everybody() -> np.ndarray:
    """All users, and before them somebody unknown."""
    return np.arange(-1, USERS, dtype=np.int32)


def _check_rows(source: Retriever, window: Window) -> None:
    users, k = _everybody(), 500  # more than there are items
    items, scores = source.retrieve(window.state, users, k)
    assert items.shape == scores.shape == (len(users), k), "retrieve gives [B, k]"
    assert items.dtype == np.int32 and scores.dtype == np.float32, "items are int32, scores float32"
    assert ((items >= 0) == np.isfinite(scores)).all(), "an empty slot is item -1 and score -inf"
    filled = (items >= 0).sum(axis=1)
    assert (items[np.arange(k) >= filled[:, None]] == -1).all(), "rows are filled from the front"
    assert filled[1:].max() > 0, "somebody gets something"
    assert (items < window.catalogue.n_items).all(), "items are of the catalogue"
    assert (scores[:, 1:] <= scores[:, :-1]).all(), "the best stands first"
    assert all(len(np.unique(row[:n])) == n for row, n in zip(items, filled, strict=True)), "no item stands twice"
    if source.config.exclude_seen:
        seen = window.state.seen.contains(np.arange(USERS), items[1:])
        assert not seen.any(), "with exclude_seen nothing is proposed that was seen"
    items, scores = source.retrieve(window.state, users, 30)
    for at in (0, 1, 50, USERS):
        alone = source.retrieve(window.state, users[at : at + 1], 30)
        same = np.array_equal(alone[0][0], items[at]) and np.array_equal(alone[1][0], scores[at])
        assert same, "a user alone gets what the user gets in a batch"


def _check_scores(source: Retriever, state: State) -> None:
    users = np.arange(0, USERS, 7, dtype=np.int32)
    items, scores = source.retrieve(state, users, 20)
    reasons = source.explain(state, int(users[1]), items[1, :3])
    assert len(reasons) == 3 and all(isinstance(r, Reason) for r in reasons), "explain gives one reason an item"
    given = source.score(state, users, items)
    if given is None:
        return
    expected = np.where(items >= 0, scores, 0)
    assert np.allclose(given, expected, rtol=1e-5, atol=1e-6), "score agrees with retrieve"
    pairs = source.score(state, np.repeat(users, 20), items.reshape(-1, 1)).reshape(items.shape)
    assert np.allclose(pairs, given, rtol=1e-5, atol=1e-6), "a pair alone has the score that it has in a batch"
    assert not source.score(state, np.array([-1], np.int32), items[:1]).any(), "somebody unknown scores 0"


def _check_future(source: Retriever, window: Window) -> None:
    created = window.catalogue.item_created.copy()
    created[::3] = CUT + np.arange(len(created[::3])) % 2
    later = dataclasses.replace(window.catalogue, item_created=created)
    state = make_window(later, window.log, CUT, edges([(u, (u + 5) % USERS) for u in range(USERS)])).state
    items = source.retrieve(state, np.arange(USERS, dtype=np.int32), 300)[0]
    assert (items >= 0).any() and (items[items >= 0] % 3 != 0).all(), "items that do not exist yet are not proposed"


def _check_guest(source: Retriever, window: Window) -> None:
    history = window.state.history[7]
    state, guest = with_guest(window.state, history), np.array([window.catalogue.n_users], np.int32)
    items, scores = source.retrieve(state, guest, 20)
    assert items.shape == scores.shape == (1, 20), "somebody who is not in the data can ask"
    if source.config.exclude_seen:
        assert not np.isin(items, history).any(), "a guest's own history is not proposed"
    given = source.score(state, guest, items)
    assert given is None or given.shape == (1, 20), "a guest's items have scores"
    assert len(source.explain(state, int(guest[0]), items[0, :3])) == 3, "a guest's items have reasons"


def _same(one: Retriever, other: Retriever, state: State, promise: str) -> None:
    (items, scores), (expected, theirs) = (s.retrieve(state, _everybody(), 50) for s in (one, other))
    assert np.array_equal(items, expected), promise
    assert np.allclose(scores, theirs, rtol=0, atol=1e-5), promise


def _check_two_lives(source: Retriever, state: State, folder: Path) -> None:
    save_checkpoint(folder / "source.pt", source.checkpoint())
    restored, part = type(source)(source.config), folder / "part"
    restored.restore(load_checkpoint(folder / "source.pt"))
    _same(restored, source, state, "a checkpoint restores the same source")
    part.mkdir()
    source.save(part)
    _same(type(source).load(source.config, part), source, state, "it serves what it learned")
    file = next(path for path in sorted(part.rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes()[:-100])
    must_refuse(ArtifactError, type(source).load, source.config, part, what=f"{file.name} without its end")
    file.unlink()
    must_refuse(ArtifactError, type(source).load, source.config, part, what=f"a bundle without {file.name}")


def _check_tiny_worlds(source: type[Retriever], config: RetrieverConfig) -> None:
    nothing = make_window(make_catalogue(3, [0, 1], [NOW - 5, NOW - 5]), make_log([]))
    items = _fitted(source, config, nothing).retrieve(nothing.state, np.array([0, -1], np.int32), 4)[0]
    assert items.shape == (2, 4), "an empty log is no error"
    one = make_window(make_catalogue(1, [0], [NOW - 5]), make_log([(0, 0, NOW - 2)]), follows=edges([(0, 0)]))
    items = _fitted(source, config, one).retrieve(one.state, np.array([0], np.int32), 3)[0]
    assert items[0, 0] in (0, -1) and (items[0, 1:] == -1).all(), "one user and one item are enough"
