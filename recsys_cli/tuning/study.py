"""A study: the default and then trial after trial, kept by Optuna in a file, taken up again where it was killed."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.cluster import Here, Tasks
from recsys_cli.errors import ArtifactError, RecsysError, UsageError
from recsys_cli.files import held_alone, write_bytes
from recsys_cli.progress import Progress
from recsys_cli.safety.models import FOLDER as SAFETY
from recsys_cli.tuning.development import Development
from recsys_cli.tuning.space import Space
from recsys_cli.tuning.trial import Order, Outcome, end_with_parent, run_trial, work, work_on_machine

if TYPE_CHECKING:
    import optuna

DEFAULT = -1
"""Number of the trial of the configuration as it is."""
HOPELESS = 5
"""Trials that may fail, all of the first, before a study ends."""
FAILURE, TREE = "failure", "settings"
"""Attributes of a trial: why it failed, and the values that its settings had."""


def require_optuna() -> None:
    """Raises UsageError where Optuna is not installed, naming the extra that brings it."""
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UsageError("a study needs optuna, which is not installed", "run `pip install 'recsys-cli[tune]'`")


def alone(folder: Path) -> AbstractContextManager[None]:
    """Keeps a second command out of a study's folder; raises RecsysError where one has it."""
    return held_alone(folder / "lock", RecsysError(
        f"the study in {folder} is running already", "wait for it, or give this one another name"
    ))


