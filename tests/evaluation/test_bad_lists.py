"""Runs and lists that cannot be taken as they came: what is refused, and what becomes of the figures."""

from types import SimpleNamespace

import polars as pl
import pytest

from recsys_cli.errors import ArtifactError
from recsys_cli.evaluation.slates.evaluate import evaluate
from recsys_cli.evaluation.slates.of_dataset import same_ground


def engine_of(digest: str, start: int):
    manifest = SimpleNamespace(dataset=SimpleNamespace(digest=digest), windows=SimpleNamespace(test_start=start))
    return SimpleNamespace(manifest=manifest)


@pytest.mark.parametrize(("other", "what"), [(("y", 5), "data"), (("x", 6), "windows")])
def test_runs_of_other_data_or_windows_are_not_compared(other, what):
    with pytest.raises(ArtifactError, match=f"runs one and two are of different {what}") as refused:
        same_ground({"one": engine_of("x", 5), "two": engine_of(*other)})
    assert "--truth" in refused.value.hint
    same_ground({"one": engine_of("x", 5), "two": engine_of("x", 5)})


def test_rows_of_a_user_in_two_places_of_a_file_are_one_list_and_an_item_counts_where_it_stands_first():
    truth = pl.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2]})
    rows = pl.DataFrame({"user_id": ["a", "b", "a", "a"], "item_id": [5, 2, 1, 5], "rank": [1, 1, 2, 3]})
    report = evaluate(rows, truth, ["recall@2", "precision@3"])
    assert report["recall@2"] == 1.0 and report["precision@3"] == pytest.approx(1 / 3)
    assert report.document["users"] == 2
    assert report.document["systems"][0]["rows"] == {"rows of an item that the list has": 1}
