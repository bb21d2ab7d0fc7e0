"""The classifiers of a folder together: kept under `artifacts/safety`, copied into a bundle, asked for scores."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.errors import ArtifactError, UsageError, did_you_mean
from recsys_cli.files import atomic_dir, file_digest, is_name
from recsys_cli.safety.config import AUTHOR, COMBINED
from recsys_cli.safety.served import CLASSIFIER_VERSION, GRAPH_FILE, MANIFEST_FILE, TABLE_FILE, ServedClassifier
from recsys_cli.safety.text import grams, join_fields, words_of

if TYPE_CHECKING:
    import polars as pl

FOLDER = "safety"
"""Below the artifacts folder, and below a bundle."""
CHECKPOINT_FILE = "classifier.pt"
"""A classifier as it was trained; bundles go without."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def check_task(task: str) -> str:
    """The name of a task; raises UsageError where it cannot be one."""
    if not _NAME.fullmatch(task) or task == COMBINED or task.startswith(AUTHOR):
        raise UsageError(
            f"--task {task}: a task is named in lower case, and neither {COMBINED} nor {AUTHOR}…",
            "for example toxicity, nsfw, spam, misinformation or brand_safety",
        )
    return task


def _published(folder: Path) -> set[str]:
    """Names of what an earlier `publish` put into a folder, which may be damaged."""
    return {MANIFEST_FILE, CHECKPOINT_FILE, GRAPH_FILE, TABLE_FILE}


def publish(
    artifacts: str | os.PathLike, task: str, of: str, manifest: dict, write: Callable[[Path], None],
    checkpoint: Callable[[Path, dict], None] | None = None,
) -> Path:
    """Put a classifier in the place of the earlier one of its task, whole or not at all; returns its folder.

    Files there that are none of a classifier's stay.

    of: "texts" or "accounts". write: writes the served files into an empty folder. checkpoint: writes what was
    trained, with the complete manifest, to a path.
    """
    target = Path(artifacts) / FOLDER / (task if of == "texts" else f"{AUTHOR}{task}")
    with atomic_dir(target, ours=_published, keep=True) as folder:
        write(folder)
        complete = {
            "classifier_version": CLASSIFIER_VERSION,
            "task": task,
            "of": of,
            "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "packages": {name: version(name) for name in ("numpy", "scikit-learn", "onnx", "recsys-cli")},
            "files": {path.name: file_digest(path) for path in sorted(folder.iterdir())},
            **manifest,
        }
        (folder / MANIFEST_FILE).write_bytes(
            orjson.dumps(complete, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)
        )
        if checkpoint is not None:
            checkpoint(folder / CHECKPOINT_FILE, complete)
    return target


def kept_in(folder: Path, names: str | Iterable[str] = "all") -> list[str]:
    """Names of the classifiers in a folder, or those named; raises ArtifactError where one of these is not there."""
    files = (MANIFEST_FILE, CHECKPOINT_FILE)
    inside = folder.iterdir() if folder.is_dir() else ()
    there = [p.name for p in inside if is_name(p.name) and any((p / f).is_file() for f in files)]
    wanted = sorted(there) if names == "all" else list(names)
    for name in wanted:
        if name not in there:
            hint = did_you_mean(name, there, "train it with `recsys train-safety`")
            raise ArtifactError(f"no safety classifier {name!r} in {folder}", hint)
    return wanted


@dataclass(frozen=True)
class SafetyModels:
    """Classifiers by name: of texts by their task, of accounts by author_TASK."""

    classifiers: dict[str, ServedClassifier] = field(default_factory=dict)

    @classmethod
    def load(
        cls, folder: str | os.PathLike, names: str | Iterable[str] = "all", *, verify: bool = True
    ) -> SafetyModels:
        """The classifiers in a folder, or those named; none where the folder is missing and none is named.

        verify: digest their files, which is not needed where somebody did. Raises ArtifactError where one that is
        named is missing, or one is damaged.
        """
        folder = Path(folder)
        return cls({name: ServedClassifier.load(folder / name, verify=verify) for name in kept_in(folder, names)})

    def copy_to(self, folder: Path) -> None:
        """Copy what is served of every classifier below a folder that has none yet."""
        for name, classifier in self.classifiers.items():
            shutil.copytree(classifier.folder, folder / name, ignore=shutil.ignore_patterns(CHECKPOINT_FILE))

    @property
    def texts(self) -> dict[str, ServedClassifier]:
        """task → classifier of texts"""
        return {c.task: c for c in self.classifiers.values() if c.of == "texts"}

    @property
    def accounts(self) -> dict[str, ServedClassifier]:
        """task → classifier of accounts"""
        return {c.task: c for c in self.classifiers.values() if c.of == "accounts"}

    @property
    def versions(self) -> dict[str, str]:
        """Name → digest of the model."""
        return {name: classifier.version for name, classifier in self.classifiers.items()}

    def score(self, items: pl.DataFrame) -> dict[str, np.ndarray]:
        """Task → float32[n] probabilities of items, NaN for one whose text a model knows nothing of.

        A classifier of several columns reads those of them that the items have.
        """
        out, together = {}, {}
        for task, model in self.texts.items():
            together.setdefault(tuple(model.manifest["labels"]["text"][1:]), []).append(task)
            out[task] = np.full(items.height, np.nan, np.float32)
        for columns, tasks in together.items():
            for first, end, found in grams(texts_of(items, columns)):
                for task in tasks:
                    out[task][first:end] = self.texts[task].scores_of(found, end - first)
        return out

    def fill(self, catalogue: Catalogue, items: pl.DataFrame, first: int = 0) -> tuple[Catalogue, dict]:
        """The catalogue with scores of the items from `first` on that have none, and where scores come from.

        items: the rows of those items. Report: task → "items" they are, with a score of the "dataset", of the "model"
        ("version"), and "unknown". A number that the items have under a task's name is a score of the dataset.
        """
        given = dict(catalogue.item_safety)
        for task in self.texts:
            if task not in given and task in catalogue.item_numbers:
                given[task] = _scores(catalogue.item_numbers[task])
        found = self.score(items)
        safety, report = {}, {}
        for task in (*given, *(t for t in found if t not in given)):
            column = given.get(task)
            column = np.full(catalogue.n_items, np.nan, np.float32) if column is None else column.astype(np.float32)
            mine = column[first:]
            blank = np.isnan(mine)
            row = {"items": len(mine), "dataset": int((~blank).sum()), "model": 0}
            if task in found:
                mine = np.where(blank, found[task], mine)
                row["model"] = int((blank & ~np.isnan(found[task])).sum())
                row["version"] = self.texts[task].version
            row["unknown"] = int(np.isnan(mine).sum())
            safety[task] = np.concatenate([column[:first], mine])
            report[task] = row
        return replace(catalogue, item_safety=safety), report


def _scores(numbers: np.ndarray) -> np.ndarray:
    """Numbers as scores: those outside [0, 1] are unknown."""
    return np.where((numbers >= 0) & (numbers <= 1), numbers, np.float32(np.nan)).astype(np.float32)


def texts_of(items: pl.DataFrame, more: Sequence[str] = ()) -> list[str | None]:
    """The text of every item: `text`, else the title or name, with the words of further columns where they are there;
    None where an item has none."""
    column = next((c for c in ("text", "title", "name") if c in items.columns), None)
    texts = [None] * items.height if column is None else words_of(items[column]).to_list()
    names = [name for name in more if name in items.columns]
    if not names:
        return texts
    rows = zip(texts, *(words_of(items[name]).to_list() for name in names), strict=True)
    return [join_fields(["text", *names], row) for row in rows]
