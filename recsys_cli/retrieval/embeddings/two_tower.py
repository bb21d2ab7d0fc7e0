"""Two towers: users and items in one space, from ids, attributes, topics, words and histories."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.ragged import Ragged, expand, ragged_of
from recsys_cli.data.state import State
from recsys_cli.parallel import torch_threads, train_on
from recsys_cli.progress import Progress
from recsys_cli.retrieval.base import DescribedArrayRetriever, Window
from recsys_cli.retrieval.batches import chunks
from recsys_cli.retrieval.content.tokens import Tokens
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.embeddings.two_tower_config import CELLS_AT_ONCE, ENTITIES_AT_ONCE, MEASURED, TwoTowerConfig
from recsys_cli.retrieval.memo import LastAnswer
from recsys_cli.retrieval.vectors.item_index import ItemIndex
from recsys_cli.retrieval.vectors.products import product, unit
from recsys_cli.retrieval.vectors.retriever import VectorRetriever

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 100_000
_ARRAYS = (
    "vectors", "inputs", "profiles", "item_content", "unknown_item", "unknown_user", "user_content",
    "item_in.weight", "item_in.bias", "item_out.weight", "item_out.bias",
    "user_in.weight", "user_in.bias", "user_out.weight", "user_out.bias",
)


class TwoTower(DescribedArrayRetriever, VectorRetriever):
    """score = cosine of the user's and the item's vector.

    Torch trains the towers; serving runs them in numpy from arrays. The user tower reads the history as of
    the State, so it serves new histories and new users; `adapt` runs the item tower over appended items.
    """

    config_type: ClassVar = TwoTowerConfig
    part: ClassVar = "two_tower.bin"
    parts: ClassVar = _ARRAYS
    similar_from: ClassVar = 0.6
    config: TwoTowerConfig

    def __init__(self, config: TwoTowerConfig):
        super().__init__(config)
        self._arrays: dict[str, np.ndarray] = {}
        self._meta: dict = {}
        self._earlier: TwoTower | None = None
        self._inputs = np.zeros((0, config.dim), np.float32)
        self._profiles = np.zeros((0, config.dim), np.float32)
        self.index = ItemIndex(self._inputs, np.zeros(0, bool), config.max_age_days)

    def memory(self, window: Window) -> int:
        items, width = window.catalogue.n_items, self.config.dim + self.config.hidden
        scores = 2 * 4 * min(MEASURED * items, CELLS_AT_ONCE)
        return super().memory(window) + scores + 4 * 4 * width * min(items, ENTITIES_AT_ONCE)

    def begin_from(self, earlier: TwoTower) -> None:
        self._earlier = earlier

    def fit(self, window: Window, progress: Progress, resume: Path | None = None) -> None:
        from recsys_cli.retrieval.embeddings.two_tower_trainer import Examples, TowerTrainer
        from recsys_cli.retrieval.epochs import digest

        catalogue = window.catalogue
        users, items, times = window.interactions
        item_tokens, user_tokens = Tokens.of_items(catalogue, self.config.max_words), Tokens.of_users(catalogue)
        # recall is measured among what would be proposed: old items would flatter whatever tells old from new
        candidates = eligible(window.state, self.config.max_age_days)
        candidates &= np.bincount(items, minlength=catalogue.n_items) > 0
        item_bags, user_bags = item_tokens.item_bags(catalogue), user_tokens.user_bags(catalogue)
        examples, earlier = Examples.of(users, items, times, self.config.history), self._earlier

        def train(device: torch.device, parts: int) -> TowerTrainer:
            config = self.config.model_copy(update={"batch_size": -(-self.config.batch_size // parts)})
            trainer = TowerTrainer(
                config, window.seed, examples, item_bags, _known_rows(items, catalogue.n_items), user_bags,
                _known_rows(users, catalogue.n_users), item_tokens.rows, user_tokens.rows,
                np.flatnonzero(candidates), device,
            )
            again = earlier is not None and trainer.begin_from(
                earlier._arrays, _not_learned(earlier._meta, users, items, times)
            )
            trainer.run(progress, resume, f"{self._key(window)} {again} {parts}")
            return trainer

        with torch_threads(1):
            trainer = train_on(window.device, "two towers", progress, train)
        self._export(trainer, item_tokens, user_tokens)
        until = int(times[len(times) - len(trainer.held_rows)]) if len(trainer.held_rows) else window.end
        before = times < until
        learned = digest(users[before], items[before], times[before])
        self._meta |= {"until": until, "learned": learned}

    def _key(self, window: Window) -> str:
        """Names what is being fitted: progress of anything else is not taken up."""
        users, items, times = window.interactions
        digest = int(np.bitwise_xor.reduce((times ^ (users.astype(np.int64) << 32)) + items)) if len(items) else 0
        size = f"{window.catalogue.n_users} {window.catalogue.n_items} {len(items)}"
        return f"{self.config.model_dump_json()} {window.seed} {window.end} {size} {digest}"

    def _export(self, trainer, item_tokens: Tokens, user_tokens: Tokens) -> None:
        import torch

        model = trainer.model.eval()
        with torch.no_grad():
            inputs = trainer.item_inputs()
            arrays = {
                "inputs": inputs.numpy(), "vectors": trainer.item_vectors(inputs).numpy(),
                "profiles": trainer.profiles().numpy(),
                "unknown_item": model.item_id.weight[0].numpy(), "unknown_user": model.user_id.weight[0].numpy(),
                "item_content": model.item_content.weight.numpy(), "user_content": model.user_content.weight.numpy(),
            }
            for layer in ("item_in", "item_out", "user_in", "user_out"):
                arrays[f"{layer}.weight"] = getattr(model, layer).weight.numpy()
                arrays[f"{layer}.bias"] = getattr(model, layer).bias.numpy()
        items, users = item_tokens.to_arrays("items"), user_tokens.to_arrays("users")
        made = ("inputs", "vectors", "profiles")  # for this alone; the others are the network's own
        copies = {name: a if name in made else np.array(a) for name, a in arrays.items()}
        self._set({**copies, **items[0], **users[0]}, {**items[1], **users[1]})

    def _set(self, arrays: dict[str, np.ndarray], meta: dict) -> None:
        self._arrays, self._meta = arrays, meta
        self._place(arrays["inputs"], arrays["vectors"], arrays["profiles"], None)

    def _place(
        self, inputs: np.ndarray, vectors: np.ndarray, profiles: np.ndarray, previous: ItemIndex | None
    ) -> None:
        self._inputs, self._profiles, self._last = inputs, profiles, LastAnswer()
        self.index = ItemIndex(vectors, np.ones(len(vectors), bool), self.config.max_age_days, previous)

    def _fitted(self) -> tuple[dict[str, np.ndarray], dict]:
        return self._arrays, self._meta

    def adapt(self, catalogue: Catalogue) -> None:
        """Give appended items and users their vectors, from their attributes under the id of the unknown."""
        fitted, people = len(self._arrays["vectors"]), len(self._arrays["profiles"])
        inputs, vectors, profiles = (self._arrays[n] for n in ("inputs", "vectors", "profiles"))
        if catalogue.n_items > fitted:
            tokens = Tokens.from_arrays(self._arrays, self._meta, "items")
            content = tokens.item_bags(catalogue, fitted).embed(self._arrays["item_content"])
            more = content + self._arrays["unknown_item"]
            inputs = np.concatenate([inputs, more])
            vectors = np.concatenate([vectors, unit(more + self._layers("item", more))])
        if catalogue.n_users > people:
            tokens = Tokens.from_arrays(self._arrays, self._meta, "users")
            more = tokens.user_bags(catalogue).embed(self._arrays["user_content"])[people:]
            profiles = np.concatenate([profiles, more + self._arrays["unknown_user"]])
        # a catalogue that lost its additions again leaves no way back but to make the index anew
        held = self.index if len(vectors) >= len(self.index.vectors) else None
        self._place(inputs, vectors, profiles, held)

    def _layers(self, tower: str, x: np.ndarray) -> np.ndarray:
        a = self._arrays
        hidden = np.maximum(product(x, a[f"{tower}_in.weight"].T) + a[f"{tower}_in.bias"], 0)
        return product(hidden, a[f"{tower}_out.weight"].T) + a[f"{tower}_out.bias"]

    def _user_tower(self, histories: Ragged, shares: np.ndarray, profiles: np.ndarray) -> np.ndarray:
        """float32[B, D] unit vectors; histories of items with an input, and the share of each in its history."""
        history = np.zeros_like(profiles)
        filled = np.flatnonzero(histories.lengths)
        if len(filled):
            weighted = self._inputs[histories.values] * shares[:, None]
            history[filled] = np.add.reduceat(weighted, histories.offsets[filled], axis=0)
        return unit(history + profiles + self._layers("user", np.concatenate([history, profiles], axis=1)))

    def vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32[B, D] unit vectors and bool[B], False where nothing is known of the user."""
        users = np.asarray(users)
        return self._last(state, users, lambda: self._vectors(state, users))

    def _vectors(self, state: State, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = np.zeros((len(users), self.config.dim), np.float32)
        inside = np.clip(users, 0, max(len(state.history) - 1, 0))
        stop = np.where(users >= 0, state.history.offsets[inside + 1], 0)
        count = np.where(users >= 0, np.minimum(stop - state.history.offsets[inside], self.config.history), 0)
        described = bool(self._arrays["user_content"].any()) and bool(self._meta["users.sizes"])
        known = (users >= 0) & ((count > 0) | described)
        for part in chunks(count + 1, ROWS_AT_ONCE):
            places, items = expand((stop - count)[part], count[part], state.history.values)
            times = expand((stop - count)[part], count[part], state.history_time.values)[1]
            held = items < len(self._inputs)
            size = part.stop - part.start
            since = times - state.history_time.values[stop[part] - 1][places] if len(times) else times
            behind = np.cumsum(count[part])[places] - 1 - np.arange(len(places))
            rows = Ragged.group(places[held], items[held], size)
            shares = self.config.history_weighting.shares(places[held], behind[held], since[held], size)
            out[part] = self._user_tower(rows, shares, self._profile(users[part]))
        out[~known] = 0
        return out, known

    def _profile(self, users: np.ndarray) -> np.ndarray:
        inside = (users >= 0) & (users < len(self._profiles))
        if inside.all():
            return self._profiles[users]
        out = np.broadcast_to(self._arrays["unknown_user"], (len(users), self.config.dim)).copy()
        out[inside] = self._profiles[users[inside]]
        return out

    def fold_in(self, histories: list[np.ndarray]) -> np.ndarray:
        """Vectors of unknown users; items never seen count not at all, the others by their place at most."""
        rows = ragged_of([np.asarray(h)[-self.config.history :] for h in histories])
        held = (rows.values >= 0) & (rows.values < len(self._inputs))
        behind = rows.offsets[rows.rows + 1] - 1 - np.arange(len(rows.values))
        known = Ragged.group(rows.rows[held], rows.values[held], len(rows))
        shares = self.config.history_weighting.shares(known.rows, behind[held], None, len(rows))
        return self._user_tower(known, shares, self._profile(np.full(len(rows), -1)))


def _not_learned(meta: dict, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> slice:
    """Which of the interactions, in order of time, came after those that an earlier fit learned from; all of them where
    the earlier ones are others."""
    from recsys_cli.retrieval.epochs import digest

    if "until" not in meta:  # of an older run
        return slice(None)
    first = int(np.searchsorted(times, meta["until"]))
    same = digest(users[:first], items[:first], times[:first]) == meta["learned"]
    return slice(first, None) if same else slice(None)


def _known_rows(places: np.ndarray, n: int) -> np.ndarray:
    """int64[n] rows of an id table: 0 for what never occurs, 1, 2, … for the rest."""
    known = np.bincount(places, minlength=n) > 0
    return np.where(known, np.cumsum(known), 0)
