"""From ranking to slate: caps hold, exploration explores as often as it says."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.pipeline.candidates import significant
from recsys_cli.pipeline.config import DiversityConfig, ExplorationConfig
from recsys_cli.pipeline.exploration.explore import Explore
from recsys_cli.pipeline.selection import Caps, Select


def greedy(order, author, topics, size, length, least_author, least_topic):
    """The same rule, item by item."""
    written, tagged = sum(a >= 0 for a in author), sum(bool(t) for t in topics)
    per_author = {a: max(least_author, 2 * author.count(a) * size // written) for a in author if a >= 0}
    every = [t for row in topics for t in row]
    per_topic = {t: max(least_topic, 2 * every.count(t) * size // tagged) for t in every}
    used_author, used_topic, out, left = {}, {}, [], list(order)
    for _ in range(min(length, len(left))):
        pick = next(
            (
                i
                for i in left
                if (author[i] < 0 or used_author.get(author[i], 0) < per_author[author[i]])
                and all(used_topic.get(t, 0) < per_topic[t] for t in topics[i])
            ),
            left[0],
        )
        left.remove(pick)
        out.append(pick)
        used_author[author[pick]] = used_author.get(author[pick], 0) + 1
        for t in topics[pick]:
            used_topic[t] = used_topic.get(t, 0) + 1
    return out


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_caps_agree_with_a_walk_down_the_ranking(make, data):
    n = data.draw(st.integers(1, 12))
    author = data.draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    topics = data.draw(st.lists(st.lists(st.integers(0, 4), max_size=2, unique=True), min_size=n, max_size=n))
    orders = [data.draw(st.permutations(range(n))) for _ in range(2)]
    size = data.draw(st.integers(1, 6))
    catalogue = make.catalogue(author, topics=topics)
    stage = Caps(DiversityConfig(max_per_author=2, max_topic_share=0.5), reserve=3)
    out = stage(make.query(make.state(catalogue), [0, 1], size=size), make.candidates(orders))
    per_topic = max(1, int(0.5 * size))
    for row, order in enumerate(orders):
        expected = greedy(order, author, topics, size, min(size + 3, n), 2, per_topic)
        assert out.items[row].tolist() == expected


def test_a_slate_is_full_even_where_the_caps_cannot_hold(make):
    catalogue = make.catalogue([0] * 6)
    stage = Caps(DiversityConfig(max_per_author=2, max_topic_share=None), reserve=0)
    out = stage(make.query(make.state(catalogue), [1], size=4), make.candidates([[5, 4, 3, 2, 1, 0]]))
    assert out.items.tolist() == [[5, 4, 3, 2]]


def test_a_shop_of_four_categories_may_fill_half_of_a_slate_with_one_and_many_topics_keep_the_cap(make):
    def topics_shown(n_topics):
        topics = [[i % n_topics] for i in range(400)]
        catalogue = make.catalogue([-1] * 400, topics=topics)
        best = [i for i in range(400) if topics[i] == [0]][:20] + [i for i in range(400) if topics[i] != [0]][:80]
        stage = Caps(DiversityConfig(), reserve=0)
        out = stage(make.query(make.state(catalogue), [0], size=10), make.candidates([best]))
        return sum(topics[i] == [0] for i in out.items[0])

    assert topics_shown(1) == 10 and topics_shown(2) == 10 and topics_shown(4) == 5 and topics_shown(20) == 3


def test_caps_change_nothing_where_the_data_has_neither_authors_nor_topics(make):
    catalogue = make.catalogue([-1] * 30)
    order = list(range(29, -1, -1))
    out = Caps(DiversityConfig(), reserve=5)(make.query(make.state(catalogue), [0], size=10), make.candidates([order]))
    assert out.items[0].tolist() == order[:15]


def test_short_rows_stay_short(make):
    catalogue = make.catalogue([0, 1, 2])
    query = make.query(make.state(catalogue), [0, 1], size=3)
    candidates = make.candidates([[2, -1, -1], [0, 1, 2]])
    for stage in (Caps(DiversityConfig(), 2), Explore(ExplorationConfig(epsilon=1.0)), Select()):
        out = stage(query, candidates)
        assert [sorted(r[r >= 0]) for r in out.items] == [[2], [0, 1, 2]]
        assert out.items[0, 0] == 2


def explore(make, users, k=50, size=10, epsilon=0.1, **more):
    catalogue = make.catalogue([-1] * k, users=max(max(users) + 1, 1))
    query = make.query(make.state(catalogue), users, size=size, **more)
    return Explore(ExplorationConfig(epsilon=epsilon))(query, make.candidates([list(range(k))] * len(users)))


def test_exploration_gives_a_permutation_at_the_stated_rate(make):
    out = explore(make, list(range(2000)))
    assert (np.sort(out.items, axis=1) == np.arange(50)).all()
    rate = out.scores["explored"][:, :10].mean()
    assert abs(rate - 0.1) < 4 * np.sqrt(0.1 * 0.9 / 20000)
    assert out.scores["explored"][:, 10:].sum() == 0


def test_explored_slots_are_drawn_uniformly_from_what_is_left(make):
    out = explore(make, list(range(4000)), k=5, size=1, epsilon=1.0)
    counts = np.bincount(out.items[:, 0], minlength=5)
    assert np.abs(counts - 800).max() < 5 * np.sqrt(800)


def test_without_exploration_the_order_stands(make):
    assert (explore(make, [0, 1], epsilon=0.0).items == np.arange(50)).all()


def test_a_user_explores_alike_alone_and_in_a_batch_and_otherwise_next_time(make):
    together = explore(make, [3, 7, 9], epsilon=0.5)
    alone = explore(make, [7], epsilon=0.5)
    assert together.items[1].tolist() == alone.items[0].tolist()
    assert explore(make, [7], epsilon=0.5, salt=1).items.tolist() != alone.items.tolist()
    assert explore(make, [7], epsilon=0.5, seed=1).items.tolist() != alone.items.tolist()


def test_select_cuts_and_pads(make):
    state = make.state(make.catalogue([0] * 5))
    cut = Select()(make.query(state, [0], size=2), make.candidates([[4, 3, 2]], utility=[[3, 2, 1]]))
    assert cut.items.tolist() == [[4, 3]]
    padded = Select()(make.query(state, [0], size=5), make.candidates([[4, 3]], utility=[[3, 2]]))
    assert padded.items.tolist() == [[4, 3, -1, -1, -1]]


def test_the_best_come_first_and_equal_scores_by_position(make):
    candidates = make.candidates([[7, 3, 5, -1]], utility=[[0.5, 0.5, 0.9, 99.0]])
    assert candidates.best("utility", 3).items.tolist() == [[5, 3, 7]]


@given(st.floats(-1e6, 1e6, allow_subnormal=False))
def test_rounding_keeps_six_digits(value):
    assert abs(significant(np.array([value]))[0] - value) <= abs(value) * 1e-6
