"""Exploration by a policy that was learned from logs."""

import types
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import ArtifactError, ConfigError
from recsys_cli.pipeline.config import ExplorationConfig
from recsys_cli.pipeline.exploration.explore import Explore


def explorer(path, **more) -> Explore:
    return Explore(ExplorationConfig(enabled=True, strategy="learned_policy", policy=path, **more))


def asked(make, users: int):
    catalogue = make.catalogue([0, 1, 2, 3], users=users)
    query = make.query(make.state(catalogue, ()), list(range(users)), size=2)
    query = replace(query, bundle=types.SimpleNamespace(item_ids=Vocabulary(np.array(["a", "b", "c", "d"]))))
    return query, make.candidates([list(range(4))] * users, utility=[[0.4, 0.3, 0.2, 0.1]] * users)


def test_slots_are_drawn_in_proportion_to_the_policy_and_what_it_does_not_list_never(make, tmp_path):
    pl.DataFrame({"item_id": ["b", "c", "gone"], "probability": [0.3, 0.6, 0.1]}).write_parquet(tmp_path / "p.parquet")
    query, candidates = asked(make, 3000)
    out = explorer(tmp_path / "p.parquet", epsilon=1.0)(query, candidates)
    first = np.bincount(out.items[:, 0], minlength=4) / 3000
    assert first[0] == first[3] == 0 and first[2] == pytest.approx(2 / 3, abs=0.03)
    assert out.scores["propensity"][out.items[:, 0] == 2, 0] == pytest.approx(2 / 3)
    # the second slot: what is left of the two
    assert set(out.items[:, 1]) == {1, 2} and out.scores["propensity"][:, 1] == pytest.approx(1)


def test_positions_count_alike(make, tmp_path):
    table = {"item_id": ["a", "b"] * 2, "position": [1, 1, 2, 2], "probability": [1.0, 0.0, 0.0, 1.0]}
    pl.DataFrame(table).write_parquet(tmp_path / "p.parquet")
    query, candidates = asked(make, 10)
    out = explorer(tmp_path / "p.parquet", epsilon=1.0)(query, candidates)
    assert out.scores["propensity"][:, 0] == pytest.approx(0.5)


def test_a_table_that_is_not_there_or_differs_by_contexts_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"exploration\.policy"):
        explorer(None)
    with pytest.raises(ArtifactError, match="cannot be read"):
        explorer(tmp_path / "none.parquet")
    pl.DataFrame({"item_id": ["a"], "probability": [1.0], "device": ["x"]}).write_parquet(tmp_path / "p.parquet")
    with pytest.raises(ArtifactError, match="differs by device"):
        explorer(tmp_path / "p.parquet")
