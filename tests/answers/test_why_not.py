"""Why an item is not in a slate: the stage that is named is the one that was planted; an author's reach adds up."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import UnknownIdError
from recsys_cli.pipeline.added import STAGE_KINDS
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.stage import Filter, Selector, StageConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle
from recsys_cli.testing.planted_world import DAY

SOURCING = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
OPEN = {"own": False, "blocked": False, "seen": False, "max_age_days": None}
USER = 7


@pytest.fixture(scope="module")
def bundle():
    return planted_bundle()


def engine(bundle, state=None, **settings):
    config = {"sourcing": SOURCING, "filters": OPEN, "diversity": {"enabled": False}, **settings}
    made = RecommendationEngine(bundle, PipelineConfig.model_validate(config))
    return made if state is None else replace(made, state=state, snapshot=bundle.snapshot)


def ranked(made, user=USER, stage="utility"):
    """Items behind a stage, in their order."""
    runner = Runner(made.query(np.array([user], np.int32)), keep=True)
    runner.run(made.stages.stages)
    items = runner.kept[stage].items[0]
    return items[items >= 0].tolist()


def named(made, item, user=USER):
    return made.why_not(user, int(item))


def test_what_is_in_the_slate_was_lost_by_nothing(bundle):
    made = engine(bundle)
    first = ranked(made)[0]
    answer = named(made, first)
    assert answer.lost is None and answer.rank == 1 and not answer.then
    assert [step.stage for step in answer.steps] == [r.name for r in made.slates(np.array([USER], np.int32)).funnel]


def test_what_no_source_proposes_is_lost_by_the_sources_and_the_rest_of_the_way_is_told(bundle):
    made = engine(bundle, light={"keep": 20})
    proposed = set(ranked(made, stage="sources"))
    missing = next(i for i in range(400) if i not in proposed)
    answer = named(made, missing)
    assert answer.lost.stage == "sources" and answer.lost.value > answer.lost.needed - 1
    assert [loss.stage for loss in answer.then] == ["light"]
    assert not any(step.there for step in answer.steps)


def test_each_filter_is_named_with_what_it_found(bundle):
    free = engine(bundle)
    top = ranked(free)
    catalogue, state = bundle.catalogue, bundle.state
    # seen
    seen = Ragged.group(np.array([USER]), np.array([top[0]], np.int32), catalogue.n_users)
    answer = named(engine(bundle, replace(state, seen=seen), filters={**OPEN, "seen": True}), top[0])
    assert answer.lost.stage == "not_seen" and "shown it before" in answer.lost.why
    # blocked
    victim = top[0]
    author = int(catalogue.item_author[victim])
    blocked = Ragged.group(np.array([USER]), np.array([author], np.int32), catalogue.n_users)
    answer = named(engine(bundle, replace(state, blocked=blocked), filters={**OPEN, "blocked": True}), victim)
    assert answer.lost.stage == "not_blocked" and "blocked or muted" in answer.lost.why
    # own
    asked = {user: ranked(free, user) for user in range(40)}
    user, own = next((u, i) for u, items in asked.items() for i in items if catalogue.item_author[i] == u)
    assert named(engine(bundle, filters={**OPEN, "own": True}), own, user).lost.stage == "not_own"
    # age
    days = (state.now - catalogue.item_created[top]) / DAY
    old = top[int(np.argmax(days))]
    answer = named(engine(bundle, filters={**OPEN, "max_age_days": float(days.max() - 0.001)}), old)
    assert answer.lost.stage == "fresh" and answer.lost.value == pytest.approx(days.max(), rel=1e-4)
    assert answer.lost.needed == pytest.approx(days.max() - 0.001)


def test_what_is_not_published_is_no_fault_of_the_sources(bundle):
    created = bundle.catalogue.item_created.copy()
    created[5] = bundle.state.now + 2 * DAY // 24
    catalogue = replace(bundle.catalogue, item_created=created)
    answer = named(engine(bundle, replace(bundle.state, catalogue=catalogue)), 5)
    assert answer.lost.stage == "published" and answer.lost.value == pytest.approx(2)


def test_cuts_tell_place_and_score_and_what_would_have_been_enough(bundle):
    whole = engine(bundle)
    for stage, section in (("light", "light"), ("utility", "heavy")):
        order = ranked(whole, stage=stage)
        made = engine(bundle, **{section: {"keep": 12}})
        answer = named(made, order[29])
        assert answer.lost.stage == stage and "place 30 of" in answer.lost.why and "at least 30" in answer.lost.differ
        assert answer.lost.value < answer.lost.needed
        assert named(engine(bundle, **{section: {"keep": 30}}), order[29]).lost.stage == "utility"


def test_what_is_too_far_down_is_told_the_utility_of_the_last_place(bundle):
    made = engine(bundle)
    order = ranked(made)
    answer = named(made, order[14])
    assert answer.lost.stage == "utility" and "place 15 of" in answer.lost.why and "a slate of 15" in answer.lost.differ
    assert made.why_not(USER, order[14], 15).lost is None


def test_the_safety_rule_that_drops_it_is_named(bundle):
    victim = ranked(engine(bundle))[2]
    scores = np.zeros(400, np.float32)
    scores[victim] = 0.9
    safe = replace(bundle, catalogue=replace(bundle.catalogue, item_safety={"nsfw": scores}))
    safe = replace(safe, state=replace(safe.state, catalogue=safe.catalogue))
    rule = {"task": "nsfw", "above": 0.5, "action": "drop"}
    answer = named(engine(safe, safety={"rules": [rule]}), victim)
    assert answer.lost.stage == "policy" and "nsfw" in answer.lost.why and answer.lost.needed == 0.5


def test_caps_are_named_where_they_push_an_item_out(bundle):
    free = engine(bundle)
    for user in range(40):
        order = ranked(free, user)
        authors = bundle.catalogue.item_author[order[:10]].tolist()
        again = next((p for p, a in enumerate(authors) if a in authors[:p]), None)
        if again is not None and authors.count(authors[again]) == 2:
            break
    made = engine(bundle, diversity={"enabled": True, "max_per_author": 1, "max_topic_share": None})
    slate = ranked(made, user, "select")
    assert order[again] not in slate
    answer = made.why_not(user, order[again])
    assert answer.lost.stage == "diversity" and f"from place {again + 1}" in answer.lost.why


def test_exploration_is_named_where_it_takes_the_place(bundle):
    made = engine(bundle, exploration={"enabled": True, "epsilon": 1.0})
    before, after = ranked(made)[:10], set(ranked(made, stage="select"))
    pushed = next(i for i in before if i not in after)
    assert named(made, pushed).lost.stage == "explore"


class Even(Filter):
    """Leaves out items at odd positions."""

    def keep(self, query, candidates):
        return candidates.items % 2 == 0


class Backwards(Selector):
    def __call__(self, query, candidates):
        reverse = np.arange(candidates.items.shape[1])[::-1]
        out = candidates.take(np.broadcast_to(reverse, candidates.items.shape))
        return out.keep(out.filled)


@pytest.mark.parametrize(("stage", "name"), [(Even, "even"), (Backwards, "backwards")])
def test_stages_that_others_add_are_named(bundle, monkeypatch, stage, name):
    plain = ranked(engine(bundle))
    monkeypatch.setitem(STAGE_KINDS, name, stage)
    config = engine(bundle).pipeline.model_copy(update={"stages": {name: StageConfig(kind=name)}})
    made = RecommendationEngine(bundle, config)
    lost = next(i for i in plain[:10] if i % 2)
    assert named(made, lost).lost.stage == name


def test_the_stage_named_is_the_one_behind_which_the_item_is_gone(bundle):
    made = RecommendationEngine(
        bundle,
        PipelineConfig.model_validate({
            "sourcing": SOURCING, "light": {"keep": 40}, "heavy": {"keep": 25}, "filters": {"seen": True},
            "diversity": {"enabled": True, "max_per_author": 1}, "reserve": 0,
        }),
    )
    for user in (3, 50):
        runner = Runner(made.query(np.array([user], np.int32)), keep=True)
        slate = set(runner.run(made.stages.stages).items[0].tolist())
        for item in range(0, 400, 9):
            answer = made.why_not(user, item)
            there = [name for name, c in runner.kept.items() if item in c.items[0]]
            if item in slate:
                assert answer.lost is None
            elif not there:
                seen = item in bundle.state.seen[user]
                assert answer.lost.stage == ("not_seen" if seen else "sources")
            elif there[-1] not in ("utility", "newcomers", "diversity", "explore", "safety"):
                behind = list(runner.kept)
                assert answer.lost.stage == behind[behind.index(there[-1]) + 1]
            else:
                assert answer.lost.stage in ("utility", "diversity")


def test_an_unknown_item_is_refused_and_an_unknown_user_answered(bundle):
    with pytest.raises(UnknownIdError, match="item 4000 is not in the run"):
        engine(bundle).why_not(USER, 4000)
    assert engine(bundle).why_not(99_999, 0).steps


def test_the_reach_of_all_authors_together_is_what_the_stages_hold(bundle):
    made = engine(bundle, filters={"seen": True}, light={"keep": 50})
    users = np.arange(60, dtype=np.int32)
    reached = [made.reach(author, users) for author in range(120)]
    runner = Runner(made.query(users), keep=True)
    runner.run(made.stages.stages)
    for place, (name, candidates) in enumerate(runner.kept.items()):
        assert {r.steps[place].stage for r in reached} == {name}
        assert sum(r.steps[place].candidates for r in reached) == candidates.filled.sum()
    one = max(reached, key=lambda r: r.impressions)
    mine = bundle.catalogue.item_author == one.author_id
    slates = made.slates(users).items
    assert one.impressions == mine[slates[slates >= 0]].sum() and one.items == mine.sum()
    assert one.steps[-1].users == mine[slates].any(axis=1).sum()
    lost = {step.stage: step.lost for step in one.steps[1:]}
    assert one.worst == max(lost, key=lost.get)
    with pytest.raises(UnknownIdError, match="author 'nobody'"):
        made.reach("nobody", users)


def test_ranks_say_what_each_stage_did_to_the_place(bundle):
    made = engine(bundle, diversity={"enabled": True, "max_per_author": 1})
    batch = made.slates(np.array([USER, 3], np.int32), ranks=True)
    for row, user in enumerate((USER, 3)):
        for stage in ("light", "utility", "diversity"):
            order = ranked(made, user, stage)
            if stage in batch.ranks:
                assert batch.ranks[stage][row].tolist() == [order.index(i) + 1 for i in batch.items[row].tolist()]
    assert "light" in batch.ranks and not made.slates(np.array([USER], np.int32)).ranks
    answer = made.recommend(USER, ranks=True)
    assert answer.items[0].ranks["light"] == int(batch.ranks["light"][0, 0])
