"""Runs stages one after the other, and records what each of them did."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.query import Query
from recsys_cli.pipeline.stage import Stage


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
        for stage in stages:
            if not stage.active(self.query):
                continue
            start = time.perf_counter()
            if stage.may_fail:
                out = self.query.attempt(stage.name, stage, self.query, self.candidates)
            else:
                out = stage(self.query, self.candidates)
            ms = (time.perf_counter() - start) * 1e3
            self.candidates = self.candidates if out is None else out
            if self.kept is not None:
                self.kept[stage.name] = self.candidates
            before, self._count = self._count, self._mean_count()
            self.records.append(StageRecord(stage.name, before, self._count, ms))
        return self.candidates

    def _mean_count(self) -> float:
        return np.count_nonzero(self.candidates.filled) / len(self.query) if len(self.query) else 0.0
