"""TwHIN and LightGCN: what their vectors must satisfy, and training that goes on where it was killed."""

import numpy as np
import pytest
import torch
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window, planted

from recsys_cli.data.ragged import Ragged
from recsys_cli.progress import Progress
from recsys_cli.retrieval.embeddings.lightgcn import LightGcn
from recsys_cli.retrieval.embeddings.lightgcn_config import LightGcnConfig
from recsys_cli.retrieval.embeddings.lightgcn_trainer import LightGcnTrainer, _FullSoftmax, adjacency
from recsys_cli.retrieval.embeddings.twhin import Twhin
from recsys_cli.retrieval.embeddings.twhin_config import TwhinConfig
from recsys_cli.retrieval.embeddings.twhin_trainer import Relation, TwhinTrainer
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig

SMALL_TWHIN = {"dim": 32, "epochs": 6, "batch_size": 256, "uniform_negatives": 64, "learning_rate": 0.02}
SMALL_GCN = {"dim": 16, "epochs": 6, "batch_size": 512, "uniform_negatives": 64}
FULL_GCN = {
    "dim": 16, "layers": 1, "loss": "full_softmax", "initial": "spectral", "annealing": "cosine", "epochs": 6,
    "batch_size": 400,
}


@pytest.fixture(scope="module")
def world():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, NOW - 4 * DAY, follows), log, follows


@pytest.fixture(scope="module")
def twhin(world):
    source = Twhin(TwhinConfig(**SMALL_TWHIN))
    source.fit(world[0], Progress())
    return source


@pytest.fixture(scope="module")
def gcn(world):
    source = LightGcn(LightGcnConfig(**SMALL_GCN))
    source.fit(world[0], Progress())
    return source


@pytest.fixture(scope="module")
def full(world):
    source = LightGcn(LightGcnConfig(**FULL_GCN))
    source.fit(world[0], Progress())
    return source


class Killed(Exception):
    pass


class KilledLater(Progress):
    """Interrupts after so many epochs."""

    def __init__(self, epochs: int):
        self.left = epochs + 1

    def step(self, name, total=None):
        from contextlib import contextmanager

        outer = self

        class Bar:
            def advance(self, amount=1):
                pass

            def describe(self, text):
                outer.left -= 1
                if not outer.left:
                    raise Killed

        @contextmanager
        def bar():
            yield Bar()

        return bar()


@pytest.mark.parametrize(
    ("kind", "config", "name"),
    [
        (Twhin, TwhinConfig(**SMALL_TWHIN), "twhin"),
        (LightGcn, LightGcnConfig(**SMALL_GCN), "gcn"),
        (LightGcn, LightGcnConfig(**FULL_GCN), "full"),
    ],
)
def test_killed_training_ends_where_uninterrupted_training_does(world, kind, config, name, request, tmp_path):
    kept = tmp_path / "progress.pt"
    with pytest.raises(Killed):
        kind(config).fit(world[0], KilledLater(3), kept)
    assert torch.load(kept, weights_only=True)["epoch"] == 3
    source = kind(config)
    source.fit(world[0], Progress(), kept)
    whole = request.getfixturevalue(name)
    for name, array in whole.checkpoint().items():
        np.testing.assert_allclose(source.checkpoint()[name].numpy(), array.numpy(), atol=1e-5)


def test_progress_of_other_data_is_not_taken_up(world, gcn, tmp_path):
    kept = tmp_path / "progress.pt"
    torch.save({"key": "something else", "epoch": 6, "state": {}}, kept)
    source = LightGcn(LightGcnConfig(**SMALL_GCN))
    source.fit(world[0], Progress(), kept)
    np.testing.assert_allclose(source._arrays["items"], gcn._arrays["items"], atol=1e-5)
    kept.write_bytes(b"no checkpoint")
    LightGcn(LightGcnConfig(**{**SMALL_GCN, "epochs": 1})).fit(world[0], Progress(), kept)


