"""What exploration learns online is a function of the log, and what `engine.learn` would have learned."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from law_world import END, HOUR, RULES, make_world, some_events
from server_process import Server, copy_of

from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.exploration.creative_texts import SHOWN, TAKEN, CreativeTexts
from recsys_cli.serving import fold as folding
from recsys_cli.serving import growth
from recsys_cli.serving.event_log import read_log
from recsys_cli.serving.events import Entry, Event, Served
from recsys_cli.serving.feedback import Feedback

ACTIONS = tuple(RULES.actions)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("feedback") / "data")


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-9, err_msg=name)


def entries(events, first=1):
    return [Entry(first + k, event) for k, event in enumerate(events)]


def served_with_feedback(batch, world, rng):
    """Answers of slates, the impressions of all their items and what came of them; and that as arrays."""
    items, utility = batch.items, batch.scores["utility"]
    like, hide = rng.random(items.shape) < 0.3, rng.random(items.shape) < 0.1
    dwell = np.where(rng.random(items.shape) < 0.5, rng.integers(1, 60, items.shape).astype(float), np.nan)
    events, at = [], END + 1
    for row, user in enumerate(world.engine.bundle.user_ids.external(batch.users)):
        ids = [str(i) for i in world.engine.bundle.item_ids.external(items[row])]
        told = {"user_id": str(user), "request_id": f"r{row}", "timestamp": at}
        events.append(Event("served", served=Served(ids, utilities=utility[row].tolist()), **told))
        for k, item in enumerate(ids):
            events.append(Event("impression", item_id=item, **told))
            for kind, done in (("like", like[row, k]), ("hide", hide[row, k])):
                if done:
                    events.append(Event(kind, item_id=item, **told))
            if not np.isnan(dwell[row, k]):
                events.append(Event("dwell", item_id=item, dwell_seconds=float(dwell[row, k]), **told))
    return events, {"like": like, "hide": hide}, dwell


def test_it_is_what_the_engine_learns_of_the_same_slates(world):
    batch = world.engine.slates(np.arange(20, dtype=np.int32), 5)
    assert (batch.items >= 0).all()
    events, actions, dwell = served_with_feedback(batch, world, np.random.default_rng(3))
    fold = folding.Fold(ACTIONS)
    fold.take(entries(events))
    ours = Feedback(world.engine).of(fold, world.engine)
    same(ours, world.engine.learn(batch, actions, dwell).state.feedback)
    assert ours["item_shown"].sum() == batch.items.size and ours["item_taken"].sum() == actions["like"].sum()


def test_what_was_not_seen_or_not_answered_teaches_nothing(world):
    served = Served(["1001", "1002"], utilities=[0.5, 0.25])
    fold = folding.Fold(ACTIONS)
    fold.take(entries([
        Event("served", "100", request_id="a", served=served, timestamp=END + 1),
        Event("like", "100", "1002", request_id="a", timestamp=END + 2),  # acted upon, but no impression was told of
        Event("impression", "100", "1003", request_id="b", timestamp=END + 2),  # of no answer
    ]))
    feedback = Feedback(world.engine)
    assert feedback.of(fold, world.engine) == {}
    fold.take(entries([Event("impression", "100", "1002", request_id="a", timestamp=END + 3)], 4))
    learned = feedback.of(fold, world.engine)
    at = world.engine.bundle.item_ids.position("1002")
    assert learned["item_shown"].sum() == learned["item_shown"][at] == learned["item_taken"][at] == 1
    assert learned["item_utility"][at] == 0.25


@pytest.mark.parametrize("seed", range(6))
def test_however_it_came_it_is_that_of_a_replay(world, seed):
    rng = np.random.default_rng(seed)
    events = some_events(rng, 500)
    for k in range(40):  # answers, and impressions of them within the hour
        at, told = int(rng.integers(10, len(events))), {"user_id": str(100 + k % 30), "request_id": f"q{k}"}
        moment = events[at - 1].timestamp
        shown = Served([str(1000 + k), "2001"], utilities=[0.5, 0.25])
        answer = Event("served", served=shown, timestamp=moment, **told)
        item = str(1000 + k) if k % 3 else "2001"
        events[at:at] = [answer, Event("impression", item_id=item, timestamp=moment, **told)]
    events = entries(events)
    live, feedback, at = folding.Fold(ACTIONS), Feedback(world.engine), 0
    while at < len(events):
        n = int(rng.integers(1, 50))
        live.take(events[at : at + n])
        at += n
        draw = rng.random()
        if draw < 0.5:
            feedback.of(live, grown(world, live))
        if draw > 0.8:  # a stop: the state comes from its file, what was summed up is gone
            live, feedback = folding.Fold.from_bytes(live.to_bytes()), Feedback(world.engine)
        if 0.6 < draw < 0.65 and at > 200:
            gone = Event("erase", folding.mark("105"), timestamp=END)
            events = [*events[:at], *entries([gone, *(e.event for e in events[at:])], events[at - 1].offset + 1)]
    whole = folding.Fold(ACTIONS)
    whole.take(events)
    expected = Feedback(world.engine).of(whole, grown(world, whole))
    assert expected["item_shown"].sum() > 0
    same(feedback.of(live, grown(world, live)), expected)


def grown(world, fold):
    return replace(world.engine, bundle=growth.grown(world.engine.bundle, fold, END + HOUR).bundle)


@pytest.mark.slow
def test_a_server_that_explores_learns_from_what_comes_back(served_folder, tmp_path):
    folder = copy_of(served_folder, tmp_path / "place")
    exploring = 'pipeline.exploration={"enabled": true, "strategy": "thompson", "epsilon": 0.5, "pool": 20}'
    server = Server.start(folder, "--set", exploring)
    try:
        for user in range(1000, 1030):
            slate = server.get(f"/v1/recommend/{user}?n=5").json
            events = [{"type": kind, "user_id": user, "item_id": item["item_id"], "request_id": slate["request_id"]}
                      for item in slate["items"] for kind in ("impression", "like")]
            assert server.post("/v1/events", events).status == 200
        time.sleep(0.5)
    finally:
        assert server.stop() == 0
    served = [e.event.served for e in read_log(folder / "artifacts" / "events") if e.event.type == "served"]
    assert len(served) == 30 and all(len(s.utilities) == len(s.items) == len(s.propensities) for s in served)
    assert any(p < 0.9 for s in served for p in s.propensities)
    engine = RecommendationEngine.load(folder / "artifacts")
    fold = folding.Fold((*engine.bundle.spec.positive, *engine.bundle.spec.negative))
    fold.take(list(read_log(folder / "artifacts" / "events")))
    learned = Feedback(engine).of(fold, engine)
    assert learned["item_shown"].sum() == learned["item_taken"].sum() == sum(len(s.items) for s in served)


def test_the_title_that_an_impression_was_shown_with_is_counted_by_hand(world):
    n = world.engine.bundle.catalogue.n_items
    texts = CreativeTexts.of([["a", "b"] for _ in range(n)], ("creatives",))
    engine = replace(world.engine, bundle=replace(world.engine.bundle, creatives=texts))
    served = Served(["1001", "1002", "1003"], creatives=[2, 1, 0], creative_propensities=[0.5, 0.5, 0])
    told = {"user_id": "100", "request_id": "a", "timestamp": END + 1}
    events = [Event("served", served=served, **told)]
    events += [Event("impression", item_id=item, **told) for item in ("1001", "1002", "1003")]
    events += [Event("like", item_id="1001", **told), Event("hide", item_id="1002", **told)]
    fold, feedback = folding.Fold(ACTIONS), Feedback(engine)
    for k, event in enumerate(events, 1):
        fold.take([Entry(k, event)])
        learned = feedback.of(fold, engine)
    one, two = (2 * engine.bundle.item_ids.position(i) for i in ("1001", "1002"))
    assert learned[SHOWN].sum() == learned[SHOWN][one + 1] + learned[SHOWN][two] == 2
    assert learned[TAKEN].sum() == learned[TAKEN][one + 1] == 1
    kept = folding.Fold.from_bytes(fold.to_bytes())
    same(Feedback(engine).of(kept, engine), learned)
