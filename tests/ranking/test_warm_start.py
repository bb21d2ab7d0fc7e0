"""A ranker that begins with an earlier one begins where that ended, and nothing that does not fit is taken over."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from light_rankers import fitted_light

from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import ArtifactError
from recsys_cli.ranking.light import light_start
from recsys_cli.ranking.networks.kinds import MmoeConfig, SharedBottomConfig
from recsys_cli.ranking.trainer import fit_heavy
from recsys_cli.ranking.trees.config import LightGbmConfig
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.testing.ranker_tables import make_table
from recsys_cli.training.reuse import _same_places

# a learning rate of nearly nothing: what comes out is what it began with
STILL = SharedBottomConfig(
    hidden=[16], epochs=1, min_steps=0, batch_size=400, learning_rate=1e-12, dropout=0, batch_norm=False,
    average=False, calibration="none",
)
QUICK = {"rounds": 20, "min_rows_in_leaf": 20, "patience": 5, "calibration": "none"}
LETTERS = list("abcdefg")


@pytest.fixture(scope="module")
def earlier():
    config = STILL.model_copy(update={"epochs": 3, "learning_rate": 5e-3, "members": 2})
    return fit_heavy(config, make_table(2000), make_table(500, seed=1), seed=3)


def start(ranker, **more):
    return WarmStart("r1", ranker.checkpoint(), None, **more)


def test_a_network_begins_where_the_earlier_one_ended_also_on_rows_of_another_scale(earlier):
    later, valid = make_table(1200, seed=5), make_table(500, seed=1)
    later.values[:, 0] *= 3  # its moments differ: the weights must still mean what they meant
    begun = fit_heavy(STILL.model_copy(update={"members": 2}), later, valid, seed=9, warm=start(earlier))
    np.testing.assert_allclose(begun.logits(valid.values)[0], earlier.logits(valid.values)[0], atol=1e-5)
    cold = fit_heavy(STILL.model_copy(update={"members": 2}), later, valid, seed=9)
    assert np.abs(cold.logits(valid.values)[0] - earlier.logits(valid.values)[0]).max() > 0.5


def test_a_category_keeps_its_embedding_when_its_code_moves_and_a_new_one_begins_as_unknown(earlier):
    train, valid = make_table(800, seed=5), make_table(300, seed=1)
    column = train.names.index("kind_of_thing")
    # "aa" comes in behind "a": codes 2 to 7 become 3 to 8
    now = ["a", "aa", *LETTERS[1:]]

    def moved(table):
        values = table.values.copy()
        values[:, column] += values[:, column] >= 2
        return replace(table, values=values, categories={"kind_of_thing": 9})

    warm = start(earlier, before={"kind_of_thing": LETTERS}, now={"kind_of_thing": now})
    begun = fit_heavy(STILL, moved(train), moved(valid), seed=0, warm=warm)
    one = fit_heavy(STILL, train, valid, seed=0, warm=start(earlier))
    np.testing.assert_allclose(begun.logits(moved(valid).values)[0], one.logits(valid.values)[0], atol=1e-5)
    new, unknown = moved(valid).values[:50].copy(), moved(valid).values[:50].copy()
    new[:, column], unknown[:, column] = 2, 0
    np.testing.assert_allclose(begun.logits(new)[0], begun.logits(unknown)[0], atol=1e-5)


def test_trees_are_added_to_those_of_the_earlier_run():
    train, valid = make_table(1500), make_table(500, seed=1)
    first = fit_heavy(LightGbmConfig(**QUICK, members=2), train, valid, seed=1)
    later = make_table(1500, seed=7)
    second = fit_heavy(LightGbmConfig(**QUICK, members=2), later, valid, seed=1, warm=start(first))
    for task in first.tasks:
        for old, new in zip(first.models[task], second.models[task], strict=True):
            assert new.count("\nTree=") > old.count("\nTree=")
            assert new.split("\nTree=1\n")[1].split("\n\n")[0] == old.split("\nTree=1\n")[1].split("\n\n")[0]
    assert second.metrics["click"]["roc_auc"] > first.metrics["click"]["roc_auc"]
    renamed = start(first, before={"kind_of_thing": LETTERS}, now={"kind_of_thing": ["z", *LETTERS[1:]]})
    with pytest.raises(ArtifactError, match=r"codes of kind_of_thing mean other values now \(it had a; it lacked z"):
        fit_heavy(LightGbmConfig(**QUICK, members=2), later, valid, seed=1, warm=renamed)


def without(table, name):
    keep = [j for j, n in enumerate(table.names) if n != name]
    return replace(table, values=table.values[:, keep], names=tuple(table.names[j] for j in keep))


def test_what_does_not_fit_is_refused_with_the_difference(earlier):
    train, valid, warm = make_table(600), make_table(200, 1), start(earlier)
    with pytest.raises(ArtifactError, match="kind shared_bottom, this one is mmoe"):
        fit_heavy(MmoeConfig(), train, valid, seed=0, warm=warm)
    with pytest.raises(ArtifactError, match="other features: it had number_2"):
        fit_heavy(STILL, without(train, "number_2"), without(valid, "number_2"), seed=0, warm=warm)
    with pytest.raises(ArtifactError, match="other tasks: it had hide"):
        labels = {k: v for k, v in train.labels.items() if k != "hide"}
        fit_heavy(STILL, replace(train, labels=labels), valid, seed=0, warm=warm)
    with pytest.raises(ArtifactError, match=r"another shape: hidden was \[16\], is \[8\]"):
        fit_heavy(STILL.model_copy(update={"hidden": [8]}), train, valid, seed=0, warm=warm)
    with pytest.raises(ArtifactError, match="kind_of_thing had 8 codes, it has 9"):
        fit_heavy(STILL, replace(train, categories={"kind_of_thing": 9}), valid, seed=0, warm=warm)


def test_the_light_ranker_ends_at_the_same_optimum_wherever_it_begins():
    first, later = fitted_light(make_table(1500)), make_table(1500, seed=4)
    cold, warm = fitted_light(later), fitted_light(later, start=first)
    assert warm.weights == pytest.approx(cold.weights, abs=1e-6)
    # moved to other moments, the start scores as the earlier ranker does
    mean, std = [m + 1 for m in first.mean], [2 * s for s in first.std]
    beta = light_start(first, first.names, first.logged, mean, std)
    x = np.random.default_rng(0).normal(first.mean, first.std, (20, 3))
    mine = ((x - mean) / std) @ beta[:3] + beta[3]
    theirs = ((x - np.array(first.mean)) / first.std) @ first.weights + first.intercept
    np.testing.assert_allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize(
    ("ids", "now", "refused"),
    [
        (["item"], ["a", "b", "c"], False),
        (["item"], ["b", "a"], True),
        (["item"], ["a"], True),
        ([], ["b", "a"], False),
    ],
)
def test_hashed_ids_must_stand_where_they_stood(tmp_path, ids, now, refused):
    Vocabulary(np.array(["a", "b"])).save(tmp_path, "items")
    run = SimpleNamespace(id="r", bundle=tmp_path)
    heavy = SharedBottomConfig(ids=ids)
    asked = SimpleNamespace(
        settings=SimpleNamespace(ranking=SimpleNamespace(heavy=heavy)),
        dataset=SimpleNamespace(item_ids=Vocabulary(np.array(now))),
    )
    with pytest.raises(ArtifactError, match="another place") if refused else nullcontext():
        _same_places(run, asked)
