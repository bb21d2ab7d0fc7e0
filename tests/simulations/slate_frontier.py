"""Accuracy and diversity of slates by how much of the latter is asked for: MMR, DPP, calibration and caps.

    python tests/simulations/slate_frontier.py DATA ARTIFACTS [users] [--tiny]

The run in use, as of the start of its test window; every setting serves the same candidates to the same people. Printed
for each: NDCG@10, the difference to relevance alone with its standard error over users, true value a place where the
dataset knows its truth, intra-list diversity of topics, distinct authors, share of the catalogue shown, and whether
nothing else here is at least as good in both accuracy and topics (on the frontier).
"""

import sys

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import split_again
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.offline import sample_users
from recsys_cli.evaluation.oracle import Oracle
from recsys_cli.evaluation.period import truth_of_test
from recsys_cli.evaluation.ranking_metrics import hits, intra_list_diversity, ndcg
from recsys_cli.features.context import Context
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.runner import Runner

K = 10
OFF = {"diversity": {"enabled": False}}


def added(name: str, **settings) -> dict:
    return OFF | {"stages": {name: {"kind": name, **settings}}}


SETTINGS = {
    "relevance alone": OFF,
    "shipped default": {},
    "caps 2, 30 %": {"diversity": {"enabled": True}},
    "caps 1, 20 %": {"diversity": {"enabled": True, "max_per_author": 1, "max_topic_share": 0.2}},
    **{f"mmr {w:g}": added("mmr", diversity=w) for w in (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)},
    **{f"dpp {w:g}": added("dpp", diversity=w) for w in (0.02, 0.05, 0.1, 0.2, 0.35, 0.6)},
    **{f"mmr topics {w:g}": added("mmr", diversity=w, embeddings="topics") for w in (0.05, 0.2, 0.5)},
    **{f"dpp topics {w:g}": added("dpp", diversity=w, embeddings="topics") for w in (0.02, 0.1, 0.35)},
    **{f"calibration {w:g}": added("calibration", calibration=w) for w in (0.05, 0.2, 0.5, 0.8)},
}
TINY = ("relevance alone", "shipped default", "mmr 0.3", "dpp 0.35", "calibration 0.5")


def main(data: str, artifacts: str, users: int = 400, only: tuple[str, ...] = tuple(SETTINGS)) -> None:
    base = RecommendationEngine.load(artifacts, measured=True)
    dataset = Dataset.open(data)
    split = split_again(base.manifest.windows, dataset)
    dataset, start = dataset.with_log(split.log), split.windows.test_start
    past = base.as_of(split.log, start, **{t: dataset.edges(t) for t in ("follows", "blocks")})
    settings = base.pipeline.model_dump(mode="json")
    truth = sample_users(truth_of_test(past, dataset, split, past.state, EvaluationConfig()), users, 0)
    oracle, catalogue = Oracle.of(dataset, past), past.state.catalogue
    # one batch, whose ranking is then handed to the selection of every setting
    whole = past.with_pipeline(past.pipeline.model_copy(update={"batch_size": max(len(truth.users), 1)}))
    ranked, rows = whole.slates(truth.users, K, keep_sourced=True).ranked, {}
    print(f"{dataset.manifest.name}: {len(truth.users):,} users, ordered by {past.order.known}")
    for name in only:
        changed = {**settings, "exploration": {"enabled": False}, "stages": {}, **SETTINGS[name]}
        engine = past.with_pipeline(PipelineConfig.model_validate(changed))
        if engine.notes:
            print(f"{name}: {engine.notes[0]}")
            continue
        query = Query(
            truth.users, K, past.bundle, past.state, past.snapshot, Context(now=past.state.now), base.manifest.seed
        )
        items = Runner(query, ranked).run(engine.stages.selection).items
        accurate = ndcg(hits(items, truth.relevant), truth.relevant.lengths, K)
        worth = np.zeros(len(items)) if oracle is None else oracle.utility(truth.users, items).mean(axis=1)
        topics = intra_list_diversity(items, K, catalogue.item_topics)
        author = np.where(items >= 0, catalogue.item_author[items], -1)
        authors = np.mean([len(set(row[row >= 0].tolist())) for row in author])
        varied = float(np.nanmean(topics)) if np.isfinite(topics).any() else 0.0
        rows[name] = accurate, worth, varied, authors, len(np.unique(items)) / catalogue.n_items
    show(rows)


def show(rows: dict) -> None:
    base = rows["relevance alone"]
    heads = {"NDCG@10": 8, "change": 8, "±": 7, "true": 7, "topics": 7, "authors": 7, "cover": 6}
    print(f"{'':18} {' '.join(f'{head:>{width}}' for head, width in heads.items())}  frontier")
    for name, (accurate, worth, topics, authors, cover) in rows.items():
        change = accurate - base[0]
        error = change.std() / np.sqrt(len(change))
        above = [o for o in rows.values() if o[0].mean() >= accurate.mean() and o[2] >= topics]
        best = all(o[0].mean() == accurate.mean() and o[2] == topics for o in above)
        by_truth = [o for o in rows.values() if o[1].mean() >= worth.mean() and o[2] >= topics]
        truly = worth.any() and all(o[1].mean() == worth.mean() and o[2] == topics for o in by_truth)
        marks = " ".join(["log"] * best + ["truth"] * bool(truly))
        print(
            f"{name:18} {accurate.mean():8.4f} {change.mean() / max(base[0].mean(), 1e-12):+8.1%} "
            f"{error / max(base[0].mean(), 1e-12):7.1%} {worth.mean():7.3f} {topics:7.3f} {authors:7.2f} {cover:6.1%}"
            f"  {marks}"
        )


if __name__ == "__main__":
    given = [a for a in sys.argv[1:] if a != "--tiny"]
    main(given[0], given[1], *map(int, given[2:]), **({"only": TINY} if "--tiny" in sys.argv else {}))
