"""Whether the estimated examination of places is the true one of a generated world.

    python tests/simulations/position_bias.py DATA [rows]

The estimate is from the log alone, that of `pipeline/debiasing/examination.py`; the truth is what the world knows: the
chance of a positive action of a draw of logged impressions, each put into every place in turn, alone in its slate.
"""

import sys

import numpy as np

from recsys_cli.data.dataset import Dataset
from recsys_cli.pipeline.debiasing.examination import examination
from recsys_cli.world.simulator import World


def main(data: str, rows: int = 4000) -> None:
    dataset, world = Dataset.open(data), World.open(data)
    log = dataset.log
    found = examination(log.user, log.item, log.position.astype(np.int64), log.positive)
    pick = np.sort(np.random.default_rng(0).choice(len(log), min(rows, len(log)), replace=False))
    truth = []
    for place in found.positions:
        slate = np.full((len(pick), int(place) + 1), -1, np.int64)
        slate[:, place] = log.item[pick]
        chance = world.probabilities(
            log.user[pick], slate, log.time[pick], log.surface[pick].astype(int), log.device[pick].astype(int)
        )
        none = np.prod([1 - chance[a][:, place].astype(float) for a in log.positive_actions], axis=0)
        truth.append((1 - none).mean())
    truth = np.array(truth) / truth[0]
    print(f"{'place':>5} {'rows':>8} {'truth':>6} {'estimate':>9}  95 % interval    by place alone")
    for at, place in enumerate(found.positions):
        told = f"{found.value[at]:9.3f}  [{found.low[at]:.3f}, {found.high[at]:.3f}]"
        print(f"{place + 1:5d} {found.rows[at]:8,d} {truth[at]:6.3f} {told}   {found.plain[at]:.3f}")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
