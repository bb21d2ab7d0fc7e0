"""TwHIN in torch: one table of entities, one translation a relation, sampled negatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from recsys_cli.optimisers import Adam
from recsys_cli.parallel import torch_seed
from recsys_cli.retrieval.embeddings.sampled_softmax import Table, log_q, on, sampled_softmax

if TYPE_CHECKING:
    from recsys_cli.retrieval.embeddings.twhin_config import TwhinConfig


@dataclass
class Relation:
    """Edges of one kind, from a source entity to a target entity (rows of the table)."""

    name: str
    source: np.ndarray
    """int64[m]"""
    target: np.ndarray
    """int64[m]"""
    low: int
    """Entities of the targets' kind are the rows low:high."""
    high: int


class TwhinTrainer:
    """Minimises −log softmax of cos(θ_source + r, θ_target) / temperature over sampled targets of the same kind.

    Negatives are the other targets of the batch and targets drawn evenly, with their sampling probability taken
    off (log-q correction). A batch holds edges of one relation.
    """

    def __init__(
        self, config: TwhinConfig, seed: int, entities: int, relations: list[Relation],
        device: torch.device = torch.device("cpu"),
    ):
        self.config, self.relations, self.device = config, relations, device
        with torch_seed(seed):
            self.table = Table(entities, config.dim, config.dim**-0.5).to(device)
            self.translations = torch.zeros(len(relations), config.dim, requires_grad=True, device=device)
        self.optimiser = Adam([self.translations], lr=config.learning_rate)
        self.step = 0
        self.correction = [
            log_q(
                np.bincount(r.target - r.low, minlength=r.high - r.low),
                min(config.batch_size, len(r.target)),
                config.uniform_negatives,
            )
            for r in relations
        ]

    def epoch(self, rng: np.random.Generator) -> float:
        size = self.config.batch_size
        batches = [
            (at, rows)
            for at, relation in enumerate(self.relations)
            for rows in np.array_split(rng.permutation(len(relation.source)), -(-len(relation.source) // size))
        ]
        losses = [self._step(*batches[i], rng) for i in rng.permutation(len(batches))]
        return float(np.mean(losses)) if losses else 0.0

    def _step(self, number: int, rows: np.ndarray, rng: np.random.Generator) -> float:
        config, relation = self.config, self.relations[number]
        negatives = rng.integers(relation.low, relation.high, config.uniform_negatives)
        candidates = np.concatenate([relation.target[rows], negatives])
        values, place = self.table.take(np.concatenate([relation.source[rows], candidates]))
        sources = F.embedding(place[: len(rows)], values) + self.translations[number]
        targets = F.normalize(F.embedding(place[len(rows) :], values), dim=-1)
        local = candidates - relation.low
        correction = on(self.device, self.correction[number][local])
        loss = sampled_softmax(F.normalize(sources, dim=-1), targets, local, correction, config.temperature)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        self.table.update(config.learning_rate, self.step)
        return float(loss.detach())

    def state(self) -> dict:
        return {
            "table": self.table.state_dict(),
            "translations": self.translations.detach().clone(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load(self, state: dict) -> None:
        self.table.load_state_dict(state["table"])
        with torch.no_grad():
            self.translations.copy_(state["translations"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def entities(self) -> np.ndarray:
        """float32[entities, D]"""
        return self.table.weight.cpu().numpy().copy()

    def translation(self, name: str) -> np.ndarray:
        """float32[D] of a relation, 0 where there is none of this name."""
        for number, relation in enumerate(self.relations):
            if relation.name == name:
                return self.translations[number].detach().cpu().numpy().copy()
        return np.zeros(self.config.dim, np.float32)
