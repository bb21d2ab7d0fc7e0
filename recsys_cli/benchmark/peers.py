"""Other systems on the rows that the product learns from: implicit's own models, LambdaRank on the product's
candidates, and programs in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from recsys_cli.benchmark.list_rows import Row
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.splits import ListTask
from recsys_cli.benchmark.suite_config import ImplicitAls, ImplicitNeighbours, OwnEnvironment
from recsys_cli.errors import RecsysError
from recsys_cli.files import scratch_folder

MORE = 10
"""Items asked for beyond the length of a list, in case a program lists what is seen."""
INSTALL_SECONDS = 600
RUN_SECONDS = 3600


class NotInstalled(RecsysError):
    """A peer that cannot be had on this machine."""


def implicit_lists(
    config: ImplicitAls | ImplicitNeighbours, name: str, task: ListTask, k: int, seed: int, threads: int
) -> Row:
    """Lists of a model that implicit fits on the training rows."""
    import scipy.sparse as sp
    from threadpoolctl import threadpool_limits

    shape = (len(task.user_ids), len(task.item_ids))
    matrix = sp.csr_matrix((np.ones(len(task.user), np.float32), (task.user, task.item)), shape)
    matrix.data[:] = 1
    with PeakMemory() as memory, threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # implicit speaks of how it converts its own matrices
        start = time.perf_counter()
        model = _implicit_model(config, seed, threads)
        model.fit(matrix, show_progress=False)
        fitted = time.perf_counter()
        items, _ = model.recommend(
            task.users, matrix[task.users], N=min(k, shape[1]), filter_already_liked_items=True
        )
        ranked = time.perf_counter()
    return Row(name, "peer", items.astype(np.int32), fitted - start, ranked - fitted, peak_memory_mib=memory.mib)


def _implicit_model(config: ImplicitAls | ImplicitNeighbours, seed: int, threads: int):
    if isinstance(config, ImplicitAls):
        from implicit.cpu.als import AlternatingLeastSquares

        return AlternatingLeastSquares(
            factors=config.dim, regularization=config.l2, alpha=config.alpha,
            iterations=config.epochs, random_state=seed, num_threads=threads,
        )
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender

    kinds = {"cosine": CosineRecommender, "bm25": BM25Recommender, "tfidf": TFIDFRecommender}
    return kinds[config.similarity](K=config.neighbours, num_threads=threads)


def program_lists(config: OwnEnvironment, name: str, task: ListTask, k: int, base: Path, place: Path) -> Row:
    """Lists that a program in its own environment makes from the training rows.

    base: folder from which the script is named. place: folder that keeps environments. Raises NotInstalled where the
    packages cannot be installed, and RecsysError where the program fails or writes something else.
    """
    python = environment(place, config.environment or name, config.packages)
    with scratch_folder() as folder:
        rows, users, out = (Path(folder) / n for n in ("rows.csv", "users.txt", "lists.json"))
        write_rows(task, rows)
        users.write_text("".join(f"{u}\n" for u in task.user_ids[task.users]))
        asked = [str(python), str(base / config.script), str(rows), str(users), str(k + MORE), str(out)]
        _call([*asked, *config.arguments], RUN_SECONDS, f"{name} failed")
        try:
            answer = json.loads(out.read_text())
            lists = answer["lists"]
            costs = [float(answer[key]) for key in ("fit_seconds", "rank_seconds", "peak_memory_mib")]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecsysError(f"{name}: {config.script} wrote no lists: {error!r}") from None
    items = np.full((len(task.users), k + MORE), -1, np.int32)
    for row, user in enumerate(task.user_ids[task.users].tolist()):
        given = np.array(lists.get(user, [])[: k + MORE], task.item_ids.dtype)
        if len(given):
            at = np.minimum(np.searchsorted(task.item_ids, given), len(task.item_ids) - 1)
            items[row, : len(given)] = np.where(task.item_ids[at] == given, at, -1)
    return Row(name, "peer", items, costs[0], costs[1], peak_memory_mib=costs[2])


def write_rows(task: ListTask, path: Path) -> None:
    """The training rows as CSV: user, item and, where there is an order, time in seconds (row numbers where only the
    order is known)."""
    train = task.train
    times = (train.times if train.times is not None else np.arange(len(train.users))) if task.ordered else None
    with path.open("w") as file:
        file.write("user,item,time\n" if times is not None else "user,item\n")
        for row in range(len(train.users)):
            tail = "" if times is None else f",{times[row]}"
            file.write(f"{train.users[row]},{train.items[row]}{tail}\n")


def environment(place: Path, name: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of a virtual environment with these packages, made where it is not there yet.

    Raises NotInstalled with the last words of pip where it cannot be made.
    """
    folder = place / "".join(c if c.isalnum() else "-" for c in name)
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if done.is_file() and done.read_text().split() == list(packages):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    told = f"{name} does not install"
    try:
        bare = [] if packages else ["--without-pip"]
        _call([sys.executable, "-m", "venv", *bare, str(folder)], INSTALL_SECONDS, told)
        if packages:
            _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
                  INSTALL_SECONDS, told)
    except RecsysError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalled(error.message) from None
    done.write_text("\n".join(packages) + "\n")
    return python


def _call(command: list[str], seconds: int, told: str) -> None:
    """Run a program; raises RecsysError with its last line where it fails or takes longer."""
    # what this process was told of threads and modules is not for another environment
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "OMP_", "OPENBLAS_"))}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=env)  # noqa: S603 - our own scripts
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RecsysError(f"{told}: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit {done.returncode}"]
        said = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise RecsysError(f"{told}: {said[0].strip()[:300]}")
