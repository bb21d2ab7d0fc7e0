"""Settings chosen on what people did next: the right ones where that is known, the given ones within noise."""

import json

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window, planted

from recsys_cli.data.ragged import Ragged
from recsys_cli.progress import Progress
from recsys_cli.retrieval.linear.ease_slim import EaseConfig
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighboursConfig
from recsys_cli.retrieval.popularity.popularity import PopularityConfig
from recsys_cli.retrieval.registry import make
from recsys_cli.retrieval.tuning import ahead, choose_history_weighting, half_lives, tune_source

WALKERS, ITEMS = 150, 60


def walks(seed: int = 0, *, ordered: bool = True, steps: int = 20):
    """(window, users, wanted): people walk along a ring of items; or jump about on one stretch of it."""
    rng = np.random.default_rng(seed)
    rows, wanted = [], []
    for user in range(WALKERS):
        path = (rng.integers(ITEMS) + np.arange(steps + 4)) % ITEMS
        path = path if ordered else rng.permutation(path)
        rows += [(user, item, NOW - int((steps - place) * DAY)) for place, item in enumerate(path[:steps])]
        wanted.append(path[steps:])
    window = make_window(make_catalogue(WALKERS, [-1] * ITEMS), make_log(rows))
    users = np.repeat(np.arange(WALKERS), 4)
    return window, np.arange(WALKERS, dtype=np.int32), Ragged.group(users, np.concatenate(wanted), WALKERS)


def fitted(config, window):
    source = make(config)
    source.fit(window, Progress())
    return source


def test_decay_is_chosen_where_the_newest_items_tell_what_comes_next():
    window, users, wanted = walks()
    source = fitted(ItemNeighboursConfig(), window)
    config, figures = choose_history_weighting(source, window.state, users, wanted)
    assert config.history_weighting.kind in ("place", "time") and config.history_weighting.strength == "none"
    assert max(figures.values()) > figures["uniform"] + 0.05
    assert {"uniform", "place 0.9", "place 0.8"} < set(figures) and json.dumps(figures)
    again, none = choose_history_weighting(fitted(config, window), window.state, users, wanted)
    assert again == config and none == {}


def test_uniform_stays_where_order_says_nothing():
    for seed in range(3):
        window, users, wanted = walks(seed, ordered=False)
        config, _ = choose_history_weighting(fitted(EaseConfig(), window), window.state, users, wanted)
        assert config.history_weighting.kind == "uniform"


def test_a_column_is_chosen_where_it_tells_what_matters():
    """Two tastes in every history, one of which was played a hundred times as often: the next is of that one."""
    import dataclasses

    from recsys_cli.data.state import State

    catalogue, log, _ = planted()
    topic, rng = catalogue.item_topics.values, np.random.default_rng(0)
    window = make_window(catalogue, log)
    loved = (np.arange(120) + 1) % 5
    rows, plays, wanted = [], [], []
    for user in range(120):
        mine = rng.permutation(np.flatnonzero(topic == loved[user]))[:12]
        other = rng.permutation(np.flatnonzero(topic == (loved[user] + 1) % 5))[:8]
        history = rng.permutation(np.concatenate([mine[:8], other]))
        rows += [(user, item, NOW - int((20 - at) * DAY)) for at, item in enumerate(history)]
        plays += [(NOW - int((20 - at) * DAY), user, 100 if item in mine else 0.2) for at, item in enumerate(history)]
        wanted.append(mine[8:])
    asked = make_log(rows)
    by_row = {(t, u): n for t, u, n in plays}
    numbers = np.array([by_row[t, u] for t, u in zip(asked.time.tolist(), asked.user.tolist(), strict=True)])
    asked = dataclasses.replace(asked, context={"plays": numbers.astype(np.float32)})
    state = State.build(catalogue, asked, NOW)
    source = fitted(EaseConfig(max_age_days=None), window)
    found = Ragged.group(np.repeat(np.arange(120), 4), np.concatenate(wanted), 120)
    config, figures = choose_history_weighting(source, state, np.arange(120, dtype=np.int32), found)
    assert config.history_weighting.strength == "plays"
    assert figures["strength plays"] > figures["strength none"]


def test_sources_without_histories_have_nothing_to_choose():
    window, users, wanted = walks()
    source = fitted(PopularityConfig(), window)
    assert choose_history_weighting(source, window.state, users, wanted) == (source.config, {})


def test_a_blend_chooses_for_the_parts_that_leave_it_open():
    from recsys_cli.retrieval.blend import BlendConfig

    window, users, wanted = walks()
    parts = {
        "near": {"kind": "item_neighbours"},
        "fixed": {"kind": "item_neighbours", "history_weighting": {"kind": "uniform"}},
    }
    source = fitted(BlendConfig.model_validate({"parts": parts, "weights": {"near": 3}}), window)
    config, _ = choose_history_weighting(source, window.state, users, wanted)
    assert config.parts["near"].history_weighting.kind in ("place", "time")
    assert config.parts["fixed"].history_weighting.kind == "uniform"
    assert BlendConfig.model_validate(config.model_dump()) == config


def test_times_that_stand_equally_far_apart_are_no_times():
    rows = [(user, item, NOW - (20 - item) * 60_000_000) for user in range(5) for item in range(20)]
    state = make_window(make_catalogue(5, [-1] * 20), make_log(rows)).state
    assert half_lives(state, np.arange(5, dtype=np.int32)) == []
    rng = np.random.default_rng(0)
    rows = [(user, item, NOW - int(rng.uniform(1, 64) * DAY)) for user in range(5) for item in range(20)]
    state = make_window(make_catalogue(5, [-1] * 20), make_log(rows)).state
    assert half_lives(state, np.arange(5, dtype=np.int32)) == pytest.approx([2, 8, 32], rel=0.15)


def test_settings_that_are_ahead_are_taken_and_everything_tried_is_kept():
    window, users, wanted = walks()
    usual = ItemNeighboursConfig(neighbours=1, history_weighting={"kind": "uniform"})
    others = [usual.model_copy(update={"neighbours": k}) for k in (2, 50)]
    config, tried = tune_source(
        lambda c: fitted(c, window), usual, others, window.state, users, wanted, budget_seconds=60
    )
    assert config.neighbours == 50 and [t["settings"] for t in tried] == [{}, {"neighbours": 2}, {"neighbours": 50}]
    assert tried[2]["gain"] == pytest.approx(tried[2]["ndcg"] - tried[0]["ndcg"]) and json.dumps(tried)


def test_without_time_the_given_settings_stay():
    window, users, wanted = walks()
    usual = ItemNeighboursConfig(neighbours=1)
    others = [usual.model_copy(update={"neighbours": 50})]
    config, tried = tune_source(lambda c: fitted(c, window), usual, others, window.state, users, wanted, 0)
    assert config == usual and tried[0]["ndcg"] is not None and tried[1]["ndcg"] is None


def test_what_is_within_noise_is_not_ahead():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    assert not ahead(base, base) and not ahead(base + rng.standard_normal(400), base - 0.01)
    assert ahead(base + 0.1 * rng.standard_normal(400) + 0.05, base) and not ahead(base[:1] + 1, base[:1])
