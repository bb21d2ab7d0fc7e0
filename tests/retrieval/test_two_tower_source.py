"""Two towers: the loss, the histories, resuming, and items that came after the fit."""

import dataclasses

import numpy as np
import pytest
import torch
from planted import DAY, NOW, make_log, make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.embeddings.sampled_softmax import Table, log_q, sampled_softmax
from recsys_cli.retrieval.embeddings.two_tower import TwoTower
from recsys_cli.retrieval.embeddings.two_tower_config import TwoTowerConfig
from recsys_cli.retrieval.embeddings.two_tower_trainer import Examples, TowerTrainer

SMALL = TwoTowerConfig(
    dim=32, hidden=32, epochs=3, patience=3, batch_size=256, uniform_negatives=64, learning_rate=0.01
)


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, follows=follows)


@pytest.fixture(scope="module")
def fitted(window):
    source = TwoTower(SMALL)
    source.fit(window, Progress())
    return source


def test_log_q_is_the_expected_count_among_the_candidates():
    # of 4 in-batch draws item 0 is expected 3 times in 4, and each of 3 items once in 6 uniform draws / 3
    np.testing.assert_allclose(log_q(np.array([6, 2, 0]), 4, 6), np.log([4 * 0.75 + 2, 4 * 0.25 + 2, 2]), rtol=1e-6)


def test_sampled_softmax_by_hand():
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0], [0.0, 1.0]])
    items = np.array([4, 7, 4, 9])
    correction = torch.log(torch.tensor([0.5, 0.25, 0.5, 0.1]))
    loss = sampled_softmax(users, candidates, items, correction, 0.5)
    logits = np.array([[1.0, 0.6, 1.0, 0.0], [0.0, 0.8, 0.0, 1.0]]) / 0.5 - np.log([0.5, 0.25, 0.5, 0.1])
    # the third candidate is the first user's own item once more: no negative for that user, one for the other
    first = logits[0, 0] - np.log(np.exp(logits[0, [0, 1, 3]]).sum())
    second = logits[1, 1] - np.log(np.exp(logits[1]).sum())
    assert loss.item() == pytest.approx(-(first + second) / 2, rel=1e-5)


def test_hard_negatives_stand_beside_their_own_user_alone():
    users = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    hard = torch.tensor([[[0.8, 0.6]], [[1.0, 0.0]]])
    loss = sampled_softmax(users, candidates, np.array([4, 7]), torch.zeros(2), 0.5, hard)
    logits = np.array([[1.0, 0.6, 0.8], [0.0, 0.8, 0.0]]) / 0.5
    own = logits[0, 0] + logits[1, 1]
    assert loss.item() == pytest.approx(-(own - np.log(np.exp(logits).sum(axis=1)).sum()) / 2, rel=1e-5)


def test_mined_negatives_rank_high_and_were_not_turned_to(window):
    users, items, _ = window.interactions
    config = SMALL.model_copy(update={"hard_negatives": 3, "hard_depth": 20})
    kept = []
    run = TowerTrainer.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TowerTrainer, "run", lambda self, *args: (kept.append(self), run(self, *args)))
        TwoTower(config).fit(window, Progress())
    trainer = kept[0]
    mined = trainer._mine(trainer.train_rows, np.random.default_rng(0))
    seen = set(zip(users.tolist(), items.tolist(), strict=True))
    people = trainer.examples.user[trainer.train_rows]
    assert not any((int(u), int(i)) in seen for u, row in zip(people, mined, strict=True) for i in row)
    with torch.no_grad():
        vectors = trainer.model.item_tower(trainer.item_inputs())
        rows = trainer.train_rows
        shown = np.ones(len(rows), bool)
        vector, _ = trainer._forward(rows, trainer.examples.item[rows], shown, shown)
        scores = (vector @ vectors.T).numpy()[:, trainer.candidates]
    high = np.take_along_axis(-np.sort(-scores, axis=1), np.full((len(rows), 1), 19), axis=1)
    place = np.searchsorted(trainer.candidates, mined)
    assert (np.take_along_axis(scores, place, axis=1) >= high - 1e-5).mean() > 0.95


