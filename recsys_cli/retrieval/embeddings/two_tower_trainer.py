"""The two towers in torch: the network, its loss and how it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from recsys_cli.data.ragged import Ragged, expand
from recsys_cli.files import atomic_file
from recsys_cli.optimisers import Adam
from recsys_cli.parallel import torch_seed
from recsys_cli.progress import Progress
from recsys_cli.retrieval.content.tokens import Bags
from recsys_cli.retrieval.embeddings.sampled_softmax import Table, log_q, on, sampled_softmax
from recsys_cli.retrieval.embeddings.two_tower_config import CELLS_AT_ONCE, ENTITIES_AT_ONCE, MEASURED

if TYPE_CHECKING:
    from recsys_cli.retrieval.embeddings.two_tower_config import TwoTowerConfig


CPU = torch.device("cpu")
FEWEST_HELD = 50
"""Interactions, with fewer of which none are held out."""
RATE_AGAIN = 0.3
"""Share of the step size with which training goes on from earlier weights: whole steps undo what these know."""
LAYERS = ("item_in", "item_out", "user_in", "user_out")


class Towers(nn.Module):
    """x_i = id + Σ tokens, v_i = unit(x_i + MLP(x_i)); u = unit(h + p + MLP([h, p])) with h the decayed mean of
    x over the history and p = id + Σ tokens of the user. Row 0 of an id table stands for anybody unknown."""

    def __init__(self, config: TwoTowerConfig, item_rows: int, item_tokens: int, user_rows: int, user_tokens: int):
        super().__init__()
        dim, hidden = config.dim, config.hidden
        self.item_id, self.item_content = Table(item_rows, dim, 0.02), Table(item_tokens, dim, dim**-0.5)
        self.user_id, self.user_content = Table(user_rows, dim, 0.02), Table(user_tokens, dim, 0.02)
        self.item_in, self.item_out = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.user_in, self.user_out = nn.Linear(2 * dim, hidden), nn.Linear(hidden, dim)
        with torch.no_grad():
            # the towers begin as plain content similarity and learn how to depart from it
            for layer in (self.item_out, self.user_out):
                layer.weight.zero_()
                layer.bias.zero_()

    @property
    def tables(self) -> tuple[Table, ...]:
        return self.item_id, self.item_content, self.user_id, self.user_content

    def item_tower(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x + self.item_out(F.relu(self.item_in(x))), dim=-1)

    def user_tower(self, history: torch.Tensor, profile: torch.Tensor) -> torch.Tensor:
        both = torch.cat([history, profile], dim=-1)
        return F.normalize(history + profile + self.user_out(F.relu(self.user_in(both))), dim=-1)


@dataclass
class Examples:
    """Interactions ordered by user, then time; example r has the history rows start[r]:stop[r]."""

    user: np.ndarray
    item: np.ndarray
    time: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, items: np.ndarray, times: np.ndarray, length: int) -> Examples:
        """From interactions in order of time; a history ends strictly before the example's moment."""
        order = np.argsort(users, kind="stable")
        user, item, time = users[order], items[order], times[order]
        at = np.arange(len(user))
        new_user = np.diff(user, prepend=-1) != 0
        new_moment = new_user | (np.diff(time, prepend=0) != 0)
        first = np.maximum.accumulate(np.where(new_user, at, 0))
        stop = np.maximum.accumulate(np.where(new_moment, at, 0))
        return cls(user, item, time, np.maximum(first, stop - length), stop)


