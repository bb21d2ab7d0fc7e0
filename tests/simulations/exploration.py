"""What exploration is worth: strategies on a generated world over two weeks in which new items appear daily.

    recsys generate-data --set world.users=400 --set world.items=2000 --set world.days=21
    recsys train --set retrieval.fresh.enabled=true --set retrieval.fresh.max_age_days=7 --set ranking.choose=heavy \\
      --set ranking.heavy.kind=shared_bottom --set ranking.heavy.epochs=3 --set "ranking.heavy.hidden=[64]" \\
      --set pipeline.sourcing.candidates=200 --set pipeline.sourcing.shares.fresh=0.15 --set pipeline.heavy.keep=200
    python tests/simulations/exploration.py --arms none epsilon_greedy thompson

Every arm serves all visits of all people, from the same run, and learns from its own log alone; visits and reactions
are the same in all arms (common random numbers). "as_set" with --as-set is the run as its settings, or a preset, have
it. What is compared is the true engagement: the sum of the probabilities
of positive actions, which the world knows, over everything that an arm showed; intervals are of the paired differences
by user. Every arm proposes new items (`fresh`) and, but for "none", keeps a place for them.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.experiments.arm_life import ArmLife, Life
from recsys_cli.experiments.simulate import with_future
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.progress import Step
from recsys_cli.world.simulator import World

ARMS = {
    "none": {"enabled": False},
    "as_set": {},
    "epsilon_greedy": {"epsilon": 0.1},
    "ucb1": {"strategy": "ucb1", "epsilon": 1.0, "confidence": 0.1},
    "thompson": {"strategy": "thompson", "epsilon": 1.0},
    "gaussian_thompson": {"strategy": "gaussian_thompson", "epsilon": 1.0, "confidence": 0.2},
    "lin_ucb": {"strategy": "lin_ucb", "epsilon": 1.0, "confidence": 0.2},
    "linear_thompson": {"strategy": "linear_thompson", "epsilon": 1.0, "confidence": 0.2},
}


SETTLED = 5
"""Days that an item must have been there before its impressions are counted."""


class TrueArm(ArmLife):
    """An arm that also sums what the world knows of everything shown."""

    def _learn(self, visits, rows, items, responses, propensity):
        user = visits.user[rows]
        chance = self.world.probabilities(
            user, items, visits.time[rows], visits.surface[rows], visits.device[rows], visits.depth[rows],
            follows=self.life.follows,
        )
        total = sum(np.nan_to_num(chance[a]).sum(axis=1) for a in self.life.log.positive_actions)
        people = len(self.first_day)
        if not hasattr(self, "true"):
            self.true, self.slots = np.zeros(people), np.zeros(people)
            self.shown_times = np.zeros(self.catalogue.n_items, np.int64)
        self.true += np.bincount(user, weights=total, minlength=people)
        self.slots += np.bincount(user, weights=(items >= 0).sum(axis=1), minlength=people)
        self.shown_times += np.bincount(items[items >= 0], minlength=len(self.shown_times))
        return super()._learn(visits, rows, items, responses, propensity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="data")
    parser.add_argument("--artifacts", default="artifacts")
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--target", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=list(ARMS))
    parser.add_argument("--as-set", action="store_true", help="places for new items as the run has them")
    parser.add_argument("--set", nargs="*", default=[], help="ARM.KEY=VALUE of exploration")
    asked = parser.parse_args()
    dataset, world = Dataset.open(asked.data), World.open(asked.data)
    base = RecommendationEngine.load(asked.artifacts)
    settings = base.pipeline.model_dump(mode="json")
    everybody = np.zeros(len(dataset.user_ids), np.int64)
    catalogue = with_future(base, dataset, world, asked.days)
    arms = {}
    for name in asked.arms:
        exploration = {"enabled": True, "cold_start": {"enabled": True, "target": asked.target, "max_followers": None}}
        if asked.as_set:
            exploration = settings["exploration"] | {"enabled": True}
        exploration |= ARMS[name]
        for text in asked.set:
            arm, _, pair = text.partition(".")
            if arm in (name, "all"):
                key, _, value = pair.partition("=")
                exploration[key] = type(getattr(base.pipeline.exploration, key))(value)
        pipeline = PipelineConfig.model_validate(settings | {"exploration": exploration})
        arm = TrueArm(base.with_pipeline(pipeline), dataset, world, everybody, catalogue, Life.of(dataset, world))
        arm.live(asked.days, Step())
        arms[name] = arm
        new = np.arange(dataset.catalogue.n_items, catalogue.n_items)
        old_enough = new[catalogue.item_created[new] < world.end + (asked.days - SETTLED) * 86_400_000_000]
        drops = arm.engine.safety_rules.verdicts(catalogue).drops if arm.engine.safety_rules else None
        if drops is not None:  # what the safety policy hides has no claim
            old_enough = old_enough[~drops[0][old_enough]]
        reached = (arm.shown_times[old_enough] >= asked.target).mean()
        total, each = arm.true.sum(), arm.true.sum() / arm.slots.sum()
        print(
            f"{name:18} true engagement {total:9.1f}, of an impression {each:.4f}; "
            f"{reached:6.1%} of {len(old_enough)} new items have {asked.target} impressions, least "
            f"{arm.shown_times[old_enough].min(initial=2**31)}", flush=True,
        )
    names = list(arms)
    for name in names:
        for other in names:
            if names.index(other) >= names.index(name):
                continue
            gain = arms[name].true - arms[other].true
            mean, error = gain.mean(), 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
            mean, error = (100 * value / max(arms[other].true.mean(), 1e-12) for value in (mean, error))
            print(f"{name} − {other}: {mean:+.2f} % [{mean - error:+.2f}, {mean + error:+.2f}]")


if __name__ == "__main__":
    sys.exit(main())
