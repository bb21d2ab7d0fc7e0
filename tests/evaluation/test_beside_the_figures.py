"""Source mix, example lists, sentiment and the filter bubble of slates, by hand."""

import math

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation.batch_lists import Served
from recsys_cli.evaluation.slates import bubble
from recsys_cli.evaluation.slates.beside import source_mix
from recsys_cli.evaluation.slates.evaluate import evaluate
from recsys_cli.evaluation.slates.page import slates_page

TRUTH = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [8, 5, 7]})
SLATES = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [7, 8, 7, 9]})
ITEMS = pl.DataFrame(
    {"item_id": [5, 7, 8, 9], "title": ["five", "se<b>ven", None, "nine"], "sentiment": [None, -1.0, 0.5, None]}
)


def test_an_item_of_several_sources_counts_for_each():
    slates = np.array([[1, 2], [3, -1]], np.int32)
    sources = np.array([[0b01, 0b11], [0b10, 0b11]], np.uint32)
    mix = source_mix(Served(slates, slates, sources, slates), ("a", "b", "unused"))
    assert mix == [
        {"source": "a", "share": pytest.approx(2 / 3), "alone": pytest.approx(1 / 3)},
        {"source": "b", "share": pytest.approx(2 / 3), "alone": pytest.approx(1 / 3)},
    ]


def test_lists_stand_beside_what_was_taken():
    report = evaluate({"one": SLATES, "two": SLATES.reverse()}, TRUTH, k=[2], items=ITEMS)
    best, worst = report.document["examples"]
    assert (best["user"], worst["user"]) == (2, 1) and best["took"] == [{"item": 7, "text": "se<b>ven"}]
    assert [i["taken"] for i in best["lists"]["one"]["items"]] == [True, False]
    assert [i["item"] for i in best["lists"]["two"]["items"]] == [9, 7]
    page = slates_page(report.document)
    assert "Some lists" in page and "se&lt;b&gt;ven" in page and "se<b>ven" not in page


def test_sentiment_is_the_mean_of_what_is_known():
    report = evaluate(SLATES, TRUTH, k=[2], items=ITEMS)
    assert report["sentiment@2"] == pytest.approx(((-1 + 0.5) / 2 + -1) / 2)
    without = evaluate(SLATES, TRUTH, k=[2], items=ITEMS.drop("sentiment"))
    assert without.document["left_out"]["sentiment"] == "no column sentiment of items"


def test_the_effective_number_of_topics():
    topics = Ragged(np.array([0, 1, 2, 4, 4]), np.array([0, 1, 0, 2], np.int32))
    lists = np.array([[0, 1, -1], [0, 0, -1], [0, 2, -1], [3, -1, -1]], np.int32)
    got = bubble.effective_topics(lists, topics)
    mixed = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert got[:3] == pytest.approx([2, 1, mixed]) and np.isnan(got[3])


class Follower:
    """Shows items of the topic that was taken last, or of all topics in turn."""

    def __init__(self, log: Log, catalogue, now: int, follows: bool):
        self.log, self.follows = log, follows
        self.state = type("State", (), {"now": now, "catalogue": catalogue})()

    def as_of(self, log, now, **edges):
        return Follower(log, self.state.catalogue, now, self.follows)

    def slates(self, users):
        out = np.tile(np.array([0, 1, 2, 3], np.int32), (len(users), 1))
        taken = self.log.item[self.log.positive]
        if self.follows and len(taken) > 1:
            out = np.tile(np.array([0, 4, 8, 12], np.int32), (len(users), 1))  # all of the first topic
        return type("Batch", (), {"items": out})()


@pytest.mark.parametrize("follows", [False, True], ids=["deaf", "following"])
def test_lists_that_follow_what_is_taken_are_a_bubble(follows):
    log = Log(
        user=np.zeros(1, np.int32), item=np.zeros(1, np.int32), time=np.array([5], np.int64),
        actions={"click": np.array([True])}, positive_actions=("click",), negative_actions=(),
        dwell=np.array([3.0], np.float32), session=np.array([4]), position=np.array([0], np.int16),
    )  # fmt: skip
    topics = Ragged(np.arange(17), (np.arange(16) % 4).astype(np.int32))
    engine = Follower(log, type("Catalogue", (), {"item_topics": topics})(), 10, follows)
    found = bubble.filter_bubble(engine, log, {}, np.arange(30), 3, resamples=100, seed=0)
    assert found["index"]["value"] == pytest.approx(0.75 if follows else 0.0)
    assert [r["leaving"]["value"] for r in found["rows"]] == pytest.approx([4, 4, 4])
    more = bubble.shown(log, np.array([0]), np.array([[3, 2, -1]], np.int32), 20, 1)
    assert more.positive.tolist() == [True, False] and more.session.tolist() == [5, 5] and np.isnan(more.dwell).all()