def test_twhin_vectors_have_unit_length(world, twhin):
    vectors, known = twhin.vectors(world[0].state, np.arange(-1, 120))
    assert not known[0] and known[1:].all()
    np.testing.assert_allclose(np.linalg.norm(vectors[1:], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(twhin.index.vectors[twhin.index.known], axis=1), 1, rtol=1e-5)


def test_twhin_learns_a_translation_for_each_relation():
    """Each person has one friend and one book; what is asked for, only the relation tells."""
    n, rng = 40, np.random.default_rng(0)
    people = np.repeat(np.arange(n), 20)
    relations = [Relation("friend", people, n + people, n, 3 * n), Relation("book", people, 2 * n + people, n, 3 * n)]
    config = TwhinConfig(dim=32, batch_size=200, uniform_negatives=64, learning_rate=0.02)
    trainer = TwhinTrainer(config, 1, 3 * n, relations)
    for _ in range(40):
        trainer.epoch(rng)
    entities = trainer.entities()
    unit = entities / np.linalg.norm(entities, axis=1, keepdims=True)
    for at, name in enumerate(("friend", "book")):
        found = ((entities[:n] + trainer.translation(name)) @ unit[n:].T).argmax(axis=1)
        assert (found == at * n + np.arange(n)).mean() > 0.9
    untold = (entities[:n] @ unit[n:].T).argmax(axis=1)
    assert (untold == np.arange(n)).mean() < 0.9 and (untold == n + np.arange(n)).mean() < 0.9
    assert not trainer.translation("no such").any()


def test_twhin_gives_a_new_item_the_place_of_its_author(world, twhin):
    window, _, follows = world
    home = np.arange(120) % 5
    catalogue = make_catalogue(
        120, np.append(window.catalogue.item_author, 17), np.append(window.catalogue.item_created, window.end - 1)
    )
    state = make_window(catalogue, window.log, window.end, follows).state
    source = Twhin(twhin.config)
    source.restore(twhin.checkpoint())
    source.adapt(catalogue)
    score = source.score(state, np.arange(120, dtype=np.int32), np.full((120, 1), 400))[:, 0]
    assert score[home == home[17]].mean() > score[home != home[17]].mean() + 0.2


def test_twhin_takes_every_positive_action_where_the_named_ones_are_missing(world):
    window = world[0]
    source = Twhin(TwhinConfig(**{**SMALL_TWHIN, "epochs": 1}, relations=["purchase"], authorship=False))
    assert [r.name for r in source._relations(window, np.arange(120), 120)] == ["click"]


def test_twhin_never_learns_from_items_of_the_future(world):
    window = world[0]
    created = window.catalogue.item_created.copy()
    created[:50] = window.end + 1
    catalogue = make_catalogue(120, window.catalogue.item_author, created)
    relations = Twhin(TwhinConfig())._relations(make_window(catalogue, window.log, window.end), np.arange(120), 120)
    writes = next(r for r in relations if r.name == "writes")
    assert writes.target.min() == 170


@pytest.mark.parametrize("name", ["twhin", "gcn", "full"])
def test_folding_in_ones_own_history_ranks_close_to_ones_own_vector(world, name, request):
    source, state = request.getfixturevalue(name), world[0].state
    users = np.arange(120)
    own, _ = source.vectors(state, users)
    folded = source.fold_in([state.history[u] for u in users])
    items = source.index.vectors

    def best(vectors):
        return np.argsort(-(vectors @ items.T), axis=1)[:, :40]

    shared = np.mean([len(np.intersect1d(a, b)) for a, b in zip(best(own), best(folded), strict=True)]) / 40
    assert shared > 0.6
    assert not source.fold_in([np.array([], np.int32), np.array([-1, 9999])]).any()


def test_lightgcn_vectors_are_the_mean_over_layers_of_the_whole_graph():
    """Against dense matrices: users by their history now, items as exported."""
    rng = np.random.default_rng(7)
    touched = rng.random((9, 6)) < 0.4
    touched[:, 0] = True
    users, items = np.nonzero(touched)
    config = LightGcnConfig(dim=5, layers=3, loss="bpr")
    trainer = LightGcnTrainer(config, 3, users, items, 9, 6)
    whole = np.zeros((15, 15))
    whole[:9, 9:] = touched
    whole += whole.T
    degree = whole.sum(axis=1)
    whole /= np.sqrt(np.outer(np.maximum(degree, 1), np.maximum(degree, 1)))
    np.testing.assert_allclose(adjacency(users, items, 9, 6).to_dense().numpy(), whole, atol=1e-6)
    layer = trainer.weight.detach().numpy().astype(np.float64)
    total = layer.copy()
    for _ in range(3):
        layer = whole @ layer
        total += layer
    final, adds, own = trainer.export()
    np.testing.assert_allclose(final, total[9:] / 4, atol=1e-6)
    source = LightGcn(config)
    source._set({"items": final, "known": np.ones(6, bool), "adds": adds, "own": own})
    log = make_log([(int(u), int(i), NOW - DAY) for u, i in zip(users, items, strict=True)])
    vectors, _ = source.vectors(make_window(make_catalogue(9, [-1] * 6), log).state, np.arange(9))
    np.testing.assert_allclose(vectors, total[:9] / 4, atol=1e-6)


def test_lightgcn_gradients_pass_through_the_graph():
    users, items = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    trainer = LightGcnTrainer(LightGcnConfig(dim=4), 0, users, items, 3, 3)
    dense = adjacency(users, items, 3, 3).to_dense()
    other = trainer.weight.detach().clone().requires_grad_()
    layers = [other]
    for _ in range(3):
        layers.append(dense @ layers[-1])
    goal = torch.arange(24.0).reshape(6, 4)
    (torch.stack(layers).mean(dim=0) * goal).sum().backward()
    (torch.stack(trainer.layers()).mean(dim=0) * goal).sum().backward()
    torch.testing.assert_close(trainer.weight.grad, other.grad)


def test_the_full_softmax_and_its_gradients_are_those_of_a_cross_entropy():
    """In bfloat16 where the processor has it, so to two digits."""
    rng = np.random.default_rng(5)
    touched = rng.random((300, 40)) < 0.1
    touched[:, 3] = True
    people, items = np.nonzero(touched)
    rows = Ragged.group(people, items, 300)

    def unit(n):
        return torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((n, 8))), dim=-1)

    users, table = unit(300), unit(40)
    exact = [users.clone().requires_grad_(), table.clone().requires_grad_()]
    expected = torch.nn.functional.cross_entropy(
        (exact[0] @ exact[1].T / 0.2)[torch.from_numpy(people)], torch.from_numpy(items), reduction="sum"
    )
    (expected * 0.5).backward()
    ours = [users.float().requires_grad_(), table.float().requires_grad_()]
    loss = _FullSoftmax.apply(*ours, rows, 0.2)
    (loss * 0.5).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=2e-3)
    for mine, theirs in zip(ours, exact, strict=True):
        assert (mine.grad - theirs.grad).norm() < 0.02 * theirs.grad.norm()


