"""One trial: settings trained on the development data, and the lists of the validation window measured."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.windows.split import split_again
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.figures import Figures
from recsys_cli.evaluation.lists import System
from recsys_cli.evaluation.period import truth_of_test
from recsys_cli.evaluation.truth import sample_users
from recsys_cli.files import write_bytes
from recsys_cli.progress import Progress
from recsys_cli.safety.models import FOLDER as SAFETY
from recsys_cli.settings import Settings
from recsys_cli.training import train
from recsys_cli.training.job import UNLEARNED
from recsys_cli.tuning.config import OF_ALL, REQUEST_MS, Objective

SIDES = ("searching", "confirming")
"""People whom trials are judged by, and those who have no part in that."""


@dataclass(frozen=True)
class Order:
    """What a worker is asked to do."""

    number: int
    """of the trial; -1 for the default"""
    settings: dict[str, Any]
    """the whole configuration, with the paths and windows of the study"""
    share: float
    """of the people on whose rows it is run"""
    objectives: tuple[Objective, ...]
    users: int | None
    confirming_share: float
    kept: Path
    """folder of sources that are fitted once for all trials"""
    untouched: tuple[str, ...]
    """names of those"""
    reused: bool
    """whether other trials may use the same training"""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    number: int
    users: np.ndarray
    """int32[U] people measured"""
    confirming: np.ndarray
    """bool[U] those who had no part in the search"""
    by_user: dict[str, np.ndarray]
    """figure → float64[U], NaN where a user has none"""
    of_all: dict[str, dict[str, float]]
    """figure → side → value, of figures that no single user has"""
    seconds: float
    """processor seconds of training and measuring"""
    run: str | None = None

    def value(self, figure: str, side: str = "searching") -> float:
        """A figure on one of the sides."""
        if figure in self.of_all:
            return self.of_all[figure][side]
        values = self.by_user[figure][self.confirming == (side == "confirming")]
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def save(self, path: Path) -> None:
        """Keep it in a file, whole or not at all."""
        document = {
            "number": self.number, "users": self.users.tolist(), "confirming": self.confirming.tolist(),
            "by_user": {n: v.tolist() for n, v in self.by_user.items()}, "of_all": self.of_all,
            "seconds": self.seconds, "run": self.run,
        }
        write_bytes(path, orjson.dumps(document))

    @classmethod
    def load(cls, path: Path) -> Outcome:
        """Read one; raises ArtifactError where the file is none."""
        try:
            d = orjson.loads(path.read_bytes())
            figures = {n: np.array([np.nan if x is None else x for x in v]) for n, v in d["by_user"].items()}
            return cls(
                d["number"], np.array(d["users"], np.int32), np.array(d["confirming"], bool), figures, d["of_all"],
                d["seconds"], d["run"],
            )
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} is no outcome of a trial: {error}", "begin the study anew") from None


def sides(n_users: int, share: float, seed: int) -> np.ndarray:
    """bool[n_users] the people who have no part in a search, drawn with the seed: the same for every trial."""
    return np.random.default_rng([seed, 1]).random(n_users) < share


def run_trial(order: Order, progress: Progress | None = None) -> Outcome:
    """Train and measure; raises RecsysError where the settings cannot be trained or nothing is to be measured."""
    started = time.process_time()
    settings = Settings.model_validate(order.settings)
    store = RunStore(settings.paths.artifacts)
    with _known_run(order, settings) as (known, remember):
        run_id = known
        if run_id is None:
            run_id = train(
                settings, refit=False, use=False, resume=True, progress=progress,
                kept=(order.kept, order.untouched),
            ).id
            remember(run_id)
    try:
        return _measured(order, settings, run_id, started, progress)
    finally:
        if not order.reused:
            store.delete(run_id)


def _measured(
    order: Order, settings: Settings, run_id: str, started: float, progress: Progress | None = None
) -> Outcome:
    threads = settings.threads or len(os.sched_getaffinity(0))
    engine = RecommendationEngine.load(settings.paths.artifacts, run_id, settings.pipeline, threads=threads)
    dataset = Dataset.open(settings.paths.data)
    split = split_again(engine.manifest.windows, dataset)
    dataset = dataset.with_log(split.log)
    edges = {table: dataset.edges(table) for table in ("follows", "blocks")}
    past = engine.as_of(split.log, split.windows.test_start, **edges)
    ks = tuple(sorted({o.k for o in order.objectives if o.k}))
    config = EvaluationConfig(k=ks, resamples=100)
    truth = sample_users(
        truth_of_test(past, dataset, split, past.state, config), order.users, settings.seed
    )
    begun = time.process_time()
    with (progress or Progress()).step("lists of the validation window"):
        lists = past.slates(truth.users, max(ks)).items
    request_ms = (time.process_time() - begun) / len(truth.users) * 1e3
    figures = Figures(past.state, split.log, split.windows.end, truth, config, settings.seed, max(ks))
    by_user = figures.by_user(System("pipeline", "funnel", dict.fromkeys(ks, lists)))
    wanted = {o.figure for o in order.objectives}
    confirming = sides(dataset.catalogue.n_users, order.confirming_share, settings.seed)[truth.users]
    of_all: dict[str, dict[str, float]] = {}
    for side, name in enumerate(SIDES):
        part = System("pipeline", "funnel", dict.fromkeys(ks, lists[confirming == side]))
        if any(o.metric in OF_ALL for o in order.objectives):
            for figure, found in figures.of_all(part).items():
                of_all.setdefault(figure, {})[name] = found["value"]
        of_all.setdefault(REQUEST_MS, {})[name] = request_ms
    return Outcome(
        order.number, truth.users, confirming, {n: v for n, v in by_user.items() if n in wanted},
        {n: v for n, v in of_all.items() if n in wanted}, time.process_time() - started, run_id,
    )


@contextmanager
def _known_run(order: Order, settings: Settings) -> Iterator[tuple[str | None, Callable[[str], None]]]:
    """(id of a run of the same training where there is one, what remembers it); others of the same wait meanwhile."""
    learned = settings.model_dump(mode="json", exclude=UNLEARNED)
    text = orjson.dumps([learned, order.share], option=orjson.OPT_SORT_KEYS)
    folder = Path(settings.paths.artifacts) / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.blake2b(text, digest_size=12).hexdigest()
    with open(path.with_suffix(".lock"), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        known = path.read_text().strip() if path.is_file() else None
        if known not in RunStore(settings.paths.artifacts).ids():
            known = None

        def remember(run_id: str) -> None:
            if order.reused:
                write_bytes(path, run_id.encode())

        yield known, remember


def work(order: Order) -> Outcome | RecsysError:
    """`run_trial` for a worker process: what a person can mend comes back as a value, with its hint."""
    try:
        return run_trial(order)
    except RecsysError as error:
        return error


def work_on_machine(order: Order, data: Path, safety: Path | None) -> Outcome | RecsysError:
    """`work` on a machine of a cluster, which may see the folder of the study or not: then it trains in a folder of
    its own. data, safety: the dataset and the safety models here."""
    folder = Path(order.settings["paths"]["artifacts"])
    kept = order.kept
    if not (folder.parent / "study.db").is_file():
        text = orjson.dumps([str(folder), order.settings["seed"], str(data)])
        place = f"recsys-study-{os.geteuid()}-{hashlib.blake2b(text, digest_size=8).hexdigest()}"
        folder = Path(tempfile.gettempdir()) / place / "work"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = folder.parent / "kept"
        if safety is not None and not (folder / SAFETY).exists():
            (folder / SAFETY).symlink_to(safety)
    paths = order.settings["paths"] | {"data": str(data), "artifacts": str(folder)}
    return work(replace(order, settings=order.settings | {"paths": paths}, kept=kept))


def end_with_parent() -> None:
    """Let a worker end where the study that started it is gone, be it killed."""
    parent = parent_process()
    if parent is not None:
        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
