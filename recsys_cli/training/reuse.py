"""What a training takes over from an earlier run: checkpoints of sources, and the weights that rankers begin with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson

from recsys_cli.arrays import load_arrays
from recsys_cli.artifacts.checkpoint import load_checkpoint
from recsys_cli.artifacts.runs import Run, RunStore
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import ArtifactError, UsageError, did_you_mean
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.ranking.light import LightRanker
from recsys_cli.ranking.warm_start import WarmStart
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.settings import Settings


class Training(Protocol):
    """The training that asks."""

    settings: Settings
    dataset: Dataset
    windows: Windows
    final: bool

    @property
    def store(self) -> RunStore: ...


def warm_start(training: Training, run_id: str) -> WarmStart:
    """The rankers of a run ("current": the one in use), for those of this training to begin with.

    Raises ArtifactError where the run has none or one of another kind.
    """
    run = training.store.open(None if run_id == "current" else run_id)
    document = orjson.loads((run.bundle / "bundle.json").read_bytes())
    light = run.bundle / "ranking" / "light.json"
    names = Catalogue.from_arrays(*load_arrays(run.bundle / "catalogue.bin")).names
    heavy = load_checkpoint(run.intact("checkpoints/heavy.pt"))
    warm = WarmStart(
        run.id, heavy, LightRanker.load(light) if document["light"] else None,
        category_names(FeatureSpec.from_json(document["features"]), names),
    )
    warm.check_kind(training.settings.ranking.heavy)
    _same_places(run, training)
    return warm


def _same_places(run: Run, training: Training) -> None:
    """Raises ArtifactError where hashed embeddings would be another's: they are of the ids' places in the dataset."""
    heavy, ours = training.settings.ranking.heavy, training.dataset
    heavy = getattr(heavy, "network", heavy)
    hashed = set(getattr(heavy, "ids", ()))
    if getattr(heavy, "history", "none") != "none":
        hashed.add("item")
    for kind in sorted(hashed):
        now = getattr(ours, f"{kind}_ids")
        before = Vocabulary.load(run.bundle, f"{kind}s")
        moved = np.flatnonzero(now.positions(before.ids) != np.arange(len(before)))
        if len(moved):
            raise ArtifactError(
                f"{kind} {before.external(moved[:1])[0]!r} has another place in the data than in run {run.id}, "
                "and embeddings go by places",
                f"train without --warm-start, or append new {kind}s behind those that were there",
            )


def category_names(spec: FeatureSpec, names: dict[str, list[str]]) -> dict[str, list[str]]:
    """Categorical feature → names of its codes 1, 2, …, where each code has a name of its own."""
    out = {}
    for f in spec.features:
        known = names.get(f.vocabulary, [])
        if f.codes and known and len(known) < f.codes:
            out[f.name] = known
    return out


def taken_over(training: Training, only: Sequence[str]) -> dict[Path, str]:
    """Checkpoints of the sources that `only` leaves out, in the run in use → their places in a work folder.

    Raises UsageError where `only` names no enabled source, and ArtifactError where the run in use was trained on
    other data, other windows, another seed or other settings of a source that would be taken over.
    """
    enabled = {name: config for name, config in training.settings.retrieval.items() if config.enabled}
    for name in only:
        if name not in enabled:
            hint = did_you_mean(name, enabled, f"enabled are: {', '.join(enabled)}")
            raise UsageError(f"--only names {name!r}, which is no enabled source", hint)
    run = training.store.open()
    _same_ground(training, run)
    fitted = orjson.loads((run.bundle / "bundle.json").read_bytes())["sources"]  # what the data was not for is none
    folders = ("history", "checkpoints", *(("served",) if run.manifest.refitted else ()))
    out = {}
    for name, config in enabled.items():
        if name in only or not SOURCES[config.kind].learns:
            continue
        before = run.manifest.settings.get("retrieval", {}).get(name)
        if before != config.model_dump(mode="json"):
            raise ArtifactError(
                f"source {name} cannot be taken over from run {run.id}: {_difference(before, config)}",
                f"name it too (--only {','.join([*only, name])}), or leave out --only",
            )
        for folder in folders if name in fitted else ():
            path = run.folder / folder / f"{name}.pt"
            if not path.is_file():
                raise ArtifactError(
                    f"run {run.id} has no {folder}/{path.name} to take over", f"name {name} in --only too"
                )
            out[run.intact(f"{folder}/{path.name}")] = f"{folder}/{path.name}"
    return out


def _same_ground(training: Training, run: Run) -> None:
    """Raises ArtifactError where the run was trained on anything else than is asked for."""
    m = run.manifest
    for what, theirs, ours in (
        ("dataset", m.dataset.digest[:12], training.dataset.manifest.digest[:12]),
        ("--final", m.final, training.final),
        ("windows", m.windows, training.windows),
        ("seed", m.seed, training.settings.seed),
    ):
        if theirs != ours:
            told = "" if what == "windows" else f" ({theirs}, now {ours})"
            raise ArtifactError(
                f"nothing can be taken over from run {run.id}: it was trained with another {what}{told}",
                "train everything once without --only",
            )


def _difference(before: dict | None, config: RetrieverConfig) -> str:
    if before is None:
        return "that run has no such source"
    now = config.model_dump(mode="json")
    changed = [f"{k} was {before.get(k)!r}, is {now.get(k)!r}" for k in now if before.get(k) != now.get(k)]
    return "its settings differ: " + ", ".join(changed[:3])
