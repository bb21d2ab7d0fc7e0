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

ROLES = {
    "user": ("user", "user_id", "userid", "uid", "user-id", "reviewerid"),
    "item": ("item", "item_id", "itemid", "iid", "movie_id", "movieid", "product_id", "productid", "asin", "isbn"),
    "rating": ("rating", "ratings", "score", "stars", "overall", "book-rating"),
}
"""What the columns of a ratings file are called, in lower case."""


def read_ratings(protocol: RatingFolds, folder: Path) -> tuple[Ratings, list[str]]:
    """(the ratings file below `folder`, what is to be told of it).

    With a header the columns are found by their names, else they are user, item and rating in this order. Raises
    DataError naming the first line that is no rating or lies outside the scale.
    """
    path = folder / protocol.ratings
    lines = _lines(path)
    first, lines = (lines[0], lines[1:]) if protocol.header and lines else ("", lines)
    places = _places(first.split(protocol.separator), path) if protocol.header else (0, 1, 2)
    rows = [(n, line.split(protocol.separator)) for n, line in enumerate(lines, 1 + protocol.header) if line.strip()]
    values, ids = np.empty(len(rows)), ([], [])
    for at, (number, row) in enumerate(rows):
        try:
            values[at] = float(row[places[2]])
            for side in (0, 1):
                ids[side].append(row[places[side]].strip())
        except (IndexError, ValueError):
            values[at] = np.nan
        if not np.isfinite(values[at]):
            raise DataError(
                f"{path} line {number}: not a user, an item and a rating",
                "check `separator` and `header` of the protocol",
            ) from None
    low, high = protocol.scale
    outside = (values < low) | (values > high)
    if outside.any():
        at = int(outside.argmax())
        raise DataError(
            f"{path} line {rows[at][0]}: rating {values[at]:g} lies outside the scale {low:g} to {high:g} "
            f"({int(outside.sum()):,} such lines)",
            f"give `scale: [{values.min():g}, {values.max():g}]` in the protocol, or mend the file",
        )
    if len(rows) < protocol.folds:
        raise DataError(f"{path} holds {len(rows)} ratings, too few for {protocol.folds} folds")
    users, user = np.unique(ids[0], return_inverse=True)
    items, item = np.unique(ids[1], return_inverse=True)
    again = len(rows) - len(np.unique(user.astype(np.int64) * len(items) + item))
    told = f"{again:,} ratings repeat a user and an item: the same pair may stand in train and test of a fold"
    return Ratings(user, item, values, len(users), len(items)), [told] if again else []


def _lines(path: Path) -> list[str]:
    from recsys_cli.data.importer.mapping import Source
    from recsys_cli.data.importer.text import blocks

    try:
        content = b"".join(b.content for b in blocks(Source(files=str(path)), path, None, {}))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}", "name the folder of the data with --from") from None
    except DataError as error:
        raise DataError(error.message, "save it as UTF-8") from None
    return content.decode().replace("\r\n", "\n").split("\n")


def _places(header: list[str], path: Path) -> tuple[int, ...]:
    """Places of user, item and rating among the names of a header, of which a type after a colon is cut off."""
    names = [name.strip().strip('"').partition(":")[0].lower() for name in header]
    places = tuple(next((names.index(n) for n in known if n in names), -1) for known in ROLES.values())
    if -1 in places:
        role = list(ROLES)[places.index(-1)]
        raise DataError(
            f"{path} line 1: no column is called {role} (its columns: {', '.join(names)})",
            f"call it `{role}`, or give a file in the order user, item, rating with `header: false`",
        )
    return places


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
