"""Which figure to trust before an experiment: eight pipelines ranked by offline metrics, by off-policy estimates, by a
simulated A/B test, and by what they truly earn.

    recsys generate-data && recsys train
    python tests/simulations/offline_online.py [--users 300] [--days 5] [--log-days 2] [--data data/world]

The truth of a pipeline is what people do who live with it alone, as positive actions of a person in `--days` days: the
same people, visits and luck for each. Offline metrics are those of the test window of the log. Off-policy estimates are
made from two logs of `--log-days` days: one in which every request is answered by one of the eight drawn at random
(`mixture`: every list of every pipeline may be shown), and one of the configured pipeline with its exploration on
(`exploring`). Prints Kendall's τ of each with the truth, and the truth of what each puts first, in parts of the best.
Takes some minutes of one processor.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau
from threadpoolctl import threadpool_limits

from recsys_cli.config import merge, validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import split_again
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.oracle import Oracle
from recsys_cli.evaluation.ranking_metrics import accuracy
from recsys_cli.evaluation.truth import find_truth
from recsys_cli.experiments.arm_life import SCORES, ArmLife, Life, _rounds, with_seen
from recsys_cli.experiments.simulate import ArmWork, with_future
from recsys_cli.off_policy_estimates import single
from recsys_cli.off_policy_estimates.diagnose import effective_sample_size
from recsys_cli.off_policy_estimates.reward_model import cross_fitted
from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.progress import Step
from recsys_cli.world.simulator import World

PIPELINES = {
    "configured": {},
    "relevance": {"order": {"known": "relevance", "new": "relevance"}},
    "light": {"order": {"known": "light", "new": "light"}},
    "merge": {"order": {"known": "merge", "new": "merge"}},
    "in_network": {"order": {"known": "in_network", "new": "popularity"}},
    "trending": {"order": {"known": "trending", "new": "trending"}},
    "popularity": {"order": {"known": "popularity", "new": "popularity"}},
    "diverse": {"diversity": {"enabled": True, "max_per_author": 1, "max_topic_share": 0.1}},
}
EXPLORING = {"exploration": {"enabled": True}}
K = 10
MOST_WEIGHT = 10.0


def pipelines_over(base: PipelineConfig) -> dict[str, PipelineConfig]:
    below = base.model_dump(mode="json")
    return {name: validate(PipelineConfig, merge(below, more)) for name, more in PIPELINES.items()}


@dataclass
class LoggedLife(ArmLife):
    """People who are served by a policy with known propensities; what each judged pipeline would have shown is kept."""

    judged: dict[str, PipelineConfig] = field(default_factory=dict)
    exploring: PipelineConfig | None = None
    """the policy that serves; None for one of the judged drawn at random"""
    kept: list[dict[str, np.ndarray]] = field(default_factory=list)

    def _serve(self, day, visits, rows):
        engine, size = self._engine_of(day), self.engine.pipeline.slate_size
        items, chance = np.full((len(rows), size), -1, np.int32), np.full((len(rows), size), np.nan)
        lists = np.full((len(self.judged), len(rows), size), -1, np.int32)
        rng = np.random.default_rng([self.engine.seed, day, 7])
        for number, places in enumerate(_rounds(visits.user[rows])):
            at, asked = rows[places], {"request": day * 1000 + number}
            users, asked["context"] = visits.user[at], self._context(engine, visits, at)
            for v, pipeline in enumerate(self.judged.values()):
                lists[v, places] = engine.with_pipeline(pipeline).slates(users, **asked).items
            if self.exploring is None:
                drawn = rng.integers(0, len(lists), len(places))
                items[places] = lists[drawn, places]
                chance[places] = (lists[:, places] == items[places]).mean(axis=0)
            else:
                batch = engine.with_pipeline(self.exploring).slates(users, **asked)
                items[places], chance[places] = batch.items, batch.scores["propensity"]
            engine = replace(engine, state=with_seen(engine.state, users, items[places]))
        self.kept.append({"user": visits.user[rows], "items": items, "chance": chance, "lists": lists})
        return items, {name: np.full(items.shape, np.nan, np.float32) for name in SCORES}, {}

    def _learn(self, visits, rows, items, responses, propensity):
        self.kept[-1]["reward"] = sum(responses[a].astype(float) for a in self.life.log.positive_actions)
        return super()._learn(visits, rows, items, responses, propensity)


def logged(engine, dataset, world, first_day, days, judged, exploring) -> dict[str, np.ndarray]:
    catalogue = with_future(engine, dataset, world, days)
    life = LoggedLife(engine, dataset, world, first_day, catalogue, Life.of(dataset, world), judged=judged,
                      exploring=exploring)
    life.live(days, Step())
    names = life.kept[0]
    return {name: np.concatenate([part[name] for part in life.kept], axis=int(name == "lists")) for name in names}


def off_policy(log: dict[str, np.ndarray], n_items: int) -> tuple[dict[str, list[float]], list[float]]:
    """(estimator → value of each pipeline, reward of an impression; effective rows of each)."""
    row, slot = np.nonzero((log["items"] >= 0) & (log["chance"] > 0))
    cell, position = np.arange(len(row), dtype=np.int32), slot.astype(np.int16)
    rows = LoggedRows(log["items"][row, slot], log["reward"][row, slot], log["chance"][row, slot].astype(float), cell,
                      position, log["user"][row].astype(np.int64), row.astype(np.int64))
    out: dict[str, list[float]] = {}
    effective = []
    for lists in log["lists"]:
        shown = lists[row, slot]
        there = shown >= 0
        policy = PolicyTable(cell[there], shown[there], np.ones(int(there.sum())), position, n_items)
        w = policy.of(rows.cell, rows.action) / rows.propensity
        q = cross_fitted(rows, policy, 3)
        effective.append(effective_sample_size(w))
        for name, found in {
            "ips": single.ips(w, rows.reward), "clipped_ips": single.clipped_ips(w, rows.reward, MOST_WEIGHT),
            "self_normalised_ips": single.self_normalised_ips(w, rows.reward), "direct_method": single.direct_method(q),
            "doubly_robust": single.doubly_robust(w, rows.reward, q),
            "switch_doubly_robust": single.switch_doubly_robust(w, rows.reward, q, MOST_WEIGHT),
        }.items():
            out.setdefault(name, []).append(found.estimate)
    return out, effective


def offline(artifacts: Path, dataset: Dataset, base: PipelineConfig) -> dict[str, list[float]]:
    """metric → value of each pipeline on the test window, by the half of the run that knows nothing of it."""
    engine = RecommendationEngine.load(artifacts, None, base, measured=True)
    split = split_again(engine.manifest.windows, dataset)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = engine.as_of(split.log, split.windows.test_start, **edges)
    truth = find_truth(split.log, past.state, split.windows.test_start, split.windows.end)
    popularity = past.state.interactions.astype(float)
    oracle = Oracle.of(dataset.with_log(split.log), past)
    out: dict[str, list[float]] = {}
    for pipeline in pipelines_over(base).values():
        items = past.with_pipeline(pipeline).slates(truth.users, K).items
        found = {name: float(np.nanmean(v)) for name, v in accuracy(items, truth.relevant, [K]).items()}
        there = items >= 0
        found["coverage"] = len(np.unique(items[there])) / past.state.catalogue.n_items
        found["novelty (less popular)"] = -float(np.log1p(popularity[items[there]]).mean())
        author = past.state.catalogue.item_author[np.maximum(items, 0)]
        found["authors in a slate"] = float(np.mean([len(np.unique(a[t])) for a, t in zip(author, there, strict=True)]))
        if oracle is not None:
            found["true utility (worlds only)"] = float(oracle.utility(truth.users, items).mean())
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return out


def ab_test(by_user: np.ndarray, rng: np.random.Generator, times: int = 300) -> np.ndarray:
    """float64[times, pipelines] means of eight arms of the same people. by_user: float64[pipelines, users]."""
    k, n = by_user.shape
    arm = np.stack([rng.permutation(n) % k for _ in range(times)])
    return np.stack([np.where(arm == v, by_user[v], 0).sum(axis=1) / (arm == v).sum(axis=1) for v in range(k)], axis=1)


def main() -> None:
    reader = argparse.ArgumentParser()
    for name, default in (("users", 300), ("days", 5), ("log-days", 2)):
        reader.add_argument(f"--{name}", type=int, default=default)
    reader.add_argument("--data", type=Path, default=Path("data/world"))
    reader.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    given = reader.parse_args()
    dataset, world = Dataset.open(given.data), World.open(given.data)
    base = PipelineConfig()
    engine = RecommendationEngine.load(given.artifacts, None, base)
    judged = pipelines_over(base)
    people = np.sort(np.random.default_rng(0).permutation(world.n_users)[: given.users])
    first_day = np.full(world.n_users, -1)
    first_day[people] = 0
    lived = []
    for name, pipeline in judged.items():
        work = ArmWork(given.data, given.artifacts, None, pipeline, first_day, given.days, frozenset(), None)
        sums = work.live(engine, dataset, world, Step()).sums
        lived.append(sums["engagement"][people])
        told = f"{lived[-1].mean():.3f} positive actions a person, {sums['days_active'][people].mean():.2f} days"
        print(f"{time.process_time():7.1f} s  {name}: {told}", flush=True)
    truth = np.array([values.mean() for values in lived])
    print(f"standard error of a difference to the best: {paired_error(np.array(lived)):.3f}\n")
    report("offline", offline(given.artifacts, dataset, base), truth)
    exploring = validate(PipelineConfig, merge(base.model_dump(mode="json"), EXPLORING))
    for name, policy in (("mixture", None), ("exploring", exploring)):
        log = logged(engine, dataset, world, first_day, given.log_days, judged, policy)
        found, effective = off_policy(log, with_future(engine, dataset, world, given.log_days).n_items)
        report(f"off-policy, {name}", found, truth)
        shown = int((log["items"] >= 0).sum())
        print(f"  effective rows of {shown:,}: {', '.join(f'{e:,.0f}' for e in effective)}", flush=True)
    draws = ab_test(np.array(lived), np.random.default_rng(1))
    each = [kendalltau(draw, truth).statistic for draw in draws]
    first = truth[draws.argmax(axis=1)] / truth.max()
    low, high = np.quantile(each, [0.05, 0.95])
    told = f"{np.mean(each):+.2f}  {first.mean():.1%} of the best (mean of {len(draws)}; τ {low:+.2f} to {high:+.2f})"
    print(f"{'A/B test':18}  {'eight arms':28}  {told}")


def paired_error(lived: np.ndarray) -> float:
    gap = lived - lived[lived.mean(axis=1).argmax()]
    return float(gap.std(axis=1, ddof=1).max() / np.sqrt(lived.shape[1]))


def report(kind: str, found: dict[str, list[float]], truth: np.ndarray) -> None:
    for name, values in found.items():
        known = np.nan_to_num(np.array(values), nan=-np.inf)
        tau = kendalltau(known, truth).statistic
        share = truth[known.argmax()] / truth.max()
        first = list(PIPELINES)[int(known.argmax())]
        print(f"{kind:18}  {name:28}  {tau:+.2f}  {share:.1%} of the best, {first}", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
