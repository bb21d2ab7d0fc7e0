"""A bundle: everything a run serves with, opened without torch, scikit-learn or polars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from recsys_cli.arrays import load_arrays, save_arrays
from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.state import State
from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import ArtifactError
from recsys_cli.features.snapshot import Snapshot
from recsys_cli.features.spec import FeatureSpec
from recsys_cli.files import inside, is_name
from recsys_cli.pipeline.exploration.creative_texts import CreativeTexts
from recsys_cli.pipeline.order import Order
from recsys_cli.ranking.light import LightRanker
from recsys_cli.ranking.serving.dense import load_exported
from recsys_cli.ranking.serving.served import GRAPHS, Description, ServedRanker
from recsys_cli.safety.models import FOLDER, SafetyModels

if TYPE_CHECKING:
    from recsys_cli.retrieval.base import Retriever

BUNDLE_VERSION = 7
RELEVANCE_FOLDER = Path("ranking") / "relevance"


@dataclass(frozen=True)
class Labels:
    """What the terminal shows for an item: its text as UTF-8 bytes in one array."""

    offsets: np.ndarray
    """int64[n + 1]"""
    data: np.ndarray
    """uint8[bytes]"""

    def __getitem__(self, item: int) -> str:
        if item + 1 >= len(self.offsets):
            return ""
        return bytes(self.data[self.offsets[item] : self.offsets[item + 1]]).decode("utf-8", "replace")


@dataclass(frozen=True)
class Bundle:
    """Vocabularies, catalogue, state, features and models of one run."""

    user_ids: Vocabulary
    item_ids: Vocabulary
    author_ids: Vocabulary
    catalogue: Catalogue
    state: State
    """as of the end of the log"""
    spec: FeatureSpec
    snapshot: Snapshot
    """as of the end of the log"""
    retrievers: dict[str, Retriever]
    """every source that could be fitted, by its name in the configuration, in that order"""
    configured: tuple[str, ...]
    """names of all configured sources, those that stepped aside too; bit s of a candidate's sources is the
    s-th of these"""
    light: LightRanker | None
    heavy: ServedRanker | None
    negative_actions: tuple[str, ...]
    labels: Labels
    safety: SafetyModels = field(default_factory=SafetyModels)
    """classifiers that score items and accounts"""
    notes: tuple[str, ...] = field(default=())
    """what stepped aside and why"""
    relevance: ServedRanker | None = None
    """what predicts which candidate a user turns to"""
    order: Order = field(default_factory=Order)
    """what training chose to order the candidates"""
    fusion: dict[str, float] = field(default_factory=dict)
    """source → weight of its standardised score in the weighted fusion; empty where none were learned"""
    candidates: int = 1500
    """candidates a user where the settings leave it open"""
    repeats: bool = False
    """whether lists may hold what was seen, where the settings leave it open"""
    proposed_weights: dict[str, float] = field(default_factory=dict)
    """action → weight in the utility where the settings name none"""
    creatives: CreativeTexts | None = None
    """titles or pictures of items of which one is chosen; None where no stage asked for them"""

    @cached_property
    def bits(self) -> dict[str, int]:
        """source name → its bit"""
        return {name: bit for bit, name in enumerate(self.configured)}

    @cached_property
    def measuring(self) -> dict[str, Retriever]:
        """The sources whose similarity is a feature of the rankers."""
        return {name: self.retrievers[name] for name in self.spec.similarities if name in self.retrievers}

    @cached_property
    def proposing(self) -> tuple[str, ...]:
        """The sources that say something of a candidate among others, by name."""
        return tuple(name for name, source in self.retrievers.items() if source.config.kind != "random")


Export = Callable[[Path], object]
"""Writes a ranker's graph into a folder."""


