"""Rows of requests made crosswise: parts of every user's rows are foretold from the rest.

Where rows have no order any part is as good as the last, and a ranker learns from all of them; where they have one,
the last fifth of each user is foretold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from recsys_cli.data.windows.row_windows import HISTORY, TEST, arrange, places_at_random, places_in_order
from recsys_cli.data.windows.split import after_everything
from recsys_cli.pipeline.request_rows import RequestRows, joined, some_of
from recsys_cli.pipeline.requests import Moment
from recsys_cli.training.bundles import draft_bundle
from recsys_cli.training.fitting import fit_anew
from recsys_cli.training.requests import feature_names, moment, rows_of

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.log import Log
    from recsys_cli.features.spec import FeatureSpec
    from recsys_cli.pipeline.bundle import Bundle
    from recsys_cli.retrieval.base import Retriever
    from recsys_cli.training.job import TrainingJob

SIDES = 4
"""Groups of users; orders are compared on one by rankers that learned from the others. With few sides what learns much
from more rows looks worse than it will be: with two, trees lost to a linear ranker on data where they win."""
LAST = 0.2
"""Share of each user's rows that is foretold where they have an order."""


def folds_of(log: Log, seed: int, parts: int, random: bool) -> list[np.ndarray]:
    """int8[n] windows of the rows, HISTORY or TEST, of each fold: `parts` random ones, or the last fifth alone."""
    rows = np.bincount(log.user)
    if random:
        place = places_at_random(log.user, np.random.default_rng(seed))
        # a user with fewer rows than parts is foretold in some of them only, and never without any history
        return [np.where((place % parts == f) & (rows[log.user] > 1), TEST, HISTORY).astype(np.int8)
                for f in range(parts)]
    place = places_in_order(log.user)
    kept = rows - np.floor(rows * LAST).astype(np.int64)
    return [np.where(place >= kept[log.user], TEST, HISTORY).astype(np.int8)]


@dataclass(frozen=True)
class Fold:
    """A part of everybody's rows, foretold by sources that were fitted without it."""

    bundle: Bundle
    moment: Moment
    rows: RequestRows

    def side(self, which: int) -> np.ndarray:
        """Places of every SIDES-th user of the moment: those of one side, which a user is on in every fold."""
        return np.flatnonzero(self.moment.users % SIDES == which)


def crosswise(
    job: TrainingJob, spec: FeatureSpec, sources: dict[str, Retriever], dataset: Dataset, *, random: bool
) -> list[Fold]:
    """The folds of a dataset's log with their rows of requests, all with the same features: a source that some part
    cannot be fitted without says nothing there. A part that foretells nobody's rows is left out."""
    seed, config = job.settings.seed, job.settings.ranking.relevance
    folds = [window for window in folds_of(dataset.log, seed, config.folds, random) if (window == TEST).any()]
    names, parts = feature_names(job, draft_bundle(job, spec, sources)), []
    with job.progress.step("requests, crosswise", total=len(folds)) as bar:
        for window in folds:
            arranged = arrange(dataset.log, window, after_everything(dataset))
            cut, end = arranged.bounds[1], arranged.bounds[-1]
            past = job.window(arranged.log, cut)
            bundle = draft_bundle(job, spec, fit_anew(job, sources, past))
            found: Moment = moment(job, bundle, arranged.log, cut, end, config.requests)
            parts.append(Fold(bundle, found, rows_of(job, bundle, [found], len(folds), names)))
            bar.advance()
    return parts


def rows_without_side(folds: list[Fold], which: int) -> RequestRows:
    """Rows of the requests of all users but those of a side: to learn from, where that side is what orders are compared
    on."""
    return joined(*(some_of(fold.rows, fold.rows.table.user % SIDES != which) for fold in folds))