def test_table_updates_as_sparse_adam_of_torch():
    torch.manual_seed(0)
    table = Table(6, 3, 1.0)
    embedding = torch.nn.Embedding(6, 3, sparse=True, _weight=table.weight.clone())
    optimiser = torch.optim.SparseAdam(embedding.parameters(), lr=0.1)
    for step, rows in enumerate(([0, 2, 2], [2, 5], [0, 1, 5]), start=1):
        values, at = table.take(np.array(rows))
        (values[at] ** 3).sum().backward()
        table.update(0.1, step)
        optimiser.zero_grad()
        (embedding(torch.tensor(rows)) ** 3).sum().backward()
        optimiser.step()
    np.testing.assert_allclose(table.weight, embedding.weight.detach(), rtol=1e-5)


def test_histories_end_strictly_before_the_moment():
    users, items = np.array([1, 0, 1, 1, 1]), np.array([5, 6, 7, 8, 9])
    examples = Examples.of(users, items, np.array([1, 1, 2, 2, 3]), length=2)
    histories = [examples.item[a:b].tolist() for a, b in zip(examples.start, examples.stop, strict=True)]
    assert list(zip(examples.user.tolist(), examples.item.tolist(), histories, strict=True)) == [
        (0, 6, []), (1, 5, []), (1, 7, [5]), (1, 8, [5]), (1, 9, [7, 8]),
    ]


def test_vectors_have_length_one(window, fitted):
    vectors, known = fitted.vectors(window.state, np.arange(120, dtype=np.int32))
    assert known.all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(fitted.index.vectors, axis=1), 1, rtol=1e-5)


def test_serving_computes_what_the_torch_towers_compute(window):
    source, seen = TwoTower(SMALL), {}
    run = TowerTrainer.run

    def keep(self, *args):
        run(self, *args)
        # examples of users who have a later one: their history as of that moment, seen by both lives
        rows = np.flatnonzero(self.examples.stop > self.examples.start)[::97]
        with torch.no_grad():
            whole = np.ones(len(rows), bool)
            users, items = self._forward(rows, self.examples.item[rows], whole, whole)
        ex = self.examples
        seen.update(user=ex.user[rows], item=ex.item[rows], time=ex.time[rows])
        seen.update(users=users.numpy(), items=items.numpy())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TowerTrainer, "run", keep)
        source.fit(window, Progress())
    np.testing.assert_allclose(source.index.vectors[seen["item"]], seen["items"], atol=1e-5)
    for user, time, vector in zip(seen["user"], seen["time"], seen["users"], strict=True):
        state = make_window(window.catalogue, window.log, end=int(time)).state
        np.testing.assert_allclose(source.vectors(state, np.array([user]))[0][0], vector, atol=1e-5)


class Killed(Exception):
    pass


def test_a_killed_fit_goes_on_to_the_same_result(window, tmp_path, monkeypatch):
    whole = TwoTower(SMALL)
    whole.fit(window, Progress())
    train, epochs = TowerTrainer._train_epoch, []

    def dying(self):
        if len(epochs) == 2:
            raise Killed
        epochs.append(self.epoch)
        train(self)

    monkeypatch.setattr(TowerTrainer, "_train_epoch", dying)
    with pytest.raises(Killed):
        TwoTower(SMALL).fit(window, Progress(), tmp_path / "progress.pt")
    epochs.clear()
    resumed = TwoTower(SMALL)
    resumed.fit(window, Progress(), tmp_path / "progress.pt")
    assert epochs == [2]
    for name, array in whole._arrays.items():
        np.testing.assert_allclose(resumed._arrays[name], array, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("content", [b"not a checkpoint", None])
def test_progress_of_something_else_is_not_taken_up(window, fitted, tmp_path, content):
    path = tmp_path / "progress.pt"
    if content is None:
        other = dataclasses.replace(window, seed=window.seed + 1)
        TwoTower(SMALL).fit(other, Progress(), path)
    else:
        path.write_bytes(content)
    source = TwoTower(SMALL)
    source.fit(window, Progress(), path)
    np.testing.assert_allclose(source.index.vectors, fitted.index.vectors, atol=1e-6)


def test_appended_items_find_their_readers_by_content(window, fitted):
    old = window.catalogue
    chosen = np.arange(0, 100)
    new = dataclasses.replace(
        old, item_author=old.item_author[chosen], item_created=np.full(100, NOW - 1),
        item_topics=_rows(old.item_topics, chosen), item_text=_rows(old.item_text, chosen),
        item_codes={k: v[chosen] for k, v in old.item_codes.items()},
        item_numbers={k: v[chosen] for k, v in old.item_numbers.items()},
    )
    grown = old.append_items(new)
    later = make_window(grown, window.log)
    source = TwoTower(SMALL)
    source.restore(fitted.checkpoint())
    before = source.retrieve(later.state, np.arange(120), 500)[0]
    assert before.max() < old.n_items
    source.adapt(grown)
    assert len(source.index.vectors) == old.n_items + 100
    everyone = np.arange(120, dtype=np.int32)
    cosines = source.score(later.state, everyone, np.tile(np.arange(400, 500, dtype=np.int32), (120, 1)))
    topic = old.item_topics.values[:100]
    own = topic[None, :] == (everyone % 5)[:, None]
    # of a reader's own topic and another's, the own one is nearer nine times of ten
    nearer = [np.mean(row[mine][:, None] > row[~mine]) for row, mine in zip(cosines, own, strict=True)]
    assert np.mean(nearer) > 0.9
    # an item whose id was never trained is represented by the same route from the start
    untouched = np.setdiff1d(chosen, window.interactions[1])
    np.testing.assert_allclose(source.index.vectors[400 + untouched], source.index.vectors[untouched], atol=1e-5)


def _rows(ragged, chosen):
    from recsys_cli.data.ragged import Ragged

    places, values = ragged.take(chosen)
    return Ragged.group(places, values, len(chosen))


def test_fold_in_ranks_like_the_users_own_vector(window, fitted):
    users = np.arange(120, dtype=np.int32)
    own, _ = fitted.vectors(window.state, users)
    folded = fitted.fold_in([window.state.history[u] for u in users])
    assert (own * folded).sum(axis=1).mean() > 0.8
    vectors = fitted.index.vectors
    top = [np.argsort(-v @ vectors.T, axis=1)[:, :50] for v in (own, folded)]
    shared = np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(*top, strict=True)])
    assert shared > 0.5


