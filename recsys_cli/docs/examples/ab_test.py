"""An A/B test of two pipelines on the simulated people of a generated world.

    python ab_test.py artifacts data/world 7

Does one item an author please people more than two?
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from recsys_cli import RecommendationEngine
from recsys_cli.data.dataset import Dataset
from recsys_cli.experiments.config import load_experiment
from recsys_cli.experiments.run import run_simulated

EXPERIMENT = """
name: one-an-author
control: {diversity: {enabled: true, max_per_author: 2}}
treatment: {diversity: {enabled: true, max_per_author: 1}}
metrics: [engagement_per_user, ctr, authors_per_slate]
min_users: 20
"""


def main(artifacts: str, data: str, days: str = "7") -> None:
    """Both arms, each metric with its interval, and the verdict."""
    engine = RecommendationEngine.load(artifacts)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "experiment.yaml")
        file.write_text(EXPERIMENT)
        experiment = load_experiment(file, engine.pipeline, int(days))
    result, _ = run_simulated(experiment, engine, Dataset.open(data))
    for row in result["metrics"]:
        low, high = row["difference"]["low"], row["difference"]["high"]
        print(
            f"{row['metric']:<20} {row['control']:.4g} → {row['treatment']:.4g}, "
            f"difference {low:.4g} to {high:.4g}, p = {row['p_value']:.3f}"
        )
    print(result["verdict"])


if __name__ == "__main__":
    main(*sys.argv[1:])
