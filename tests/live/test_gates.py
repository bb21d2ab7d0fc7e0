"""Gates by hand-made figures, and logs in the positions of another run."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from planted_datasets import rewritten

from recsys_cli.data.dataset import Dataset
from recsys_cli.live.config import GatesConfig
from recsys_cli.live.gates import data_gates, first_refusal, learned_gates, list_gates, surely_higher
from recsys_cli.live.lists import edges_in_vocabulary, half_to_measure, in_vocabulary

CONFIG = GatesConfig()


def manifest(auc: float = 0.8, ece: float = 0.01, order: float = 0.3, positives: int = 100):
    head = {"rows": 1_000, "positives": positives, "roc_auc": auc, "ece": ece}
    account = {"criterion": "NDCG@10 of what people turned to", "known": {"figures": {"heavy": {"value": order}}}}
    return SimpleNamespace(metrics={"heavy": {"click": head, "segments": {}}, "order": account})


@pytest.mark.parametrize(
    ("new", "refused"),
    [
        (manifest(), None), (manifest(auc=0.76), None), (manifest(auc=0.74), "predictions"),
        (manifest(ece=0.029), None), (manifest(ece=0.031), "calibration"), (manifest(order=0.17), "lists in training"),
        (manifest(positives=49), "predictions"), (SimpleNamespace(metrics={}), "predictions"),
    ],
    ids=["same", "a little lower", "lower", "ece a little higher", "ece higher", "lists", "too few", "nothing learned"],
)
def test_what_a_training_found_of_itself(new, refused):
    found = first_refusal(learned_gates(new, manifest(), CONFIG))
    assert (found and found.gate) == refused


def test_a_run_that_learned_without_predictions_asks_for_none():
    gates = learned_gates(SimpleNamespace(metrics={}), SimpleNamespace(metrics={}), CONFIG)
    assert gates == []


def report(second: float, p: float | None, coverage: float = 0.5, unsafe: float = 0.01) -> dict:
    def system(name, coverage, unsafe):
        return {"name": name, "metrics": {"coverage@10": {"value": coverage}, "unsafe@10": {"value": unsafe}}}

    test = {"first": 0.2, "second": second, "value": second - 0.2, "low": second - 0.25, "high": second - 0.15}
    test |= {"users": 90, "p": p}
    return {
        "systems": [system("a", 0.5, 0.01), system("b", coverage, unsafe)], "quoted": "ndcg@10", "headline": 10,
        "comparisons": [{"metrics": {"ndcg@10": test}}],
    }


@pytest.mark.parametrize(
    ("found", "milliseconds", "refused"),
    [
        (report(0.2, 1.0), 2, None), (report(0.181, 0.02), 2, None), (report(0.179, 0.3), 2, "quality"),
        (report(0.19, 0.009), 2, "quality"), (report(0.2, None), 2, None), (report(0.2, 1.0, 0.24), 2, "coverage"),
        (report(0.2, 1.0, unsafe=0.04), 2, "safety"), (report(0.2, 1.0), 4.1, "latency"),
    ],
    ids=["same", "lower", "much lower", "surely lower", "too few", "collapsed", "unsafe", "slow"],
)
def test_lists_on_the_newest_window(found, milliseconds, refused):
    gate = first_refusal(list_gates(found, {"a": 0.002, "b": milliseconds / 1000}, CONFIG))
    assert (gate and gate.gate) == refused


def test_what_chance_brings_about_among_few_people_is_no_regression_of_safety():
    def gate(before, after, half):
        found = report(0.2, 1.0, unsafe=after)
        for system, value in zip(found["systems"], (before, after), strict=True):
            system["metrics"]["unsafe@10"] = {"value": value, "low": value - half, "high": value + half}
        return next(g for g in list_gates(found, {"a": 0.002, "b": 0.002}, CONFIG) if g.gate == "safety").passed

    assert gate(0.04, 0.065, 0.004) and not gate(0.04, 0.065, 0.003)  # 0.025 higher, give or take 0.0057 and 0.0042
    assert not gate(0.04, 0.2, 0.02)
    assert surely_higher({"value": 1.0, "low": 0.7}, {"value": 2.0, "low": 1.6}) == pytest.approx(0.5)


def test_a_run_is_measured_by_what_knows_nothing_of_the_window():
    def run(models_end, test_start, final=False):
        return SimpleNamespace(models_end=models_end, final=final, windows=SimpleNamespace(test_start=test_start))

    assert half_to_measure(run(100, 80), 100) is False  # newer data: what it serves
    assert half_to_measure(run(100, 80), 80) is True  # the same data
    assert half_to_measure(run(100, 90), 80) is None
    assert half_to_measure(run(100, 80, final=True), 80) is None


def test_rows_of_other_data_are_found_by_their_ids(tiny_dataset, tmp_path):
    first = Dataset.open(tiny_dataset)

    def change(tables):
        stranger = tables["impressions"].head(3).with_columns(pl.lit(9_999).cast(pl.Int64).alias("user_id"))
        new = tables["users"].head(1).with_columns(pl.lit(9_999).cast(pl.Int64).alias("user_id"))
        return tables | {
            "users": pl.concat([new, tables["users"].reverse()]), "items": tables["items"].reverse(),
            "impressions": pl.concat([tables["impressions"], stranger.with_columns(surface=pl.lit("a new one"))]),
        }

    other = Dataset.open(rewritten(tiny_dataset, tmp_path / "other", change))
    bundle = SimpleNamespace(
        user_ids=first.user_ids, item_ids=first.item_ids, author_ids=first.author_ids,
        catalogue=SimpleNamespace(names=first.catalogue.names | first.categories),
    )
    mine, theirs = first.log, in_vocabulary(bundle, other, other.log)
    assert len(theirs) == len(mine) == len(other.log) - 3

    def ordered(log):
        return log.take(np.lexsort((log.item, log.user, log.time)))

    mine, theirs = ordered(mine), ordered(theirs)
    for name in ("user", "item", "time", "surface", "device"):
        assert (getattr(mine, name) == getattr(theirs, name)).all(), name
    assert all((mine.actions[a] == theirs.actions[a]).all() for a in mine.actions)
    edges, again = first.edges("follows"), edges_in_vocabulary(bundle, other, "follows")
    assert set(zip(edges["from"], edges["to"], strict=True)) == set(zip(again["from"], again["to"], strict=True))


@pytest.mark.parametrize(("rows", "passed"), [(0, True), (400, True), (900, False)])
def test_who_is_no_person_is_named_and_much_of_them_is_refused(tiny_dataset, tmp_path, rows, passed):
    def change(tables):
        shown = tables["impressions"]
        bot = shown.head(1).select(pl.all().repeat_by(rows).explode()).with_columns(
            user_id=pl.lit(1059).cast(shown.schema["user_id"])) if rows else shown.head(0)
        return tables | {"impressions": pl.concat([shown, bot])}

    dataset = Dataset.open(rewritten(tiny_dataset, tmp_path / "data", change))
    gates = {g.gate: g for g in data_gates(dataset, None, None, CONFIG, 300)}
    bots = gates["data: bots"]
    assert gates["data: sound"].passed and bots.passed is passed
    assert bots.measured == ("none" if not rows else f"{(rows + own(dataset)) / (4_800 + rows):.1%} from 1: 1059")


def own(dataset) -> int:
    """Rows that user 1059 has of its own on the first day."""
    log, user = dataset.log, dataset.user_ids.position(1059)
    first = (log.time - log.time.min()) // 86_400_000_000 == 0
    return int((first & (log.user == user)).sum()) - max(0, len(log) - 4_800)
