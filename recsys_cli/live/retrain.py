"""`recsys retrain`: data → gates → training → gates → shadow → canary → promoted, or the run in use stays, and why.

Nothing here touches the run in use until the last step, which replaces the pointer `current` in one write; a training
that dies, wherever it dies, leaves that as it was, and the next one goes on from its checkpoints.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.live import gates as g
from recsys_cli.live.decisions import Decisions, alone
from recsys_cli.progress import Progress
from recsys_cli.tracelog import SILENT, TraceLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.settings import Settings


@dataclass
class Retraining:
    """What came of one."""

    outcome: str
    """promoted, refused, rolled back (by the canary) or unchanged"""
    run: str | None
    """the new run, None where none was trained"""
    used_before: str | None
    reason: str
    gates: list[g.Gate] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome, "run": self.run, "used_before": self.used_before, "reason": self.reason,
            "gates": [gate.to_dict() for gate in self.gates], "seconds": round(self.seconds, 1),
        }


def retrain(
    settings: Settings,
    *,
    data: Callable[[], str] | None = None,
    warm: bool = False,
    force: bool = False,
    wait: bool = False,
    progress: Progress | None = None,
    trace: TraceLog = SILENT,
) -> Retraining:
    """Train on the data of the settings, and put the new run in the place of the one in use where every gate holds.

    data: makes the dataset first and returns its folder (`with_events`), under the lock like everything else. warm:
    begin the rankers with those of the run in use. force: also where data and settings are those of the run in use.
    wait: for a retraining that is running. Every outcome stands in the decision log, failures too, which are raised.
    """
    progress, started = progress or Progress(), time.perf_counter()
    artifacts = Path(settings.paths.artifacts)
    with alone(artifacts, wait=wait):
        decisions = Decisions(artifacts)
        past = decisions.read()
        if past and past[-1]["outcome"] in ("started", "canary"):
            decisions.append("died", reason=f"the retraining of {past[-1]['ts']} ended without a word")
            progress.message("the retraining before ended without a word: going on from its checkpoints")
            _end_canary(artifacts)
        used = RunStore(artifacts).current()
        decisions.append("started", used_before=used)
        try:
            if data is not None:
                settings = settings.model_copy(update={"paths": settings.paths.model_copy(update={"data": data()})})
            done = _Job(settings, used, progress, trace, decisions).go(warm=warm, force=force)
        except BaseException as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            with suppress(OSError):  # a full disk takes no word of itself either
                decisions.append("failed", used_before=used, reason=first, seconds=round(time.perf_counter() - started))
            raise
        done.seconds = time.perf_counter() - started
        decisions.append(**done.to_dict())
        return done


class _Job:
    def __init__(
        self, settings: Settings, used: str | None, progress: Progress, trace: TraceLog, decisions: Decisions
    ):
        self.settings, self.progress, self.trace, self.decisions = settings, progress, trace, decisions
        self.config = settings.live.gates
        self.store = RunStore(settings.paths.artifacts)
        self.used: Run | None = None if used is None else self.store.open(used)

    def go(self, *, warm: bool, force: bool) -> Retraining:
        from recsys_cli.training import train

        before = None if self.used is None else self.used.id
        dataset = Dataset.open(self.settings.paths.data)
        if self.used is not None and not force and self._same(dataset):
            return Retraining("unchanged", None, before, "data and settings are those of the run in use")
        gates = self._before(dataset)
        refusal = g.first_refusal(gates)
        if refusal is not None:
            return self._refused(None, gates)
        new = train(
            self.settings, resume=True, warm="current" if warm and self.used else None, use=False,
            progress=self.progress, trace=self.trace,
        )
        if self.used is not None:
            gates += g.learned_gates(new.manifest, self.used.manifest, self.config)
            with self.progress.step("gates on the newest window"):
                gates += self._after(new)
            if g.first_refusal(gates) is None:
                gates += self._shadow(new)
        if g.first_refusal(gates) is not None:
            return self._refused(new.id, gates)
        gates += self._canary(new)
        if g.first_refusal(gates) is not None:
            return self._refused(new.id, gates, "rolled back")
        if self.store.current() != before:
            return Retraining("refused", new.id, before, f"{self.store.current()} was put in use meanwhile", gates)
        self.store.use(new.id)
        told = "every gate holds" if self.used is not None else "the first run; there is nothing to compare it with"
        return Retraining("promoted", new.id, before, told, gates)

    def _shadow(self, new: Run) -> list[g.Gate]:
        """What comes of copies of live requests, where there are any."""
        config, log = self.settings.live.shadow, self._log
        if not config.requests or log is None:
            return []
        from recsys_cli.live.shadow import shadow

        with self.progress.step("copies of live requests"):
            used, candidate = (self._engine(run, measured=False, threads=1) for run in (self.used.id, new.id))
            return shadow(used, candidate, log, config)

    def _canary(self, new: Run) -> list[g.Gate]:
        """What comes of a share of the people, where that is asked for."""
        config = self.settings.live.canary
        if config is None or self.used is None:
            return []
        if self._log is None:
            return [g.Gate("canary", None, "no server has answered from these artifacts", "a server with people")]
        from recsys_cli.live.canary import canary

        spec = self._engine(new.id, measured=False).bundle.spec
        self.decisions.append("canary", run=new.id, used_before=self.used.id, share=config.share,
                              most_requests=config.most_requests, minutes=config.minutes)
        with self.progress.step("canary", total=config.most_requests) as bar:
            seen = [0]

            def told(answers: int) -> None:
                bar.advance(answers - seen[0])
                seen[0] = answers

            return [canary(
                self.store.folder, new.id, config, spec.positive, spec.negative, told=told,
                wanted=lambda: self.store.current() == self.used.id,
            )]

    @property
    def _log(self) -> Path | None:
        """The log of the server, None where there is none or nothing can read it."""
        from importlib.util import find_spec

        folder = self.store.folder / "events"
        return folder if (folder / "events.db").is_file() and find_spec("msgspec") is not None else None

    def _refused(self, run: str | None, gates: list[g.Gate], outcome: str = "refused") -> Retraining:
        first = g.first_refusal(gates)
        reason = f"{first.gate}: {first.measured} (wanted: {first.wanted})"
        return Retraining(outcome, run, None if self.used is None else self.used.id, reason, gates)

    def _same(self, dataset: Dataset) -> bool:
        manifest = self.used.manifest
        apart = {"paths", "threads", "live", "world", "evaluation", "serving"}
        then = {k: v for k, v in manifest.settings.items() if k not in apart}
        now = {k: v for k, v in self.settings.model_dump(mode="json").items() if k not in apart}
        return manifest.dataset.digest == dataset.manifest.digest and then == now

    def _before(self, dataset: Dataset) -> list[g.Gate]:
        bundle = manifest = None
        if self.used is not None:
            from recsys_cli.pipeline.bundle import read_bundle

            bundle, manifest = read_bundle(self.used.bundle), self.used.manifest
        return [
            g.disk_gate(self.store.folder, self.used, self.config),
            *g.data_gates(dataset, bundle, manifest, self.config, self.settings.live.monitor.bot_events),
        ]

    def _after(self, new: Run) -> list[g.Gate]:
        from recsys_cli.live.lists import compared, half_to_measure

        start = new.manifest.windows.test_start
        half = half_to_measure(self.used.manifest, start)
        candidate = self._engine(new.id, measured=True)
        used = self._engine(self.used.id, measured=bool(half))
        gates = [g.feature_gate(candidate.bundle, used.bundle)]
        if half is None:
            gates.append(g.Gate(
                "quality", None, "the run in use has learned from the newest window itself",
                "a run that has not", "train without --final, or bring newer data",
            ))
            return gates
        report, seconds = compared({self.used.id: used, new.id: candidate}, self.settings, self.config.users)
        return gates + g.list_gates(report, seconds, self.config)

    def _engine(self, run: str, *, measured: bool, threads: int | None = None) -> RecommendationEngine:
        from recsys_cli.engine import RecommendationEngine

        threads = threads or self.settings.threads or g.cores()
        return RecommendationEngine.load(self.store.folder, run, threads=threads, measured=measured)


def _end_canary(artifacts: Path) -> None:
    from importlib.util import find_spec

    if find_spec("msgspec") is not None:
        from recsys_cli.live.canary import end_stale

        end_stale(artifacts)


def roll_back(artifacts: str | Path) -> tuple[str, str]:
    """Put the run in use that stood there before the latest promotion; returns (from, to).

    Raises ArtifactError where nothing was promoted over another run, or where the run in use is not that one.
    """
    with alone(artifacts):
        decisions, store = Decisions(artifacts), RunStore(artifacts)
        now = store.current()
        for row in reversed(decisions.read()):
            if row["outcome"] == "promoted" and row.get("run") == now and row.get("used_before"):
                store.use(row["used_before"])
                decisions.append("rolled back", run=row["used_before"], used_before=now, reason="asked for")
                return now, row["used_before"]
        raise ArtifactError(
            f"{now or 'nothing'} was not promoted over another run", "choose one with `recsys runs use ID`"
        )


def require_reason(done: Retraining) -> None:
    """Raises RecsysError where a new run was refused."""
    if done.outcome in ("refused", "rolled back"):
        kept = f"run {done.used_before} stays in use" if done.used_before else "no run is in use"
        told = f"{done.outcome}, {kept}: {done.reason}"
        raise RecsysError(told, "the bounds stand under `live` of the settings")
