"""The job behind `recsys train-safety`: labels → a classifier, measured on rows that it did not see → kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recsys_cli.data.intact import open_intact
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import DataError, UsageError
from recsys_cli.files import file_digest
from recsys_cli.progress import Progress
from recsys_cli.safety.accounts import account_features, fit_account_classifier
from recsys_cli.safety.checkpoints import checkpoint_of
from recsys_cli.safety.classifier import fit_text_classifier, measure, thresholds
from recsys_cli.safety.labels import Labelled, LabelOptions, from_dataset, from_files
from recsys_cli.safety.models import FOLDER, SafetyModels, check_task, publish
from recsys_cli.safety.repeats import first_labels, repeated_rows, same_texts


def train_text_classifier(
    artifacts: str | Path,
    task: str,
    options: LabelOptions,
    *,
    files: Sequence[Path] = (),
    test_files: Sequence[Path] = (),
    data: str | Path | None = None,
    test_share: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict:
    """Train and keep the classifier of a task; returns its manifest with "folder" and "seconds".

    files: labelled files; without them the items of the dataset in `data`. test_files: rows to measure on, else a
    stratified share of the rows; 0 measures by cross-validation only.
    """
    started = time.perf_counter()
    check_task(task)
    labelled = from_files(files, options) if files else from_dataset(open_intact(data, artifacts), options)
    train, test = labelled, from_files(test_files, options) if test_files else None
    if test is None and test_share:
        train, test = _split(labelled, test_share, seed)
    elif test is not None:
        train = _without(labelled, test)
    model = fit_text_classifier(train.texts, train.labels, seed=seed, progress=progress)
    labels, probabilities = model.validation
    manifest = {
        "labels": {
            "from": labelled.origin,
            "digests": {str(f): file_digest(f) for f in (*files, *test_files)},
            **{k: v for k, v in asdict(options).items() if k in ("label", "text", "positive", "negative", "above")},
            "rows": len(labelled),
            "positives": int(labelled.labels.sum()),
            "repeated": repeated_rows(same_texts(labelled.texts)),
            "left_out": labelled.left_out,
        },
        "seed": seed,
        "choices": model.choices,
        "metrics": {"cross_validation": measure(labels, probabilities)},
        "thresholds": thresholds(labels, probabilities),
    }
    if test is not None:
        manifest["metrics"]["test"] = measure(test.labels, model.probabilities(test.texts))
        manifest["test"] = test.origin if test_files else f"{test_share:g} of the rows, stratified"
    folder = publish(artifacts, task, "texts", manifest, model.export, checkpoint_of(model))
    return _done(folder, task, "texts", manifest, started)


def train_account_classifier(
    artifacts: str | Path, task: str, options: LabelOptions, data: str | Path, *, test_share: float = 0.2,
    seed: int = 0, windows: WindowsConfig | None = None,
) -> dict:
    """Train and keep the classifier of accounts of a task, from a column of the dataset's `users`.

    Features are as of the start of the test window that `windows` (those of a time split by default) leaves to
    measuring, with the scores that the text classifiers at hand give items: what happened later is what `evaluate`
    measures by.
    """
    started = time.perf_counter()
    check_task(task)
    dataset = open_intact(data, artifacts)
    if not dataset.manifest.authors_are_users:
        raise DataError(
            f"{dataset.path}: authors are not among the users",
            "a label of accounts is a column of users, so authors must be users",
        )
    labelled = from_dataset(dataset, options, "users")
    split = make_split(windows or WindowsConfig(), dataset, seed=seed)
    log, now = split.log, split.windows.test_start
    catalogue, _ = SafetyModels.load(Path(artifacts) / FOLDER).fill(dataset.catalogue, dataset.items)
    features = account_features(catalogue, log, now, dataset.edges("follows"), dataset.edges("blocks"))
    rows, labels = labelled.rows - 1, labelled.labels
    writes = features["items"][rows] > 0
    rows, labels = rows[writes], labels[writes]
    train, test = np.arange(len(rows)), None
    if test_share:
        train, test = _shares(labels, test_share, seed)
    model, held_out = fit_account_classifier(features, rows[train], labels[train], seed=seed)
    manifest = {
        "labels": {
            "from": labelled.origin,
            "label": options.label,
            "rows": len(rows),
            "positives": int(labels.sum()),
            "left_out": {"accounts without items": int((~writes).sum())},
        },
        "as_of": {"moment": now, "rows": len(log.window(end=now))},
        "seed": seed,
        "features": list(features),
        "choices": {"weights": {n: round(float(w), 4) for n, w in zip(features, model.weights, strict=True)}},
        "metrics": {"cross_validation": measure(labels[train], held_out)},
        "thresholds": thresholds(labels[train], held_out),
    }
    if test is not None:
        table = np.stack(list(features.values()), axis=1)[rows[test]]
        manifest["metrics"]["test"] = measure(labels[test], model.probabilities(table))
        manifest["test"] = f"{test_share:g} of the accounts, stratified"
    folder = publish(artifacts, task, "accounts", manifest, model.export, checkpoint_of(model))
    return _done(folder, task, "accounts", manifest, started)


def _done(folder: Path, task: str, of: str, manifest: dict, started: float) -> dict:
    seconds = round(time.perf_counter() - started, 2)
    return {"task": task, "of": of, "folder": str(folder), "seconds": seconds, **manifest}


def _shares(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.model_selection import train_test_split

    if not 0 < share < 1:
        raise UsageError(f"--test-share {share:g} is not between 0 and 1", "0.2 holds a fifth of the rows out")
    try:
        return train_test_split(np.arange(len(labels)), test_size=share, stratify=labels, random_state=seed)
    except ValueError:
        raise DataError(
            f"{int(labels.sum()):,} positive and {int((~labels).sum()):,} negative rows cannot be split",
            "give more rows, or --test-share 0",
        ) from None


def _split(labelled: Labelled, share: float, seed: int) -> tuple[Labelled, Labelled]:
    """Train and test rows; all rows of a text go to one side."""
    groups = same_texts(labelled.texts)
    train, test = _shares(first_labels(groups, labelled.labels), share, seed)
    return tuple(_rows(labelled, np.flatnonzero(np.isin(groups, part))) for part in (train, test))


def _without(labelled: Labelled, test: Labelled) -> Labelled:
    """The rows whose text is none of the test's; the others are counted as left out."""
    groups = same_texts([*test.texts, *labelled.texts])
    known = np.isin(groups[len(test) :], groups[: len(test)])
    if not known.any():
        return labelled
    labelled.left_out["rows whose text is among the test rows"] = int(known.sum())
    return _rows(labelled, np.flatnonzero(~known))


def _rows(labelled: Labelled, rows: np.ndarray) -> Labelled:
    return Labelled([labelled.texts[i] for i in rows], labelled.labels[rows], labelled.rows[rows], {}, labelled.origin)