def test_a_spectral_start_already_tells_communities_apart(world):
    window = world[0]
    users, items, _ = window.interactions
    edges = Ragged.group(users, items, 120).sorted_rows()
    users, items = edges.rows.astype(np.int64), edges.values.astype(np.int64)
    trainer = LightGcnTrainer(LightGcnConfig(**{**FULL_GCN, "dim": 8}), 0, users, items, 120, 400)
    people = torch.nn.functional.normalize(trainer.weight.detach()[:120], dim=-1)
    cosine, same = (people @ people.T).numpy(), np.equal.outer(np.arange(120) % 5, np.arange(120) % 5)
    np.fill_diagonal(same, False)
    assert cosine[same].mean() > cosine[~same & ~np.eye(120, dtype=bool)].mean() + 0.3


def test_annealing_ends_at_small_steps():
    users, items = np.arange(8).repeat(2), np.arange(16) % 8
    trainer = LightGcnTrainer(
        LightGcnConfig(dim=4, epochs=4, annealing="cosine", loss="full_softmax", batch_size=4), 0, users, items, 8, 8
    )
    sizes = []
    for epoch in range(4):
        trainer.epoch(np.random.default_rng(epoch))
        sizes.append(trainer.optimiser.param_groups[0]["lr"])
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 0.8 * 0.02 and sizes[-1] < 0.05 * 0.02


def test_lightgcn_by_the_full_softmax_beats_popularity(world, full):
    window, log, _ = world
    test = log.window(start=window.end)
    popular = Popularity(PopularityConfig())
    popular.fit(window, Progress())

    def recall(source):
        found = source.retrieve(window.state, np.arange(120, dtype=np.int32), 40)[0]
        return (found[test.user] == test.item[:, None]).any(axis=1).mean()

    assert recall(full) > 1.5 * recall(popular)


def test_lightgcn_by_pairs_beats_popularity_too(world):
    window, log, _ = world
    source = LightGcn(LightGcnConfig(dim=32, epochs=40, batch_size=256, loss="bpr"))
    source.fit(window, Progress())
    test = log.window(start=window.end)

    def recall(source):
        found = source.retrieve(window.state, np.arange(120, dtype=np.int32), 40)[0]
        return (found[test.user] == test.item[:, None]).any(axis=1).mean()

    assert recall(source) > 1.4 * recall(Popularity(PopularityConfig()))


def test_the_same_seed_gives_the_same_vectors_and_another_others(world, gcn):
    def items(seed):
        catalogue, log, _ = planted()
        window = make_window(catalogue, log, NOW - 4 * DAY, world[2], seed)
        source = LightGcn(LightGcnConfig(**{**SMALL_GCN, "epochs": 1}))
        source.fit(window, Progress())
        return source._arrays["items"]

    np.testing.assert_allclose(items(3), items(3), atol=1e-6)
    assert np.abs(items(3) - items(4)).max() > 0.01


def test_new_interactions_move_the_user_at_once(world, gcn, twhin):
    window = world[0]
    topic = window.catalogue.item_topics.values
    stranger = 0
    fresh = [(stranger, int(i), window.end + n) for n, i in enumerate(np.flatnonzero(topic == 3)[:25])]
    rows = zip(window.log.user, window.log.item, window.log.time, strict=True)
    log = make_log([tuple(int(x) for x in r) for r in rows] + fresh)
    state = make_window(window.catalogue, log, window.end + 100, edges([(0, 5)])).state
    targets = np.flatnonzero(topic == 3)[25:45][None]
    for source in (gcn, twhin):
        before = source.score(window.state, np.array([stranger]), targets).mean()
        assert source.score(state, np.array([stranger]), targets).mean() > before + 0.1
