"""Which model for my data: the branches of the guide, on summaries made by hand and on a dataset."""

from dataclasses import replace

import pytest

from recsys_cli.advice import DataSummary, advice_document, advise, properties, summarise
from recsys_cli.data.dataset import Dataset
from recsys_cli.settings import Settings

PLAIN = DataSummary(
    users=1000, items=500, impressions=50_000, interactions=50_000, objectives=("click",), new_users=0.1, new_items=0.1,
    negatives_observed=False, has_time=True, given_split=False, has_text=False, has_topics=False, has_authors=False,
    has_follows=False, has_dwell=False, has_propensities=False,
)


def models(**changes):
    return [a.model for a in advise(replace(PLAIN, **changes))]


@pytest.mark.parametrize(
    ("interactions", "first"),
    [
        (1, "item–item neighbours"), (99_999, "item–item neighbours"), (100_000, "ALS or BPR"),
        (10_000_000, "ALS or BPR"), (10_000_001, "two towers and a ranker"),
    ],
)
def test_the_number_of_interactions_decides_what_to_begin_with(interactions, first):
    assert models(interactions=interactions) == [first]


def test_without_interactions_only_content_is_left_and_without_content_nothing_is():
    assert models(interactions=0, has_text=True) == ["content"]
    assert models(interactions=0, has_topics=True) == ["content"]
    assert models(interactions=0) == ["popularity by hand"]


def test_several_objectives_and_newcomers_add_to_the_advice():
    assert models(objectives=("click", "like"))[1:] == ["multi-task ranker"]
    assert models(new_users=0.6, has_text=True)[1:] == ["hybrid of behaviour and content"]
    assert models(new_items=0.6)[1:] == ["popularity for the new"]


def test_what_the_data_lacks_is_told_with_what_follows():
    told = {name: (there, what) for name, there, what in properties(PLAIN)}
    assert told["impressions without reaction"] == (
        False, "negatives are drawn; no ROC-AUC and no RCE of what was shown"
    )
    assert told["moments in time"][0] and not told["follows"][0]


def test_a_dataset_is_summarised_and_its_sources_are_those_that_training_would_fit(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    data = summarise(dataset)
    assert (data.users, data.items, data.impressions) == (60, 120, 4800)
    assert data.interactions == int(dataset.log.positive.sum()) and data.objectives[0] == "click"
    assert data.has_text and data.has_follows and data.has_propensities and data.negatives_observed
    document = advice_document(dataset, Settings())
    used = {row["source"] for row in document["sources"] if row["used"]}
    assert {"in_network", "popularity", "item_neighbours"} <= used
    assert document["split"]["kind"] == "time" and document["split"]["says"]
    assert document["utility"]["weights"]["click"] == 0.5