class TowerTrainer:
    """Trains towers on a window's interactions.

    bags: tokens of every item and user; item_row, user_row: their rows in the id tables.
    """

    def __init__(
        self, config: TwoTowerConfig, seed: int, examples: Examples, item_bags: Bags, item_row: np.ndarray,
        user_bags: Bags, user_row: np.ndarray, item_tokens: int, user_tokens: int, candidates: np.ndarray,
        device: torch.device = CPU,
    ):
        self.config, self.seed, self.examples, self.device = config, seed, examples, device
        self.item_bags, self.item_row, self.user_bags, self.user_row = item_bags, item_row, user_bags, user_row
        self.candidates = candidates
        with torch_seed(seed):
            item_rows, user_rows = int(item_row.max(initial=0)) + 1, int(user_row.max(initial=0)) + 1
            self.model = Towers(config, item_rows, item_tokens, user_rows, user_tokens).to(device)
        self._set_rate(config.learning_rate)
        self._hold_out(config.holdout)
        self.touched = Ragged.group(examples.user, examples.item, len(user_row)).sorted_rows()
        self.epoch, self.step, self.best, self.best_epoch = 0, 0, -1.0, 0
        self.epochs = config.epochs
        self.best_state = self._weights()

    def _set_rate(self, rate: float) -> None:
        self.rate = rate
        self.optimiser = Adam(self.model.parameters(), lr=rate)

    def _hold_out(self, share: float) -> None:
        rows = np.argsort(self.examples.time, kind="stable")
        held = int(len(rows) * share)
        held = held if held >= FEWEST_HELD else 0
        self.train_rows, self.held_rows = np.sort(rows[: len(rows) - held]), rows[len(rows) - held :]
        counts = np.bincount(self.examples.item[self.train_rows], minlength=len(self.item_row))
        self.batch = min(self.config.batch_size, max(len(self.train_rows), 1))
        self.correction = log_q(counts, self.batch, self.config.uniform_negatives)

    def begin_from(self, arrays: dict[str, np.ndarray], fresh: slice) -> bool:
        """Take up the weights that `TwoTower` exported after an earlier fit, to learn from interactions that it had
        not (fresh: which, in order of time); False where the catalogue or the settings were others, and nothing is
        taken. Who or what was unknown then begins as the unknown do."""
        model = self.model
        tables = {name: getattr(model, name).weight for name in ("item_content", "user_content")}
        tables |= {f"{n}.weight": getattr(model, n).weight for n in LAYERS}
        tables |= {f"{n}.bias": getattr(model, n).bias for n in LAYERS}
        if any(arrays[name].shape != tuple(tensor.shape) for name, tensor in tables.items()):
            return False
        sides = ("item", self.item_bags, self.item_row, "inputs"), ("user", self.user_bags, self.user_row, "profiles")
        if any(len(arrays[whole]) != len(row) for _, _, row, whole in sides):
            return False
        with torch.no_grad():
            for name, tensor in tables.items():
                tensor.copy_(torch.from_numpy(np.array(arrays[name])))
            for side, bags, row, whole in sides:
                own = arrays[whole] - bags.embed(np.asarray(arrays[f"{side}_content"]))
                known = np.flatnonzero(row)
                weight = getattr(model, f"{side}_id").weight
                weight[0] = torch.from_numpy(np.array(arrays[f"unknown_{side}"]))
                weight[torch.from_numpy(row[known])] = torch.from_numpy(own[known])
        self.epochs = self.config.epochs_again
        self._set_rate(self.config.learning_rate * RATE_AGAIN)
        self._hold_out(0.0)
        self.train_rows = np.sort(np.argsort(self.examples.time, kind="stable")[fresh])
        return True

    def _weights(self) -> dict[str, torch.Tensor]:
        """A copy of what serving needs, without the moments of the tables."""
        return {n: t.clone() for n, t in self.model.state_dict().items() if not n.endswith((".mean", ".square"))}

    def run(self, progress: Progress, resume: Path | None, key: str) -> None:
        """Train to the end, going on from `resume` where it holds progress of the same `key`."""
        if resume is not None and resume.is_file():
            self._restore(resume, key)
        with progress.step("two towers", self.epochs) as step:
            step.advance(self.epoch)
            while self.epoch < self.epochs and self.epoch - self.best_epoch < self.config.patience:
                self._train_epoch()
                self.epoch += 1
                recall = self._recall() if len(self.held_rows) else float(self.epoch)
                if recall > self.best:
                    self.best, self.best_epoch = recall, self.epoch
                    self.best_state = self._weights()
                step.advance()
                if len(self.held_rows):
                    step.describe(f"recall@100 {recall:.3f}")
                if resume is not None:
                    self._keep(resume, key)
        self.model.load_state_dict(self.best_state, strict=False)
        self.device = CPU
        self.model.to(CPU)

    def _keep(self, path: Path, key: str) -> None:
        state = {
            "key": key, "epoch": self.epoch, "step": self.step, "best": self.best, "best_epoch": self.best_epoch,
            "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "best_state": self.best_state,
        }
        with atomic_file(path) as temporary:
            torch.save(state, temporary)

    def _restore(self, path: Path, key: str) -> None:
        try:
            kept = torch.load(path, weights_only=True, map_location=CPU)
        except Exception:
            # a file that is no progress of ours only costs the time to start afresh
            return
        if not isinstance(kept, dict) or kept.get("key") != key:
            return
        self.epoch, self.step = kept["epoch"], kept["step"]
        self.best, self.best_epoch = kept["best"], kept["best_epoch"]
        self.model.load_state_dict(kept["model"])
        self.optimiser.load_state_dict(kept["optimiser"])
        self.best_state = kept["best_state"]

    def _train_epoch(self) -> None:
        # every epoch has its own stream of random numbers, so that it can be repeated alone
        rng = np.random.default_rng([self.seed & (2**63 - 1), self.epoch])
        rows = rng.permutation(self.train_rows)
        mined = self._mine(rows, rng) if self.config.hard_negatives and self.epoch else None
        self.model.train()
        for start in range(0, len(rows), self.batch):
            part = rows[start : start + self.batch]
            negatives = rng.integers(0, len(self.item_row), self.config.uniform_negatives)
            items = np.concatenate([self.examples.item[part], negatives])
            shared = len(items)
            if mined is not None:
                items = np.concatenate([items, mined[start : start + self.batch].ravel()])
            keep_item = rng.random(len(items)) >= self.config.id_dropout
            keep_user = rng.random(len(part)) >= self.config.id_dropout
            users, vectors = self._forward(part, items, keep_item, keep_user)
            at = items[:shared]
            hard = None if mined is None else vectors[shared:].view(len(part), -1, self.config.dim)
            loss = sampled_softmax(
                users, vectors[:shared], at, on(self.device, self.correction[at]), self.config.temperature, hard
            )
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.step += 1
            for table in self.model.tables:
                table.update(self.rate, self.step)

    def _mine(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """int64[len(rows), hard_negatives] items ranked high for each example that its user did not turn to."""
        depth = min(self.config.hard_depth, len(self.candidates))
        # who turned to nearly all of what ranks high gets any candidates in the places left over
        out = rng.choice(self.candidates, (len(rows), self.config.hard_negatives))
        self.model.eval()
        with torch.no_grad():
            vectors = self.item_vectors(self.item_inputs())[on(self.device, self.candidates)]
            for start in range(0, len(rows), self.batch):
                part = rows[start : start + self.batch]
                shown = np.ones(len(part), bool)
                users, _ = self._forward(part, self.examples.item[part], shown, shown)
                high = self.candidates[(users @ vectors.T).topk(depth, sorted=False).indices.cpu().numpy()]
                high = high[:, rng.permutation(depth)]
                theirs = self.touched.contains(self.examples.user[part], high)
                first = np.argsort(theirs, axis=1, kind="stable")[:, : out.shape[1]]
                mined, bad = (np.take_along_axis(a, first, axis=1) for a in (high, theirs))
                np.copyto(out[start : start + len(part), : first.shape[1]], mined, where=~bad)
        return out

    def _forward(
        self, rows: np.ndarray, items: np.ndarray, keep_item: np.ndarray, keep_user: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor]:
        model, ex = self.model, self.examples
        places, past = expand(ex.start[rows], ex.stop[rows] - ex.start[rows], np.arange(len(ex.item)))
        unique, at = np.unique(np.concatenate([items, ex.item[past]]), return_inverse=True)
        content = self._bag(self.item_bags, unique, model.item_content)
        own, before = on(self.device, at[: len(items)]), on(self.device, at[len(items) :])
        # in the tower some ids are hidden; in the histories all are shown
        shown = np.where(keep_item, self.item_row[items], 0)
        ids, id_at = model.item_id.take(np.concatenate([shown, self.item_row[unique]]))
        candidates = model.item_tower(F.embedding(own, content) + F.embedding(id_at[: len(items)], ids))
        whole = content + F.embedding(id_at[len(items) :], ids)
        history = _sum(whole, before, places, self._decay(rows, places, past), len(rows))
        people = ex.user[rows]
        user_ids, user_at = model.user_id.take(np.where(keep_user, self.user_row[people], 0))
        profile = F.embedding(user_at, user_ids) + self._bag(self.user_bags, people, model.user_content)
        return model.user_tower(history, profile), candidates

    def _decay(self, rows: np.ndarray, places: np.ndarray, past: np.ndarray) -> np.ndarray:
        latest = self.examples.time[np.maximum(self.examples.stop[rows] - 1, 0)]
        behind = self.examples.stop[rows][places] - 1 - past
        since = self.examples.time[past] - latest[places]
        return self.config.history_weighting.shares(places, behind, since, len(rows))

    @staticmethod
    def _bag(bags: Bags, things: np.ndarray, table: Table) -> torch.Tensor:
        start = bags.rows.offsets[things]
        count = bags.rows.offsets[things + 1] - start
        places, rows = expand(start, count, bags.rows.values)
        weights = expand(start, count, bags.weights)[1]
        values, at = table.take(rows)
        return _sum(values, at, places, weights, len(things))

    def _recall(self, k: int = 100, most: int = MEASURED) -> float:
        """Recall@k of the latest held-out interactions with candidates, among the candidates."""
        rows = self.held_rows[np.isin(self.examples.item[self.held_rows], self.candidates)][-most:]
        if not len(rows):
            return float(self.epoch)
        self.model.eval()
        with torch.no_grad():
            vectors = self.item_vectors(self.item_inputs())
            users, _ = self._forward(rows, self.examples.item[rows], np.ones(len(rows), bool), np.ones(len(rows), bool))
            target, candidates = on(self.device, self.examples.item[rows].astype(np.int64)), self.candidates
            ahead = [
                _ahead(users[part], vectors, target[part], on(self.device, candidates))
                for part in _slices(len(rows), max(CELLS_AT_ONCE // len(vectors), 1))
            ]
        return float((torch.cat(ahead) < k).float().mean())

    def item_inputs(self) -> torch.Tensor:
        """[n_items, D] the input x of every item."""
        return self._inputs(self.item_bags, self.model.item_content, self.model.item_id, self.item_row)

    def profiles(self) -> torch.Tensor:
        """[n_users, D] the profile p of every user."""
        return self._inputs(self.user_bags, self.model.user_content, self.model.user_id, self.user_row)

    def item_vectors(self, inputs: torch.Tensor) -> torch.Tensor:
        """[n, D] what the item tower makes of inputs [n, D], which stay as they are."""
        out = torch.empty_like(inputs)
        for part in _slices(len(inputs), ENTITIES_AT_ONCE):
            out[part] = self.model.item_tower(inputs[part])
        return out

    def _inputs(self, bags: Bags, content: Table, ids: Table, row: np.ndarray) -> torch.Tensor:
        out = torch.empty(len(row), ids.weight.shape[1], device=ids.weight.device)
        for part in _slices(len(row), ENTITIES_AT_ONCE):
            out[part] = self._bag(bags, np.arange(part.start, part.stop), content) + ids.weight[row[part]]
        return out


def _slices(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _ahead(users: torch.Tensor, vectors: torch.Tensor, target: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    """int64[B]: candidates that each of users [B, D] is nearer to than to its own target, int64[B]."""
    scores = users @ vectors.T
    own = scores[torch.arange(len(users), device=users.device), target]
    return (scores[:, candidates] > own[:, None]).sum(dim=1)


def _sum(table: torch.Tensor, rows: torch.Tensor, places: np.ndarray, weights: np.ndarray, batch: int) -> torch.Tensor:
    """[batch, D] weighted sums of table rows by place (ascending)."""
    if not len(rows):
        return torch.zeros(batch, table.shape[1], device=table.device)
    offsets = on(table.device, np.searchsorted(places, np.arange(batch)))
    return F.embedding_bag(rows, table, offsets, mode="sum", per_sample_weights=on(table.device, weights))