def test_one_interaction_is_enough_to_fit():
    catalogue, _, _ = planted(users=1, items=1, communities=1, each=1)
    window = make_window(catalogue, make_log([(0, 0, NOW - DAY)]))
    source = TwoTower(SMALL)
    source.fit(window, Progress())
    source = TwoTower(SMALL.model_copy(update={"exclude_seen": False}))
    source.fit(window, Progress())
    assert source.retrieve(window.state, np.array([0, -1]), 3)[0].tolist() == [[0, -1, -1], [-1, -1, -1]]


def test_a_later_fit_goes_on_from_an_earlier_one_and_learns_what_is_new_alone(window):
    cut = NOW - 5 * DAY
    early_window = dataclasses.replace(window, log=window.log.window(end=cut), end=cut)
    early = TwoTower(SMALL)
    early.fit(early_window, Progress())
    begun, run = [], TowerTrainer.run
    with pytest.MonkeyPatch.context() as patch:

        def watched(trainer, *args):
            begun.extend((trainer.item_inputs().detach().clone(), trainer))
            run(trainer, *args)

        patch.setattr(TowerTrainer, "run", watched)
        later = TwoTower(SMALL)
        later.begin_from(early)
        later.fit(window, Progress())
    inputs, trainer = begun
    np.testing.assert_allclose(inputs.numpy(), early._arrays["inputs"], atol=1e-6)
    # nothing is held out, and what the earlier fit held out is new too
    assert not len(trainer.held_rows) and trainer.epoch == SMALL.epochs_again
    learned = trainer.examples.time[trainer.train_rows]
    assert learned.min() >= early._meta["until"] and len(learned) < len(trainer.examples.time) / 2
    assert set(window.interactions[2][window.interactions[2] >= early._meta["until"]]) == set(learned)
    assert not np.array_equal(later._arrays["vectors"], early._arrays["vectors"])


def test_going_on_is_the_same_from_a_checkpoint_and_is_a_fresh_fit_where_the_settings_are_others(window):
    cut = NOW - 5 * DAY
    early_window = dataclasses.replace(window, log=window.log.window(end=cut), end=cut)
    early, restored = TwoTower(SMALL), TwoTower(SMALL)
    early.fit(early_window, Progress())
    restored.restore(early.checkpoint())
    found = []
    for earlier in (early, restored):
        source = TwoTower(SMALL)
        source.begin_from(earlier)
        source.fit(window, Progress())
        found.append(source._arrays["vectors"])
    np.testing.assert_array_equal(*found)
    narrow = SMALL.model_copy(update={"dim": 16})
    other, plain = TwoTower(narrow), TwoTower(narrow)
    other.begin_from(early)
    other.fit(window, Progress())
    plain.fit(window, Progress())
    np.testing.assert_array_equal(other._arrays["vectors"], plain._arrays["vectors"])
