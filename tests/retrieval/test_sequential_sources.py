"""Sequential sources: planted order, causality, the losses, both lives, repeats, actions and times, resuming."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY, NOW, make_catalogue, make_log, make_window
from torch.nn import functional as F

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged, offsets_of
from recsys_cli.data.schema import HOUR
from recsys_cli.errors import ArtifactError
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighbours, ItemNeighboursConfig
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig
from recsys_cli.retrieval.registry import SOURCES, make
from recsys_cli.retrieval.sequential.networks.encoder import gap_codes
from recsys_cli.retrieval.sequential.networks.losses import Repeats, full_softmax, gbce, next_item_loss, sampled_softmax
from recsys_cli.retrieval.sequential.networks.trainer import (
    MembersTrainer,
    SequenceTrainer,
    batches,
    pieces,
    repeat_bias,
)

KINDS = ("sasrec", "gru4rec", "bert4rec")
ITEMS, STEP = 60, 7
SMALL = {
    "dim": 32, "layers": 1, "epochs": 12, "batch_size": 512, "learning_rate": 0.01, "dropout": 0.1,
    "precision": "float32", "history": 24,
}


def config(kind, **more):
    # of each row BERT4Rec learns a few events only: it takes more passes
    given = {**SMALL, "kind": kind, **more}
    return SOURCES[kind].config_type(**{**given, "epochs": given["epochs"] * (4 if kind == "bert4rec" else 1)})


def chains(users: int = 90, length: int = 15, seed: int = 0, noise: float = 0.1):
    """(window, the item after each user's last): people walk around a ring of items in steps of STEP.

    Every item is equally popular, and what somebody touched early on says nothing once the last item is known.
    """
    rng = np.random.default_rng(seed)
    rows, after = [], []
    for user in range(users):
        at = int(rng.integers(ITEMS))
        for n in range(length):
            item = at if rng.random() > noise else int(rng.integers(ITEMS))
            rows.append((user, item, NOW - 10 * DAY + (n * users + user) * HOUR // 60))
            at = (at + STEP) % ITEMS
        after.append((rows[-1][1] + STEP) % ITEMS)
    return make_window(make_catalogue(users, [-1] * ITEMS), make_log(rows)), np.array(after)


@pytest.fixture(scope="module")
def world():
    return chains()


@pytest.fixture(scope="module")
def fitted(world):
    """kind → (source, its torch networks)"""
    found, export = {}, MembersTrainer.export
    with pytest.MonkeyPatch.context() as patch:
        for kind in KINDS:
            kept = []
            patch.setattr(MembersTrainer, "export", lambda self, kept=kept: (kept.append(self), export(self))[1])
            source = make(config(kind, exclude_seen=False))
            source.fit(world[0], Progress())
            found[kind] = source, [m.model.eval() for m in kept[0].members]
    return found


def found_at(source, state, after, k: int) -> float:
    items = source.retrieve(state, np.arange(len(after), dtype=np.int32), k)[0]
    return float((items == after[:, None]).any(axis=1).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_planted_order_is_found(world, fitted, kind):
    window, after = world
    popularity = Popularity(PopularityConfig(exclude_seen=False))
    neighbours = ItemNeighbours(ItemNeighboursConfig(exclude_seen=False))
    for source in (popularity, neighbours):
        source.fit(window, Progress())
    mine = found_at(fitted[kind][0], window.state, after, 3)
    assert mine > 0.7
    assert mine > 3 * found_at(popularity, window.state, after, 3)
    assert mine > found_at(neighbours, window.state, after, 3) + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_the_served_graph_gives_the_scores_of_torch(world, fitted, kind):
    window, _ = world
    source, (model,) = fitted[kind]
    users = np.arange(0, 90, 4, dtype=np.int32)
    every = np.tile(np.arange(ITEMS, dtype=np.int32), (len(users), 1))
    served = source.score(window.state, users, every)
    for user, row in zip(users, served, strict=True):
        history = window.state.history[user]
        tokens = torch.from_numpy(history.astype(np.int64) + 1)
        if kind == "bert4rec":
            tokens = torch.cat([tokens, torch.tensor([ITEMS + 1])])
        nothing = torch.zeros(1, len(tokens), dtype=torch.int64)
        with torch.no_grad():
            given = model(tokens[None], torch.zeros(1, len(tokens), 0), nothing, torch.tensor([len(tokens)]))
            scores = (model.items @ given[0, -1]).numpy()
        scores[np.unique(history)] += source._meta["repeats"]
        np.testing.assert_allclose(row, scores, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_later_changes_nothing_before_it_where_the_network_is_causal(fitted, kind):
    model = fitted[kind][1][0]
    tokens = torch.arange(1, 13)[None]
    later = tokens.clone()
    later[0, 8:] = torch.tensor([40, 41, 42, 43])
    nothing = torch.zeros(1, 12, dtype=torch.int64)
    with torch.no_grad():
        one, other = (model(t, torch.zeros(1, 12, 0), nothing, torch.tensor([12])) for t in (tokens, later))
    assert (one[0, 8:] - other[0, 8:]).abs().max() > 0.01
    assert ((one[0, :8] - other[0, :8]).abs().max() < 1e-5) == (kind != "bert4rec")


@pytest.mark.parametrize("kind", KINDS)
def test_a_history_folds_in_to_the_vector_of_the_one_who_has_it(world, fitted, kind):
    state, source = world[0].state, fitted[kind][0]
    users = np.arange(90, dtype=np.int32)
    own, known = source.vectors(state, users)
    folded = source.fold_in([state.history[u] for u in users])
    assert known.all()
    np.testing.assert_allclose(folded, own, atol=1e-6)
    # what is not known is left out
    np.testing.assert_allclose(source.fold_in([np.append(state.history[3], ITEMS + 5)])[0], own[3], atol=1e-6)
    assert not source.fold_in([np.array([ITEMS + 1])]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_new_events_count_without_training(world, fitted, kind):
    window, source = world[0], fitted[kind][0]
    for item in (5, 33):
        state = with_guest(window.state, np.array([(item - STEP) % ITEMS, item], np.int32))
        guest = np.array([90], np.int32)
        assert (item + STEP) % ITEMS in source.retrieve(state, guest, 3)[0]


def test_members_are_averaged(world):
    window, _ = world
    both = make(config("sasrec", members=2, epochs=2))
    kept, export = [], MembersTrainer.export
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MembersTrainer, "export", lambda self: (kept.append(self), export(self))[1])
        both.fit(window, Progress())
    alone = make(config("sasrec", epochs=2))
    alone.fit(window, Progress())
    one, two = (m.model for m in kept[0].members)
    np.testing.assert_allclose(alone.index.vectors, one.items.detach(), atol=1e-6)
    assert (one.items - two.items).abs().max() > 0.01
    history = torch.from_numpy(window.state.history[0].astype(np.int64) + 1)[None]
    nothing = torch.zeros_like(history)
    with torch.no_grad():
        scores = [m.items @ m(history, torch.zeros(1, 15, 0), nothing, torch.tensor([15]))[0, -1] for m in (one, two)]
    scores = (sum(scores) / 2).numpy()
    scores[np.unique(window.state.history[0])] += both._meta["repeats"]
    every = np.arange(ITEMS, dtype=np.int32)[None]
    np.testing.assert_allclose(both.score(window.state, np.array([0]), every)[0], scores, atol=2e-5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_fit_goes_on_to_the_same_result(world, kind, tmp_path, monkeypatch):
    small = config(kind, members=2, epochs=2, dim=8).model_copy(update={"epochs": 2})
    whole = make(small)
    whole.fit(world[0], Progress())
    epoch, done = SequenceTrainer.epoch, []

    def dying(self, rng):
        if len(done) == 3:
            raise Killed
        done.append(self.done)
        return epoch(self, rng)

    monkeypatch.setattr(SequenceTrainer, "epoch", dying)
    with pytest.raises(Killed):
        make(small).fit(world[0], Progress(), tmp_path / "progress.pt")
    assert done == [0, 1, 0]
    done.clear()
    resumed = make(small)
    resumed.fit(world[0], Progress(), tmp_path / "progress.pt")
    assert done == [1]
    users = np.arange(90, dtype=np.int32)
    np.testing.assert_allclose(resumed.index.vectors, whole.index.vectors, atol=1e-6)
    np.testing.assert_allclose(
        resumed.vectors(world[0].state, users)[0], whole.vectors(world[0].state, users)[0], atol=1e-6
    )


def test_gbce_by_hand():
    positive, negative = torch.tensor([1.0, -0.5]), torch.tensor([[0.0, 2.0], [-1.0, 0.5]])
    # 2 of 10 others are drawn: α = 0.2, β = 0.2 (0.75 (1 − 5) + 5) = 0.4
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    first = 0.4 * np.log(sigmoid(1.0)) + np.log(1 - sigmoid(0.0)) + np.log(1 - sigmoid(2.0))
    second = 0.4 * np.log(sigmoid(-0.5)) + np.log(1 - sigmoid(-1.0)) + np.log(1 - sigmoid(0.5))
    assert gbce(positive, negative, 10, 0.75).item() == pytest.approx(-(first + second) / 6, rel=1e-5)
    plain = F.binary_cross_entropy_with_logits(
        torch.cat([positive[:, None], negative], dim=1), torch.tensor([[1.0, 0, 0], [1.0, 0, 0]])
    )
    assert gbce(positive, negative, 10, 0.0).item() == pytest.approx(plain.item(), rel=1e-5)


def test_sampled_softmax_by_hand():
    loss = sampled_softmax(torch.tensor([1.0]), torch.tensor([[0.0, 2.0]]), 10)
    # each of two negatives stands for five items
    assert loss.item() == pytest.approx(np.log(np.exp(1.0) + 5 * np.exp(0.0) + 5 * np.exp(2.0)) - 1.0, rel=1e-5)


@pytest.mark.parametrize("rows", [7, 1300])
def test_softmax_of_a_few_rows_at_a_time_is_the_cross_entropy_of_torch(rows):
    rng = np.random.default_rng(rows)
    hidden = torch.from_numpy(rng.normal(size=(rows, 8)).astype(np.float32)).requires_grad_()
    items = torch.from_numpy(rng.normal(size=(30, 8)).astype(np.float32)).requires_grad_()
    targets = torch.from_numpy(rng.integers(0, 30, rows))
    history = rng.integers(0, 30, (rows, 3))
    bias = torch.zeros(rows, 30)
    bias[torch.arange(rows)[:, None], torch.from_numpy(history)] = -1.5
    expected = F.cross_entropy(hidden @ items.T + bias, targets)
    expected.backward()
    wanted = hidden.grad.clone(), items.grad.clone()
    hidden.grad = items.grad = None
    repeats = Repeats(offsets_of(np.full(rows, 3)), history.ravel(), -1.5)
    loss = full_softmax(hidden, items, targets, repeats)
    (2 * loss).backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(hidden.grad, 2 * wanted[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(items.grad, 2 * wanted[1], atol=1e-6, rtol=1e-4)


def test_sampled_losses_lift_what_the_history_holds_and_spare_the_target():
    small = config("sasrec", loss="sampled_softmax", uniform_negatives=28)
    rng = np.random.default_rng(0)
    hidden = torch.from_numpy(rng.normal(size=(5, 4)).astype(np.float32))
    items = torch.from_numpy(rng.normal(size=(30, 4)).astype(np.float32))
    targets, history = torch.tensor([0, 1, 2, 3, 4]), np.array([[0, 9], [7, 7], [3, 4], [5, 6], [4, 8]])
    repeats = Repeats(offsets_of(np.full(5, 2)), history.ravel(), 0.7)
    drawn = np.sort(np.random.default_rng(3).choice(30, 28, replace=False))
    logits = (hidden @ items.T).numpy()
    for row, held in enumerate(history):
        logits[row, np.unique(held)] += 0.7
    expected = []
    for row, target in enumerate(targets.tolist()):
        others = logits[row, drawn[drawn != target]]
        expected.append(np.log(np.exp(logits[row, target]) + 29 / 28 * np.exp(others).sum()) - logits[row, target])
    loss = next_item_loss(small, hidden, items, targets, repeats, np.random.default_rng(3))
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(("loss", "epochs"), [("sampled_softmax", 12), ("gbce", 24)])
def test_a_sample_of_items_teaches_the_order_too(world, loss, epochs):
    window, after = world
    source = make(config("sasrec", loss=loss, uniform_negatives=20, epochs=epochs, batch_size=128, exclude_seen=False))
    source.fit(window, Progress())
    assert found_at(source, window.state, after, 3) > 0.5


def test_repeat_bias_by_hand():
    # shares: item 1 has 3 of 5 events, 2 and 3 one each; what came before: {1}, {1}, {} | {2}
    tokens = Ragged(offsets_of(np.array([3, 0, 2])), np.array([1, 1, 2, 3, 1]))
    expected = (0 + 0.6 + 0.6) + (0 + 0.2)
    assert repeat_bias(tokens) == pytest.approx(np.log((1 + 1) / (expected + 1)))


@pytest.mark.parametrize("bias", [-8.0, 3.0])
def test_lifted_repeats_rank_as_all_items_sorted_would(world, fitted, bias):
    window, (source, _) = world[0], fitted["sasrec"]
    lifted = make(source.config)
    lifted._set(source._arrays, {**source._meta, "repeats": bias})
    users, every = np.arange(90, dtype=np.int32), np.tile(np.arange(ITEMS, dtype=np.int32), (90, 1))
    scores = lifted.score(window.state, users, every)
    items, values = lifted.retrieve(window.state, users, 9)
    np.testing.assert_allclose(values, -np.sort(-scores, axis=1)[:, :9], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(scores, items, axis=1), values, atol=1e-5)
    held = window.state.history.sorted_rows().contains(users, items).mean()
    assert held > 0.8 if bias > 0 else held < 0.1


def led_on_by_actions_and_times(users: int = 120, items: int = 12):
    """(window, the item after each user's last): a like leads on by 2, none by 7, and 1 further after a long pause."""
    rng, rows = np.random.default_rng(5), []
    for user in range(users):
        at, time = int(rng.integers(items)), NOW - 20 * DAY
        for _ in range(12):
            like, late = rng.random() < 0.5, rng.random() < 0.5
            time += 30 * HOUR if late else 60_000_000
            rows.append((user, at, time, like))
            at = (at + (2 if like else 7) + late) % items
        rows[-1] += (at,)
    after = np.array([row[4] for row in rows if len(row) == 5])
    user, item, time, like = (np.array(c) for c in zip(*(row[:4] for row in rows), strict=True))
    order = np.argsort(time, kind="stable")
    log = Log(
        user=user[order].astype(np.int32), item=item[order].astype(np.int32), time=time[order].astype(np.int64),
        actions={"click": np.ones(len(rows), bool), "like": like[order]}, positive_actions=("click", "like"),
        negative_actions=(),
    )
    return make_window(make_catalogue(users, [-1] * items), log, NOW), after


def test_actions_and_times_tell_what_comes_next_where_the_data_has_them():
    window, after = led_on_by_actions_and_times()
    found = {}
    for extras in (True, False):
        more = {"actions": extras, "time_gaps": extras, "epochs": 10, "batch_size": 128, "repeats": False}
        source = make(config("sasrec", exclude_seen=False, **more))
        source.fit(window, Progress())
        found[extras] = found_at(source, window.state, after, 1)
    assert found[True] > 0.6 > 0.45 > found[False]


@pytest.mark.parametrize("kind", KINDS)
def test_actions_and_times_of_the_state_reach_the_network(world, fitted, kind):
    window, _ = led_on_by_actions_and_times(users=20)
    source = make(config(kind, epochs=1))
    source.fit(window, Progress())
    state, users = window.state, np.arange(20, dtype=np.int32)
    mine = source.vectors(state, users)[0]
    flipped = dataclasses.replace(state, history_actions=_with_values(state.history_actions, lambda v: v ^ 2))
    later = dataclasses.replace(state, history_time=_with_values(state.history_time, lambda v: v * 2))
    for other in (flipped, later):
        assert (np.abs(source.vectors(other, users)[0] - mine).max(axis=1) > 1e-4).all()
    # the ring's world has one action only, and pauses that never differ
    assert fitted[kind][0]._meta["actions"] == 0 and not fitted[kind][0]._meta["gaps"]


def _with_values(rows: Ragged, change) -> Ragged:
    return Ragged(rows.offsets, change(rows.values))


def test_gap_codes_by_hand():
    minute = 60_000_000
    times = np.array([5, 5, 5 + minute, 7, 7 + 3 * DAY])
    # 0 s → 1, 60 s → 1 + ⌊log2 61⌋ = 6, 259,200 s → 1 + 17
    assert gap_codes(np.array([0, 3, 3, 5]), times).tolist() == [0, 1, 6, 0, 18]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=20), st.integers(2, 9), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_pieces_hold_every_event_once_and_batches_every_piece(lengths, longest, seed):
    offsets = offsets_of(np.array(lengths))
    start, length = pieces(offsets, longest, np.random.default_rng(seed))
    row = np.searchsorted(offsets, start, "right") - 1
    assert (length <= longest).all() and (start + length <= offsets[row + 1]).all()
    events = np.concatenate([np.zeros(0), *(np.arange(a, a + n) for a, n in zip(start, length, strict=True))])
    assert sorted(events.tolist()) == list(range(offsets[-1]))
    held = batches(start, length, 20, np.random.default_rng(seed))
    assert sorted(s for part, _ in held for s in part) == sorted(start)
    assert all(len(n) * n.max() <= 20 or len(n) == 1 for _, n in held)


def test_vectors_depend_on_nobody_else(world, fitted):
    window = world[0]
    cut = np.arange(90) % 13 + 1
    history = window.state.history
    rows = [history[u][: cut[u]] for u in range(90)]
    for kind in KINDS:
        source = fitted[kind][0]
        together = source.fold_in(rows)
        for at in (0, 5, 40, 89):
            np.testing.assert_array_equal(source.fold_in([rows[at]])[0], together[at])


def test_a_damaged_graph_is_refused_when_it_is_loaded(fitted, tmp_path):
    source = make(fitted["sasrec"][0].config)
    broken = {**fitted["sasrec"][0]._arrays, "graph": np.arange(200, dtype=np.uint8)}
    source._set(broken, fitted["sasrec"][0]._meta)
    source.save(tmp_path)
    with pytest.raises(ArtifactError, match="graph of a sequential source"):
        type(source).load(source.config, tmp_path)


def test_only_the_latest_events_are_read(world, fitted):
    source = fitted["sasrec"][0]
    long = np.arange(50) % ITEMS
    np.testing.assert_array_equal(source.fold_in([long]), source.fold_in([long[-24:]]))


def test_state_without_kept_actions_is_served(world, fitted):
    state = dataclasses.replace(world[0].state, history_actions=None)
    users = np.arange(5, dtype=np.int32)
    np.testing.assert_array_equal(
        fitted["sasrec"][0].vectors(state, users)[0], fitted["sasrec"][0].vectors(world[0].state, users)[0]
    )


def test_without_anything_next_the_source_steps_aside():
    window = make_window(make_catalogue(3, [-1] * 3), make_log([(u, u, NOW - DAY) for u in range(3)]))
    source = make(config("gru4rec"))
    assert source.missing(window) == "needs people with more than one interaction"
    source.fit(window, Progress())
    assert source.retrieve(window.state, np.arange(3), 2)[0].shape == (3, 2)
