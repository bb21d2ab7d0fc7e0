"""Runs stages one after the other, and records what each of them did."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Filter, Stage, sift, sifts


@dataclass(frozen=True)
class StageRecord:
    """What a stage did, recorded by the runner."""

    name: str
    before: float
    """candidates a user that came in, mean over the batch"""
    after: float
    """candidates a user that went out"""
    ms: float


class Runner:
    """One query on its way through the stages."""

    def __init__(self, query: Query, start: Candidates | None = None, *, keep: bool = False):
        """start: what the first stage is given; nothing by default. keep: whether to keep what each stage gave."""
        self.query = query
        self.kept: dict[str, Candidates] | None = {} if keep else None
        """name of a stage → what it gave, where asked to keep it"""
        self.candidates = Candidates.empty(len(query)) if start is None else start
        self.records: list[StageRecord] = []
        self._count = self._mean_count()

    def run(self, stages: Iterable[Stage]) -> Candidates:
        """The candidates after these stages, those left out that the request leaves out.

        What a stage raises is raised, but that of a source, hydrator or side effect where the query keeps failures:
        the candidates then go on as they were.
        """
        for together, group in groupby((s for s in stages if s.active(self.query)), key=sifts):
            if together and self.kept is None:
                self._sift([stage for stage in group if sifts(stage)])
            else:
                for stage in group:
                    self._pass(stage)
        return self.candidates

    def _pass(self, stage: Stage) -> None:
        start = time.perf_counter()
        if stage.may_fail:
            out = self.query.attempt(stage.name, stage, self.query, self.candidates)
        else:
            out = stage(self.query, self.candidates)
        ms = (time.perf_counter() - start) * 1e3
        self.candidates = self.candidates if out is None else out
        if self.kept is not None:
            self.kept[stage.name] = self.candidates
        self._record(stage, self._mean_count(), ms)

    def _sift(self, filters: list[Filter]) -> None:
        """Filters one behind the other, whose candidates are moved together once; the last one is told the time."""
        users, began = max(len(self.query), 1), time.perf_counter()

        def done(stage: Filter, kept: np.ndarray) -> None:
            nonlocal began
            now = time.perf_counter()
            self._record(stage, np.count_nonzero(kept) / users, (now - began) * 1e3)
            began = now

        self.candidates = self.candidates.keep(sift(filters, self.query, self.candidates, done))
        last = self.records[-1]
        self.records[-1] = replace(last, ms=last.ms + (time.perf_counter() - began) * 1e3)

    def _record(self, stage: Stage, count: float, ms: float) -> None:
        self.records.append(StageRecord(stage.name, self._count, count, ms))
        self._count = count

    def _mean_count(self) -> float:
        return np.count_nonzero(self.candidates.filled) / len(self.query) if len(self.query) else 0.0
