"""From a CSV file of your own to a slate, in one script.

    python csv_to_slate.py interactions.csv shop

The file has a line for each thing that somebody took: user_id, item_id, timestamp (seconds since 1970). Written to the
folder `shop` are a dataset, a trained run, and `slates.csv` with ten items for everybody.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from recsys_cli import RecommendationEngine
from recsys_cli.data.dataset import Dataset
from recsys_cli.settings import Paths, Settings
from recsys_cli.training import train


def main(file: str, folder: str) -> None:
    """Import, train and recommend for everybody."""
    rows = pl.read_csv(file).with_columns(
        pl.from_epoch("timestamp", "s").dt.replace_time_zone("UTC"),
        click=pl.lit(True),  # the file holds what people took, nothing that they left
    )
    place = Path(folder)
    dataset = Dataset.from_frames(place / "data", {"impressions": rows}, {"click": "positive"})
    settings = Settings(paths=Paths(data=str(place / "data"), artifacts=str(place / "artifacts")))
    run = train(settings)
    print(f"{dataset.log.positive.sum():,} interactions, run {run.id}")

    engine = RecommendationEngine.load(place / "artifacts")
    people = dataset.users["user_id"].to_list()
    slates = [
        {"user_id": answer.user_id, "rank": item.rank, "item_id": item.item_id, "reason": item.reason}
        for answer in engine.recommend_many(people, 10)
        for item in answer.items
    ]
    pl.DataFrame(slates).write_csv(place / "slates.csv")
    print(f"wrote {place / 'slates.csv'}: {len(people)} people")


if __name__ == "__main__":
    main(*sys.argv[1:])
