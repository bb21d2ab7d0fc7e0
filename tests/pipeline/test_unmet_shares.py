"""Shares that cannot be met are met as far as possible, and the answer says so."""

import numpy as np
from rich_world import rich_bundle

from recsys_cli.answers.data import AnswerData
from recsys_cli.answers.slate import describe_slate
from recsys_cli.pipeline.allocation import NONE, allot, at_least, missing, tell_lacks
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.slate_engine import SlateEngine

SOURCING = {"shares": {"item_neighbours": 0.5, "popularity": 0.5}, "fallback": ["popularity"]}


def test_what_is_missing_is_counted_once_a_place():
    items = np.arange(20, dtype=np.int32).reshape(2, 10)
    candidates = Candidates(items, np.ones(items.shape, np.uint32))
    groups = np.where(items % 10 == 9, 0, NONE)  # one candidate of the group each, the last
    lacked = np.zeros((2, 1, 8), bool)
    out = allot(candidates, groups, 1, 8, at_least(np.array([0.4])), lacked)
    assert out.items[0].tolist() == [0, 1, 9, 3 - 1, 3, 4, 5, 6, 7, 8]
    there = np.where(out.items % 10 == 9, 0, NONE)
    assert missing(np.array([[0.4]]), there, 8, lacked).tolist() == [[2], [2]]  # 3 of 8 were due, one was there


def test_sentences_are_for_those_whom_they_concern():
    class Asked:
        size, said = 10, {}

        def tell(self, sentence, rows):
            self.said[sentence] = rows.tolist()

    asked = Asked()
    tell_lacks(asked, "mine", np.array([[0, 2], [1, 0], [0, 2]]), ("a", "b"))
    assert asked.said == {
        "stage mine: too few candidates are left, so that 1 of 10 places for a went to others": [False, True, False],
        "stage mine: too few candidates are left, so that 2 of 10 places for b went to others": [True, False, True],
    }


def engine_with(**stage):
    pipeline = {"sourcing": SOURCING, "stages": {"mine": stage}, "diversity": {"enabled": False}}
    return SlateEngine(rich_bundle(), PipelineConfig.model_validate(pipeline))


def notes(engine, users=6):
    batch = engine.slates(np.arange(users, dtype=np.int32))
    data = AnswerData(engine.bundle, engine.state)
    return [describe_slate(data, batch, row, str(row)).notes for row in range(users)]


def test_a_share_that_can_be_met_is_not_spoken_of():
    assert not any(notes(engine_with(kind="minimum_exposure", impressions=10**9, share=0.5)))


def test_a_guarantee_that_nobody_can_take_is_told_in_the_answer():
    told = notes(engine_with(kind="minimum_exposure", impressions=1, share=0.5))
    assert all("5 of 10 places for what was hardly shown went to others" in " ".join(n) for n in told)


def test_a_mix_and_shares_of_exposure_that_cannot_be_met_are_told():
    told = notes(engine_with(kind="exposure", by="followers", bounds=[10**6], shares={"1000000": 1.0}))
    assert all("10 of 10 places for followers 1000000 went to others" in " ".join(n) for n in told)


def test_engines_that_serve_in_batches_keep_the_sentences_with_their_people():
    engine = engine_with(kind="minimum_exposure", impressions=1, share=0.5)
    small = engine.with_pipeline(engine.pipeline.model_copy(update={"batch_size": 2}))
    users = np.arange(5, dtype=np.int32)
    one, many = (e.slates(users).remarks for e in (engine, small))
    assert one.keys() == many.keys() and all(np.array_equal(one[t], many[t]) for t in one)


def test_an_empty_slate_says_which_stage_took_the_last_candidates():
    rules = {"all": {"if": "item.impressions >= 0", "then": "filter"}}
    engine = SlateEngine(rich_bundle(), PipelineConfig.model_validate({"sourcing": SOURCING, "rules": rules}))
    batch = engine.slates(np.arange(1, dtype=np.int32))
    assert not (batch.items >= 0).any()
    told = describe_slate(AnswerData(engine.bundle, engine.state), batch, 0, "0").remarks
    assert len(told) == 1 and told[0].startswith("no item is left to recommend: stage ")
    assert "took out the last" in told[0]
