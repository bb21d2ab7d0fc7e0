"""Figures that the data cannot give are named, not printed."""

from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation.offline import _left_out
from recsys_cli.evaluation.targets import check_targets


def left_out(*, negatives=True, heavy="a ranker", topics=(0, 1), author=0):
    rows = np.arange(len(topics), dtype=np.int32)
    catalogue = SimpleNamespace(
        item_topics=Ragged.group(rows, np.array(topics, np.int32), 3), item_author=np.full(3, author, np.int32)
    )
    engine = SimpleNamespace(bundle=SimpleNamespace(heavy=heavy), state=SimpleNamespace(catalogue=catalogue))
    return _left_out(engine, SimpleNamespace(manifest=SimpleNamespace(negatives_observed=negatives)))


def test_nothing_is_left_out_where_everything_is_there():
    assert left_out() == {}


@pytest.mark.parametrize(
    ("lack", "figure", "words"),
    [
        ({"negatives": False}, "predictions", "every row of the log is an interaction"),
        ({"heavy": None}, "predictions", "no heavy ranker"),
        ({"topics": ()}, "topic diversity", "topics"),
        ({"author": -1}, "distinct authors", "author"),
    ],
)
def test_what_the_data_lacks_takes_its_figures_along(lack, figure, words):
    found = left_out(**lack)
    assert list(found) == [figure] and words in found[figure]


def test_targets_of_left_out_predictions_cannot_be_told():
    figures = {f"{m}@10": {"value": 0.5} for m in ("coverage", "diversity", "ndcg")}
    document = {
        "k": [10], "systems": [{"name": "funnel", "kind": "pipeline", "metrics": figures}], "impressions": None,
        "oracle": None, "left_out": left_out(negatives=False),
    }
    rows = {t["target"]: t for t in check_targets(document)}
    assert rows["ROC-AUC of every action"]["met"] is None
    assert rows["ROC-AUC of every action"]["reason"] == "predictions are left out"
    assert rows["NDCG@10"]["met"] is True
