"""TwHIN: users, authors and items in one space, learnt from several relations at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged, ragged_of
from recsys_cli.data.state import State
from recsys_cli.parallel import train_on
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import ArrayRetriever, Window
from recsys_cli.retrieval.embeddings.twhin_config import TwhinConfig
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.products import unit
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    import torch

_ARRAYS = ("items", "item_known", "users", "user_known", "authors", "author_known")


class Twhin(ArrayRetriever, VectorRetriever):
    """score = cos(unit(θ_user + r_action) + history_weight × mean of the recent items' θ, θ_item).

    Each entity has a vector θ and each relation a translation r; an edge is likely where θ_source + r points to
    θ_target. r_action is that of the first action in `relations`. An item without engagement stands where its
    author's own relation points, unit(θ_author + r_writes), and so do items that come after the fit.
    """

    config_type: ClassVar = TwhinConfig
    part: ClassVar = "twhin.bin"
    parts: ClassVar = _ARRAYS
    config: TwhinConfig

    def __init__(self, config: TwhinConfig):
        super().__init__(config)
        none = np.zeros((0, config.dim), np.float32)
        self._set({name: np.zeros(0, bool) if name.endswith("known") else none for name in _ARRAYS})

    def _set(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays = arrays
        self.index = ItemIndex(arrays["items"], arrays["item_known"], self.config.max_age_days)

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from recsys_cli.retrieval.embeddings.twhin_trainer import TwhinTrainer
        from recsys_cli.retrieval.epochs import digest, run_epochs

        catalogue, n_users = window.catalogue, window.catalogue.n_users
        # an author who is a user is one entity with that user
        extra = np.cumsum(catalogue.author_user < 0) - 1
        author_row = np.where(catalogue.author_user >= 0, catalogue.author_user, n_users + extra).astype(np.int64)
        first_item = n_users + int((catalogue.author_user < 0).sum())
        relations = self._relations(window, author_row, first_item)
        edges = [digest(r.source, r.target) for r in relations]
        key = f"{self.config.model_dump_json()} {window.seed} {window.end} {edges}"

        def train(device: torch.device, parts: int) -> TwhinTrainer:
            config = self.config.model_copy(update={"batch_size": -(-self.config.batch_size // parts)})
            trainer = TwhinTrainer(config, window.seed, first_item + catalogue.n_items, relations, device)
            run_epochs(trainer, "twhin", config.epochs, window.seed, progress, resume, f"{key} {parts}")
            return trainer

        trainer = train_on(window.device, "twhin", progress, train)
        entities, actions = trainer.entities(), [r.name for r in relations if r.name not in ("follow", "writes")]
        touched = np.zeros(len(entities), bool)
        for r in relations:
            touched[r.source] = touched[r.target] = True
        authors = unit(entities[author_row] + trainer.translation("writes"))
        items, known = unit(entities[first_item:]), touched[first_item:]
        arrays = {
            "items": items,
            "item_known": known,
            "users": unit(entities[:n_users] + trainer.translation(actions[0] if actions else "")),
            "user_known": touched[:n_users],
            "authors": authors,
            "author_known": touched[author_row] & any(r.name == "writes" for r in relations),
        }
        arrays["items"], arrays["item_known"] = _with_authors(arrays, items, known, catalogue.item_author)
        self._set(arrays)

    def _relations(self, window: Window, author_row: np.ndarray, first_item: int) -> list:
        from recsys_cli.retrieval.embeddings.twhin_trainer import Relation

        log, catalogue, state = window.log, window.catalogue, window.state
        if not len(window.interactions[0]):
            return []
        stop = first_item + catalogue.n_items
        actions = [a for a in self.config.relations if a in log.positive_actions and a != "follow"]
        actions = actions or [a for a in log.positive_actions if a != "follow"] or list(log.positive_actions)
        found = []
        for action in actions:
            rows = np.flatnonzero(log.actions[action])
            items = first_item + log.item[rows].astype(np.int64)
            found.append(Relation(action, log.user[rows], items, first_item, stop))
        if "follow" in self.config.relations and len(catalogue.author_user):
            # entities behind the authors may be any user or author
            found.append(Relation("follow", state.follows.rows, author_row[state.follows.values], 0, first_item))
        if self.config.authorship:
            items = np.flatnonzero((catalogue.item_author >= 0) & (catalogue.item_created < window.end))
            writers = author_row[catalogue.item_author[items]] if len(items) else items
            found.append(Relation("writes", writers, first_item + items, first_item, stop))
        for relation in found:
            relation.source = np.asarray(relation.source, np.int64)
        return [r for r in found if len(r.source)]

    def adapt(self, catalogue: Catalogue) -> None:
        """Give appended items the place that their author's items have."""
        fitted = len(self._arrays["items"])
        if catalogue.n_items > fitted:
            none = np.zeros((catalogue.n_items - fitted, self.config.dim), np.float32)
            items = np.concatenate([self._arrays["items"], none])
            known = np.concatenate([self._arrays["item_known"], np.zeros(len(none), bool)])
            items, known = _with_authors(self._arrays, items, known, catalogue.item_author)
            self.index = ItemIndex(items, known, self.config.max_age_days)

    def _blend(self, learnt: np.ndarray, histories: Ragged, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] unit vectors and bool[B], from unit vectors (0 where unknown), histories of known items and the
        share of each item in its history."""
        out = learnt.astype(np.float32, copy=True)
        filled = np.flatnonzero(histories.lengths)
        if len(filled):
            mean = np.add.reduceat(self.index.vectors[histories.values] * shares[:, None], histories.offsets[filled])
            alone = ~learnt[filled].any(axis=1, keepdims=True)
            out[filled] += mean * np.where(alone, 1.0, self.config.history_weight).astype(np.float32)
        return unit(out), out.any(axis=1)

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] unit vectors and bool[B], False where nothing is known of the user."""
        users, n = np.asarray(users), len(self._arrays["users"])
        inside = np.clip(users, 0, max(n - 1, 0))
        learnt = np.zeros((len(users), self.config.dim), np.float32)
        trained = (users == inside) & self._arrays["user_known"][inside] if n else np.zeros(len(users), bool)
        learnt[trained] = self._arrays["users"][users[trained]]
        items = state.history.last(users, self.config.history)
        times = state.history_time.last(users, self.config.history)
        bounded = np.clip(items, 0, max(len(self.index.known) - 1, 0))
        held = (items == bounded) & self.index.known[bounded] if len(self.index.known) else np.zeros(items.shape, bool)
        rows, columns = np.nonzero(held)
        since = np.minimum(times[rows, columns] - times[rows, 0], 0)
        shares = self.config.history_weighting.shares(rows, columns, since, len(users))
        return self._blend(learnt, Ragged.group(rows, items[rows, columns], len(users)), shares)

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """Vectors of people who were not in training: the weighted mean of the known items of each history, whose
        times are not known."""
        rows = ragged_of([np.asarray(h)[-self.config.history :] for h in histories])
        held = (rows.values >= 0) & (rows.values < len(self.index.known))
        held[held] = self.index.known[rows.values[held]]
        known = Ragged.group(rows.rows[held], rows.values[held], len(rows))
        behind = rows.offsets[rows.rows + 1] - 1 - np.arange(len(rows.values))
        nobody = np.zeros((len(rows), self.config.dim), np.float32)
        shares = self.config.history_weighting.shares(known.rows, behind[held], None, len(rows))
        return self._blend(nobody, known, shares)[0]


def _with_authors(arrays: dict, items: np.ndarray, known: np.ndarray, authors: np.ndarray):
    """(vectors, known) with unknown items where their known author's items are."""
    held = np.flatnonzero(~known & (authors >= 0) & (authors < len(arrays["author_known"])))
    held = held[arrays["author_known"][authors[held]]]
    items, known = items.copy(), known.copy()
    items[held], known[held] = arrays["authors"][authors[held]], True
    return items, known
