"""Models of ratings on folds: each part of the ratings predicted from the others."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from recsys_cli.benchmark.config import RatingFolds
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.config import Section
from recsys_cli.errors import DataError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.ratings import RATING_MODELS, Ratings


def read_ratings(protocol: RatingFolds, folder: Path) -> Ratings:
    """The ratings file below `folder`; raises DataError naming the first bad line."""
    path = folder / protocol.ratings
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[protocol.header :]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "name the folder of the data with --from") from None
    rows = [line.split(protocol.separator)[:3] for line in lines if line.strip()]
    values = np.empty(len(rows))
    for at, row in enumerate(rows):
        try:
            values[at] = float(row[2])
        except (IndexError, ValueError):
            raise DataError(
                f"{path} line {at + 1 + protocol.header}: not a user, an item and a rating",
                "check `separator` and `header` of the protocol",
            ) from None
    if len(rows) < protocol.folds:
        raise DataError(f"{path} holds {len(rows)} ratings, too few for {protocol.folds} folds")
    users, user = np.unique([row[0] for row in rows], return_inverse=True)
    items, item = np.unique([row[1] for row in rows], return_inverse=True)
    return Ratings(user, item, values, len(users), len(items))


def measure_ratings(config: Section, protocol: RatingFolds, ratings: Ratings, seed: int, progress: Progress) -> dict:
    """Mean RMSE and MAE over the folds, each with its values, and the seconds of all folds together."""
    order = np.random.default_rng(seed).permutation(len(ratings.value))
    folds = np.array_split(order, protocol.folds)
    errors, fit_seconds, rank_seconds = [], 0.0, 0.0
    with PeakMemory() as memory, progress.step("folds", len(folds)) as step:
        for number, hidden in enumerate(folds):
            model = RATING_MODELS[config.kind](config)
            start = time.perf_counter()
            model.fit(ratings.take(np.concatenate(folds[:number] + folds[number + 1 :])), seed + number)
            fitted = time.perf_counter()
            guess = np.clip(model.predict(ratings.user[hidden], ratings.item[hidden]), *protocol.scale)
            rank_seconds += time.perf_counter() - fitted
            fit_seconds += fitted - start
            errors.append(rating_errors(ratings.value[hidden], guess))
            step.advance()
    return {
        "figures": {name: float(np.mean([e[name] for e in errors])) for name in ("rmse", "mae")},
        "folds": errors,
        "fit_seconds": fit_seconds,
        "rank_seconds": rank_seconds,
        "peak_memory_mib": memory.mib,
    }


def rating_errors(true: np.ndarray, guess: np.ndarray) -> dict[str, float]:
    """Root of the mean squared error, and mean absolute error."""
    return {"rmse": float(np.sqrt(np.mean((true - guess) ** 2))), "mae": float(np.mean(np.abs(true - guess)))}
