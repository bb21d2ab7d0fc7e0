"""The pipeline split at the utility gives what the whole gives, and what people did since counts."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.pipeline.config import DiversityConfig, ExplorationConfig
from recsys_cli.pipeline.since import Since, with_since
from recsys_cli.serving.checked import chosen_at_once, looks_at_each_alone
from recsys_cli.serving.newcomers import Newcomers
from recsys_cli.serving.pooling import NEW, Choice, Parts, build_pools, choose, pool_engine

USERS = np.arange(-1, 30, dtype=np.int32)


@pytest.fixture(scope="module")
def pools(engine):
    return build_pools(pool_engine(engine, 60), USERS)


def test_a_slate_chosen_from_a_pool_is_the_slate_of_the_whole_pipeline(engine, pools):
    chosen = choose(engine, [Choice(int(u), p, 10, explain=True) for u, p in zip(USERS, pools, strict=True)])
    whole = engine.slates(USERS, 10)
    np.testing.assert_array_equal(chosen.items, whole.items)
    assert chosen.fallback == whole.fallback
    np.testing.assert_allclose(chosen.scores["utility"], whole.scores["utility"], rtol=1e-5)
    for name in ("p_click", "p_like", "dwell"):  # kept in half precision
        np.testing.assert_allclose(chosen.scores[name], whole.scores[name], rtol=2e-3, atol=1e-4)


def test_requests_chosen_for_together_get_what_each_gets_alone(engine, pools):
    pairs = enumerate(zip(USERS, pools, strict=True))
    choices = [Choice(int(u), p, 7, salt=i, items=p.items[:i]) for i, (u, p) in pairs]
    together = choose(engine, choices)
    for row, choice in enumerate(choices):
        np.testing.assert_array_equal(together.items[row], choose(engine, [choice]).items[0])


def test_what_is_excluded_is_not_shown_and_the_next_moves_up(engine, pools):
    pool, plain = pools[3], DiversityConfig(enabled=False)
    engine = engine.with_pipeline(engine.pipeline.model_copy(update={"diversity": plain}))
    first = choose(engine, [Choice(2, pool, 5)]).items[0]
    after = choose(engine, [Choice(2, pool, 5, items=first[[0, 2]])]).items[0]
    assert not set(after) & set(first[[0, 2]])
    assert list(after[:3]) == list(first[[1, 3, 4]])
    author = engine.state.catalogue.item_author[first[0]]
    rest = choose(engine, [Choice(2, pool, 5, authors=np.array([author]))]).items[0]
    assert author not in engine.state.catalogue.item_author[rest[rest >= 0]]


def test_exploration_differs_from_one_request_to_the_next_and_repeats_with_its_salt(engine, pools):
    exploring = engine.with_pipeline(
        engine.pipeline.model_copy(update={"exploration": ExplorationConfig(enabled=True, epsilon=0.5)})
    )
    def draw(salt):
        return choose(exploring, [Choice(4, pools[5], 10, salt=salt)]).items[0].tolist()

    assert draw(1) == draw(1)
    assert len({tuple(draw(salt)) for salt in range(8)}) > 4


def test_the_callers_items_are_ranked_by_the_same_utility(engine, pools):
    pool = pools[6]
    mine = pool.items[[4, 0, 9]]
    ranked = build_pools(pool_engine(engine, 60), np.array([5], np.int32), candidates=mine[None])[0]
    assert set(ranked.items) == set(mine)
    assert (np.diff(ranked.scores["utility"]) <= 0).all()


def test_scores_that_are_not_finite_take_their_items_out_and_are_told(engine, monkeypatch):
    heavy = engine.bundle.heavy
    predict = type(heavy).predict

    def broken(self, *given):
        out = predict(self, *given)
        return {name: np.where(np.arange(len(v)) % 7 == 0, np.nan, v).astype(np.float32) for name, v in out.items()}

    monkeypatch.setattr(type(heavy), "predict", broken)
    pool = build_pools(pool_engine(engine, 60), np.array([3], np.int32))[0]
    assert len(pool) and np.isfinite(pool.scores["utility"]).all()
    assert "not finite" in pool.failures[0]


def test_a_stranger_with_a_history_gets_what_a_guest_of_the_engine_gets(engine):
    ids = engine.bundle.item_ids.external([10, 20, 30])
    guest = engine.recommend_from(ids, 10)
    state, snapshot, users = with_since(engine.state, engine.snapshot, np.array([-1]), [Since((10, 20, 30))])
    pool = build_pools(pool_engine(replace(engine, state=state, snapshot=snapshot), 60), users)[0]
    chosen = choose(engine, [Choice(-1, pool, 10)]).items[0]
    assert engine.bundle.item_ids.external(chosen) == [r.item_id for r in guest.items]


def test_what_somebody_did_since_is_laid_over_what_the_run_knows(engine):
    state = engine.state
    follows, blocked = state.follows[7].tolist(), state.blocked[5].tolist()
    assert follows and blocked
    since = Since((3, 4), (8,), (2,), (1,), (follows[0],), (blocked[0],))
    new, _, users = with_since(state, engine.snapshot, np.array([7, 9, 5]), [since, None, since])
    assert users.tolist() == [state.catalogue.n_users, 9, state.catalogue.n_users + 1]
    assert new.history[users[0]].tolist() == [*state.history[7], 3, 4]
    assert new.seen[users[0]].tolist() == sorted({*state.seen[7], 8, 3, 4})
    assert new.follows[users[0]].tolist() == sorted({*follows[1:], 2})
    assert new.blocked[users[2]].tolist() == sorted({*blocked[1:], 1})
    assert (np.diff(new.history_time[users[0]]) >= 0).all()
    np.testing.assert_array_equal(new.history[7], state.history[7])


def test_features_of_people_with_news_are_those_that_the_run_counted(engine):
    _, snapshot, users = with_since(engine.state, engine.snapshot, np.array([7]), [Since((3,))])
    context = engine.context(None)
    items = np.array([[1, 2, 3]], np.int32)
    np.testing.assert_array_equal(
        snapshot.features(users, items, context), engine.snapshot.features(np.array([7]), items, context)
    )


def test_new_items_stand_at_every_fourth_place_those_that_fit_first(engine, pools):
    catalogue, pool = engine.state.catalogue, pools[3]
    fitting, other, blocked = 100, 101, 102
    authors = catalogue.item_author.copy()
    authors[[fitting, other, blocked]] = catalogue.item_author[pool.items[0]], -1, 7
    new = Newcomers(np.array([blocked, other, fitting], np.int32), catalogue.item_topics, authors)
    best = new.best(pool, np.array([5], np.int32), np.array([7], np.int32))
    assert best.tolist() == [fitting, other]
    assert new.best(pool, np.array([100, 101, 102], np.int32), None).tolist() == []
    plain = choose(engine, [Choice(2, pool, 10)])
    both = choose(engine, [Choice(2, pool, 10, new=best, every=4), Choice(2, pool, 10)])
    assert both.items[0].tolist() == [*plain.items[0][:3], fitting, *plain.items[0][3:6], other, *plain.items[0][6:8]]
    np.testing.assert_array_equal(both.items[1], plain.items[0])
    assert both.scores["utility"][0, 3] == plain.scores["utility"][0, 2]
    assert both.scores[NEW].nonzero()[1].tolist() == [3, 7]
    short = replace(pool, items=pool.items[:2], sources=pool.sources[:2], scores={"utility": np.ones(2, np.float32)})
    assert fitting not in choose(engine, [Choice(2, short, 10, new=best, every=4)]).items


@pytest.mark.parametrize("left", [60, 29, 3, 0])
def test_looking_at_the_top_of_a_pool_first_gives_what_the_whole_of_it_gives(engine, pools, left):
    plain = engine.with_pipeline(engine.pipeline.model_copy(update={"diversity": DiversityConfig(enabled=False)}))
    parts = Parts.of(plain)
    assert parts.from_the_top
    far = int(np.flatnonzero(~np.isin(np.arange(len(engine.bundle.item_ids)), pools[3].items))[0])
    deep = [int(i) for i in pools[3].items]
    hidden = np.array([far, *deep[: max(len(deep) - left, 0)]], np.int32)
    choices = [Choice(2, pools[3], 5, items=hidden), Choice(3, pools[4], 5)]
    whole = choose(plain, choices, replace(parts, from_the_top=False))
    first = choose(plain, choices, parts)
    np.testing.assert_array_equal(first.items, whole.items)
    assert first.items[0, 0] == (-1 if not left else deep[-min(left, len(deep))])
    np.testing.assert_array_equal(first.scores["utility"], whole.scores["utility"])
    assert not parts.barred.any()


def test_a_slate_chosen_at_once_is_the_one_that_the_stages_make_of_the_whole_pool(engine, pools):
    plain = engine.with_pipeline(engine.pipeline.model_copy(update={"diversity": DiversityConfig(enabled=False)}))
    parts = Parts.of(plain)
    exploring = plain.pipeline.model_copy(update={"exploration": ExplorationConfig(enabled=True)})
    assert looks_at_each_alone(parts) and not looks_at_each_alone(Parts.of(plain.with_pipeline(exploring)))
    before, rng = [pool.items.copy() for pool in pools], np.random.default_rng(3)
    for round in range(2):  # the second time from what was worked out the first time
        for user, pool in zip(USERS, pools, strict=True):
            barred = rng.choice(pool.items, min(len(pool), [0, 5, 55][user % 3]), replace=False)
            new = np.array([engine.bundle.catalogue.n_items - 1], np.int32) if user % 2 else None
            choice = Choice(int(user), pool, 10, items=barred, new=new, every=4, explain=round == 1)
            whole = choose(plain, [choice], replace(parts, from_the_top=False))
            once = chosen_at_once(plain, choice, parts, plain.state)
            np.testing.assert_array_equal(once.items, whole.items)
            np.testing.assert_array_equal(once.sources, whole.sources)
            for name in once.scores:
                np.testing.assert_array_equal(once.scores[name], whole.scores[name], err_msg=name)
            assert round == 0 or {"p_click", "dwell"} <= once.scores.keys()
    assert all((pool.items == items).all() for pool, items in zip(pools, before, strict=True))