def open_study(folder: Path, space: Space, digest: str, *, resume: bool, progress: Progress) -> optuna.Study:
    """Begin the study, or with `resume` take it up; raises ArtifactError for one of another search space, and
    UsageError where there is one and it is not to be taken up."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path, name = folder / "study.db", space.config.name
    known = path.is_file()
    if known and not resume:
        raise UsageError(
            f"there is a study {name!r} already, in {folder}",
            "go on with it (--resume), remove its folder, or give the space another name",
        )
    if resume and not known:
        progress.message(f"no study {name!r} to resume: it begins")
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    directions = ["maximize" if o.maximised else "minimize" for o in space.config.objectives]
    study = optuna.create_study(
        storage=storage, study_name=name, directions=directions, load_if_exists=True, pruner=_pruner(space)
    )
    kept = study.user_attrs.get("digest")
    if kept is None:
        study.set_user_attr("digest", digest)
    elif kept != digest:
        raise ArtifactError(
            f"the study {name!r} is of another search space, configuration or dataset",
            "give this one another `name`, or go on with the file that the study was begun with",
        )
    return study


def _pruner(space: Space) -> optuna.pruners.BasePruner:
    import optuna

    pruning = space.config.pruning
    if pruning is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.PercentilePruner(100 * pruning.keep, n_startup_trials=pruning.startup)


@dataclass
class Study:
    """One study in its folder: `study.db` is Optuna's, `outcomes/` has the figures of users, a file a trial."""

    folder: Path
    space: Space
    development: Development
    seed: int
    jobs: int
    threads: int
    progress: Progress
    tasks: Tasks = field(default_factory=Here)
    """where trials are run"""
    tries: dict[int, int] = field(default_factory=dict)
    """trial → times that its worker was lost"""

    def run(self, study: optuna.Study, trials: int, hours: float | None) -> None:
        """Run until there are so many trials beside the default, or no more may begin; raises RecsysError where the
        default cannot be trained, or none of the first trials can."""
        until = None if hours is None else time.monotonic() + hours * 3600
        with self._workers() as workers, self.progress.step("trials", total=trials + 1) as bar:
            self._default(study, workers, bar)
            running: dict[Future, tuple[Any, int]] = {}
            for trial in self._unfinished(study):
                if self._place(trial.number).is_file():  # measured, and killed before that was told
                    study.tell(trial, self._values(self.outcome(trial.number)))
                else:
                    self._submit(workers, running, trial, self._rungs_of(trial))
            bar.advance(len(_ended(study)))
            while True:
                while len(running) < self.jobs and len(study.get_trials(deepcopy=False)) - _added(study) < trials:
                    if until is not None and time.monotonic() > until:
                        break
                    trial = self._ask(study)
                    self._submit(workers, running, trial, 0)
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    trial, rung = running.pop(future)
                    again = self._take(study, trial, rung, future, workers)
                    if again is None:
                        bar.advance()
                    else:
                        self._submit(workers, running, trial, again)

    # --- one trial ------------------------------------------------------------------------------------------

    def outcome(self, number: int) -> Outcome:
        """What was measured in a trial; raises ArtifactError where it is not there."""
        return Outcome.load(self._place(number))

    def _place(self, number: int) -> Path:
        return self.folder / "outcomes" / ("default.json" if number == DEFAULT else f"{number:05d}.json")

    def _default(self, study: optuna.Study, workers: _Workers, bar) -> None:
        import optuna

        place = self._place(DEFAULT)
        if not place.is_file():
            bar.describe("default")
            outcome = workers.submit(self.order(DEFAULT, {}, self.shares[-1])).result()
            if isinstance(outcome, RecsysError):
                raise outcome
            outcome.save(place)
        bar.advance()
        if _added(study):
            return
        values = self.space.encoded(self.space.defaults)
        if values is not None:
            outcome = Outcome.load(place)
            objectives = [outcome.value(o.figure) for o in self.space.config.objectives]
            study.add_trial(optuna.trial.create_trial(
                params=values, distributions=self.space.distributions(), values=objectives, user_attrs={"default": True}
            ))  # fmt: skip

    def _ask(self, study: optuna.Study) -> optuna.Trial:
        # each proposal has a seed of its own: a study that was killed goes on as if it had not been
        study.sampler = self._sampler(len(study.get_trials(deepcopy=False)))
        return study.ask()

    def _submit(self, workers: _Workers, running: dict, trial: optuna.Trial, rung: int) -> None:
        with _quiet():
            values = self.space.propose(trial)
        trial.set_user_attr(TREE, values)
        running[workers.submit(self.order(trial.number, values, self.shares[rung]))] = (trial, rung)

    def _take(
        self, study: optuna.Study, trial: optuna.Trial, rung: int, future: Future, workers: _Workers
    ) -> int | None:
        """Keep what came of a run of a trial; the rung at which it goes on, None where it has ended."""
        import optuna

        try:
            outcome = future.result()
        except BrokenProcessPool:
            workers.renew()
            self.tries[trial.number] = self.tries.get(trial.number, 0) + 1
            if self.tries[trial.number] < 2:
                return rung  # its training goes on from where it was
            outcome = RecsysError("its process was killed twice, as happens where memory ends")
        values = None if isinstance(outcome, RecsysError) else self._values(outcome)
        if values is None or any(v != v for v in values):
            told = outcome.message if isinstance(outcome, RecsysError) else "a figure of nobody"
            trial.set_user_attr(FAILURE, told)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self.progress.message(f"trial {trial.number} failed: {told}")
            self._require_hope(study)
            return None
        if len(self.shares) > 1:
            trial.report(values[0], rung)
        if rung < len(self.shares) - 1:
            if not trial.should_prune():
                return rung + 1
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return None
        outcome.save(self._place(trial.number))
        study.tell(trial, values)
        return None

    def order(self, number: int, values: dict[str, Any], share: float) -> Order:
        """What a worker is asked for a trial with these values."""
        settings = self.space.settings(values).model_dump(mode="json")
        settings["paths"] = settings["paths"] | {
            "data": str(self.development.of(share)), "artifacts": str(self.folder / "work"),
        }
        settings["windows"] = self.development.windows.model_dump(mode="json")
        settings["threads"] = self.threads
        config = self.space.config
        return Order(
            number, settings, share, config.objectives, config.users, config.confirming_share, self.folder / "kept",
            self.space.untouched_sources, not self.space.learned,
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """Shares of the people on which a trial is run, one after the other; the last is everybody."""
        pruning = self.space.config.pruning
        return (*(pruning.shares if pruning else ()), 1.0)

    def _values(self, outcome: Outcome) -> list[float]:
        return [outcome.value(o.figure) for o in self.space.config.objectives]

    def _rungs_of(self, trial: optuna.Trial) -> int:
        return len(trial.storage.get_trial(trial._trial_id).intermediate_values)

    def _unfinished(self, study: optuna.Study) -> Iterator[optuna.Trial]:
        """Trials that were running when the study was killed: none is lost, and none gets another number."""
        import optuna

        for frozen in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
            yield optuna.trial.Trial(study, frozen._trial_id)

    def _require_hope(self, study: optuna.Study) -> None:
        ended = _ended(study)
        if len(ended) >= HOPELESS and all(FAILURE in t.user_attrs for t in ended):
            raise RecsysError(
                f"the first {len(ended)} trials all failed, the last: {ended[-1].user_attrs[FAILURE]}",
                "narrow the search space to settings that go together",
            )

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = (self.seed * 1_000_003 + number) % 2**32
        if self.space.config.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        with _quiet():
            return optuna.samplers.TPESampler(multivariate=True, constant_liar=self.jobs > 1, seed=seed)

    @contextmanager
    def _workers(self) -> Iterator[_Workers]:
        workers = _Workers(self.jobs, self.tasks)
        try:
            yield workers
        finally:
            workers.end()


class _Workers:
    """Processes that run trials, or a cluster; with one job here they run in this process."""

    def __init__(self, jobs: int, tasks: Tasks):
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | ThreadPoolExecutor | None = None
        self._tasks = None if isinstance(tasks, Here) else tasks

    def submit(self, order: Order) -> Future:
        """Begin a trial. A future gives its `Outcome`, or the RecsysError that it ended with."""
        if self._tasks is not None:
            if self._pool is None:  # threads that wait for the cluster
                self._pool = ThreadPoolExecutor(self.jobs)
            return self._pool.submit(self._on_cluster, order)
        if self.jobs == 1:
            done: Future = Future()
            try:
                done.set_result(run_trial(order, Progress()))
            except RecsysError as error:
                done.set_result(error)
            return done
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=end_with_parent)
        return self._pool.submit(work, order)

    def _on_cluster(self, order: Order) -> Outcome | RecsysError:
        paths = order.settings["paths"]
        safety = Path(paths["artifacts"]) / SAFETY
        given = [self._tasks.folder(paths["data"]), self._tasks.folder(safety) if safety.is_dir() else None]
        return self._tasks.begin(work_on_machine, order, *given).result()

    def renew(self) -> None:
        """Put new processes in the place of those of a pool that broke; what ran in it comes back as broken too."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = None

    def end(self) -> None:
        """End what still runs."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    return [t for t in trials if t.state.is_finished() and not t.user_attrs.get("default")]


def _added(study: optuna.Study) -> int:
    return sum(bool(t.user_attrs.get("default")) for t in study.get_trials(deepcopy=False))


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls what it has had for years experimental
        yield


def cores() -> int:
    """Cores of this machine that the program may use."""
    return len(os.sched_getaffinity(0))


def keep_space(folder: Path, file: Path) -> None:
    """Keep the file of the search space beside its study."""
    write_bytes(folder / "space.yaml", file.read_bytes())