def write_bundle(
    folder: Path, bundle: Bundle, export_heavy: Export | None, export_relevance: Export | None = None
) -> dict[str, dict[str, Any]]:
    """Write all parts into an empty folder. `export_heavy(folder)` writes the heavy ranker's ONNX, and
    `export_relevance` that of the relevance ranker; None where there is none.

    Returns how each source with vectors finds the nearest items: "kind" exact or of an index, with its recall.
    """
    for name, vocabulary in (("users", bundle.user_ids), ("items", bundle.item_ids), ("authors", bundle.author_ids)):
        vocabulary.save(folder, name)
    save_arrays(folder / "catalogue.bin", *bundle.catalogue.to_arrays())
    save_arrays(folder / "state.bin", *bundle.state.to_arrays())
    save_arrays(folder / "snapshot.bin", *bundle.snapshot.to_arrays())
    save_arrays(folder / "labels.bin", {"offsets": bundle.labels.offsets, "data": bundle.labels.data})
    if bundle.creatives is not None:
        texts = bundle.creatives
        arrays = {"numbers": texts.numbers, "offsets": texts.offsets, "data": texts.data}
        save_arrays(folder / "creatives.bin", arrays)
    sources, indexes = {}, {}
    for name, retriever in bundle.retrievers.items():
        place = folder / "retrieval" / name
        place.mkdir(parents=True)
        retriever.save(place)
        if retriever.index is not None:
            indexes[name] = retriever.index.prepare(_user_vectors(retriever, bundle.state))
            retriever.index.write(place)
        sources[name] = retriever.config.model_dump(mode="json")
    (folder / "ranking").mkdir()
    bundle.safety.copy_to(folder / FOLDER)
    if bundle.light is not None:
        bundle.light.save(folder / "ranking" / "light.json")
    if export_heavy is not None:
        export_heavy(folder / "ranking")
    if export_relevance is not None:
        (folder / RELEVANCE_FOLDER).mkdir()
        export_relevance(folder / RELEVANCE_FOLDER)
    document = {
        "version": BUNDLE_VERSION,
        "sources": sources,
        "indexes": indexes,
        "configured": bundle.configured,
        "negative_actions": bundle.negative_actions,
        "notes": bundle.notes,
        "proposed_weights": bundle.proposed_weights,
        "features": bundle.spec.to_json(),
        "light": bundle.light is not None,
        "heavy": export_heavy is not None,
        "relevance": export_relevance is not None,
        "order": bundle.order.to_json(),
        "fusion": bundle.fusion,
        "candidates": bundle.candidates,
        "repeats": bundle.repeats,
        "creatives": None if bundle.creatives is None else bundle.creatives.columns,
    }
    (folder / "bundle.json").write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return indexes


def _user_vectors(retriever: Retriever, state: State) -> np.ndarray | None:
    """float32[Q, D] vectors of users to measure an index with; None where nobody has one."""
    users = np.linspace(0, state.catalogue.n_users - 1, min(state.catalogue.n_users, 2000)).astype(np.int32)
    found = retriever.vectors(state, users)
    return None if found is None or not found[1].any() else found[0][found[1]]


def read_bundle(folder: Path) -> Bundle:
    """Open a bundle; raises ArtifactError where a part is missing, damaged or of another version."""
    from recsys_cli.retrieval.kinds import source_class

    try:
        document = orjson.loads((folder / "bundle.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise ArtifactError(f"{folder / 'bundle.json'} cannot be read: {error}", "train again") from None
    if document.get("version") != BUNDLE_VERSION:
        raise ArtifactError(
            f"{folder}: bundle version {document.get('version')}, this program reads {BUNDLE_VERSION}", "train again"
        )
    catalogue = Catalogue.from_arrays(*load_arrays(folder / "catalogue.bin"))
    spec = FeatureSpec.from_json(document["features"])
    retrievers = {}
    for name, config in document["sources"].items():
        place = inside(folder / "retrieval", name) if is_name(name) else None
        if place is None:
            raise ArtifactError(f"{folder / 'bundle.json'} names a source {name[:80]!r}, which is none", "train again")
        source = source_class(config["kind"])
        retriever = source.load(source.config_type.model_validate(config), place)
        if retriever.index is not None:
            retriever.index.read(place)
        retrievers[name] = retriever
    labels, _ = load_arrays(folder / "labels.bin")
    return Bundle(
        user_ids=Vocabulary.load(folder, "users"),
        item_ids=Vocabulary.load(folder, "items"),
        author_ids=Vocabulary.load(folder, "authors"),
        catalogue=catalogue,
        state=State.from_arrays(*load_arrays(folder / "state.bin"), catalogue),
        spec=spec,
        snapshot=Snapshot.from_arrays(*load_arrays(folder / "snapshot.bin")),
        retrievers=retrievers,
        configured=tuple(document["configured"]),
        light=LightRanker.load(folder / "ranking" / "light.json") if document["light"] else None,
        heavy=_ranker(folder / "ranking") if document["heavy"] else None,
        negative_actions=tuple(document["negative_actions"]),
        labels=Labels(**labels),
        safety=SafetyModels.load(folder / FOLDER, verify=False),
        notes=tuple(document["notes"]),
        relevance=_ranker(folder / RELEVANCE_FOLDER, later=True) if document["relevance"] else None,
        order=Order(**document["order"]),
        fusion=document["fusion"],
        candidates=document["candidates"],
        repeats=document.get("repeats", False),  # bundles of before it was decided leave out what was seen
        proposed_weights=document["proposed_weights"],
        creatives=_creatives(folder, document.get("creatives")),
    )


def _creatives(folder: Path, columns: list[str] | None) -> CreativeTexts | None:
    """Those of a bundle; None where it was written without."""
    if columns is None:
        return None
    return CreativeTexts(**load_arrays(folder / "creatives.bin")[0], columns=tuple(columns))


def _ranker(folder: Path, *, later: bool = False) -> ServedRanker:
    """What was exported into a folder; the settings of all kinds are made ready only where the kind is not built in.

    later: its graph is opened when it is first asked.
    """
    if Description.read(folder).kind in GRAPHS:
        return load_exported(folder, later=later)
    from recsys_cli.ranking.registry import load_ranker

    return load_ranker(folder)
