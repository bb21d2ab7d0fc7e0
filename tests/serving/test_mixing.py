"""Lists of several ways as one page, and what people's interactions with them credit."""

from __future__ import annotations

import numpy as np
import pytest

from recsys_cli.errors import DataError
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.interleave import analyse_interleaved
from recsys_cli.serving.event_log import EventLog
from recsys_cli.serving.events import Event, Served, told_of
from recsys_cli.serving.mixing import Chosen, mixed
from recsys_cli.serving.outcomes import credited
from recsys_cli.serving.structs import Item

NOW = 1_790_000_000_000_000


def part(*items: int, **more) -> Chosen:
    listed = [Item(f"i{item}", rank) for rank, item in enumerate(items, 1)]
    told = {"chances": [0.5] * len(items), "fallback": None, "candidates": 9, "barred": 1, "notes": []}
    return Chosen(np.array(items, np.int32), listed, **(told | more))


@pytest.mark.parametrize("method", ["team_draft", "optimised"])
def test_a_mixed_page_has_every_item_once_with_new_ranks_and_a_credit_for_each_way(method):
    page = mixed([part(1, 2, 3, notes=["a"]), part(3, 4, 5, fallback="few", candidates=12, notes=["a"])], 4, method)
    assert len(set(page.items.tolist())) == 4 == len(page.items)
    assert [item.item_id for item in page.listed] == [f"i{item}" for item in page.items]
    assert [item.rank for item in page.listed] == [1, 2, 3, 4]
    assert np.array(page.credits).shape == (4, 2)
    assert (page.chances, page.fallback, page.candidates, page.notes) == ([], "few", 12, ["a"])
    if method == "team_draft":
        assert all(sorted(credit) == [0, 1] for credit in page.credits)
        assert all(credit == [1, 0] for item, credit in zip(page.items, page.credits, strict=True) if item in (1, 2))


def test_a_page_ends_where_all_lists_do():
    assert len(mixed([part(1), part(1, 2)], 6, "team_draft").items) == 2


def served(user: str, request: str, items: list[str], credits: list[list[float]], arm: str = "interleaved") -> Event:
    told = Served(items, arm=told_of({"e": arm}), credits=credits)
    return Event("served", user, request_id=request, served=told, timestamp=NOW)


def did(kind: str, user: str, request: str, item: str) -> Event:
    return Event(kind, user, item, request_id=request, timestamp=NOW + 1)


def test_interactions_credit_by_the_answer_that_showed_the_item_and_once(tmp_path):
    with EventLog.open(tmp_path, now=lambda: NOW + 10) as log:
        log.append([
            served("ada", "r1", ["a", "b"], [[1, 0], [0, 1]]), served("ada", "r2", ["b"], [[0.5, 0.25]]),
            served("bob", "r3", ["a"], [[1, 0]]), served("cy", "r4", ["a"], [], arm="control"),
            *(did("impression", "ada", "r1", item) for item in "ab"), did("impression", "ada", "r2", "b"),
            did("like", "ada", "r1", "b"), did("click", "ada", "r1", "b"), did("like", "ada", "r2", "b"),
            did("impression", "bob", "r3", "a"), did("hide", "bob", "r3", "a"),
            did("impression", "cy", "r4", "a"), did("like", "cy", "r4", "a"),
        ])
    assert credited(tmp_path, "e", 2) == {"ada": [0.5, 1.25], "bob": [0.0, 0.0]}
    config = ExperimentConfig(name="e", interleave="team_draft")
    document = analyse_interleaved(config, tmp_path)
    assert document["users"] == 2 and document["credit"] == {"control": 0.5, "treatment": 1.25}
    with pytest.raises(DataError, match="nobody was shown a mixed list of other"):
        credited(tmp_path, "other", 2)
