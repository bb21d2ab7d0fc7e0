"""Training of the sequential sources in torch."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from recsys_cli.data.ragged import Ragged, expand, offsets_of
from recsys_cli.optimisers import AdamW
from recsys_cli.parallel import torch_seed
from recsys_cli.retrieval.sequential.networks.encoder import INPUTS, action_flags, gap_codes
from recsys_cli.retrieval.sequential.networks.losses import Repeats, next_item_loss
from recsys_cli.retrieval.sequential.networks.modules import Served, network

if TYPE_CHECKING:
    from recsys_cli.retrieval.sequential.networks.config import SequentialConfig

CPU = torch.device("cpu")
SHORTEST_MIX = 16
"""Pieces whose lengths differ by less may share a batch however they fall."""
BARE = 0.1
"""Share of the rows of which the network sees the items alone."""


@dataclass(frozen=True)
class Sequences:
    """Events of the users in training, oldest first, with the item's token (1, 2, …) and what else is known."""

    offsets: np.ndarray
    """int64[users + 1]"""
    tokens: np.ndarray
    """int64[m]"""
    actions: np.ndarray
    """float32[m, A], 1 where the event had the action; A is 0 where they tell nothing"""
    gaps: np.ndarray | None
    """int64[m] codes of the time since the event before, None where times tell nothing"""
    items: int
    """tokens run to here"""
    repeats: float
    """added to the score of the items of the history"""

    @classmethod
    def of(
        cls, tokens: Ragged, times: np.ndarray, bits: np.ndarray, actions: int, config: SequentialConfig
    ) -> Sequences:
        """From the tokens of each user with the times (µs) and the bits of the actions of each."""
        flags = action_flags(bits, actions)
        tells = config.actions and len(flags) and (flags != flags[0]).any()
        gaps = gap_codes(tokens.offsets, times)
        later = gaps[gaps > 0]
        timed = config.time_gaps and len(later) and (later != later[0]).any()
        values = tokens.values.astype(np.int64)
        return cls(
            tokens.offsets, values, flags if tells else flags[:, :0], gaps if timed else None,
            int(values.max(initial=0)), repeat_bias(tokens) if config.repeats else 0.0,
        )


def repeat_bias(tokens: Ragged) -> float:
    """ln of how often an event repeats one of its user's history, over how often it would if people took items by
    their share of all events; both counted one higher, so that it stays finite."""
    rows, values = tokens.rows, tokens.values
    share = np.bincount(values) / max(len(values), 1)
    order = np.lexsort((np.arange(len(values)), values, rows))
    again = np.zeros(len(values), bool)
    again[order[1:]] = (rows[order[1:]] == rows[order[:-1]]) & (values[order[1:]] == values[order[:-1]])
    mass = np.where(again, 0, share[values])
    before = np.cumsum(mass) - mass
    before -= np.repeat(before[tokens.offsets[:-1][tokens.lengths > 0]], tokens.lengths[tokens.lengths > 0])
    return float(np.log((again.sum() + 1) / (before.sum() + 1)))


def pieces(offsets: np.ndarray, longest: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(start, length) of runs of at most `longest` events that make up all sequences, cut anew at every call."""
    lengths = np.diff(offsets)
    first = np.where(lengths > longest, rng.integers(1, longest + 1, len(lengths)), lengths)
    count = np.where(lengths > 0, 1 + -(-(lengths - first) // longest), 0)
    row, number = expand(np.zeros(len(lengths), np.int64), count, np.arange(count.max(initial=0)))
    start = np.where(number == 0, 0, first[row] + (number - 1) * longest)
    stop = np.minimum(first[row] + number * longest, lengths[row])
    return offsets[:-1][row] + start, stop - start


def batches(
    start: np.ndarray, length: np.ndarray, events: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of pieces of like length, about `events` places each with the filling, in random order."""
    order = np.argsort(length + rng.uniform(0, SHORTEST_MIX, len(length)))
    out, at = [], 0
    while at < len(order):
        widest = np.maximum.accumulate(length[order[at : at + events]])
        size = max(int(np.searchsorted(widest * np.arange(1, len(widest) + 1), events, "right")), 1)
        rows = order[at : at + size]
        out.append((start[rows], length[rows]))
        at += size
    return [out[i] for i in rng.permutation(len(out))]


class SequenceTrainer:
    """One member: learns the next event of every event (causal networks), or hidden events (BERT4Rec)."""

    def __init__(self, config: SequentialConfig, seed: int, data: Sequences, device: torch.device = CPU):
        self.config, self.data, self.done, self.device = config, data, 0, device
        with torch_seed(seed):
            self.model = network(config, data.items, data.actions.shape[1], data.gaps is not None).to(device)
        wide = [p for p in self.model.parameters() if p.ndim >= 2]
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": wide, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.optimiser = AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)

    def epoch(self, rng: np.random.Generator) -> float:
        config, total, count = self.config, 0.0, 0
        learn = self._hidden if config.kind == "bert4rec" else self._next
        # where the next event is learned, a run of n + 1 events gives n of them
        start, length = pieces(self.data.offsets, config.history + 1, rng)
        keep = length > 1
        todo = batches(start[keep], length[keep], config.batch_size, rng)
        self.model.train()
        self.model.noise.seed(rng)
        for number, (starts, lengths) in enumerate(todo):
            self._set_rate((self.done + number / len(todo)) / config.epochs)
            loss, learned = learn(starts, lengths, rng)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            total, count = total + float(loss.detach()) * learned, count + learned
        self.done += 1
        return total / max(count, 1)

    def _set_rate(self, share: float) -> None:
        """The step size rises over the first twentieth of the training and then falls to nothing."""
        scale = min(share / 0.05 + 0.01, (1 - share) / 0.95)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate * scale

    def _rows(self, starts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator):
        """Tokens, actions and gaps [B, L] of runs of events, and int64[n] where in the flat batch each event is.

        In some rows actions and gaps are hidden, so that a bare list of items is understood too (`fold_in`).
        """
        data, width = self.data, int(lengths.max())
        row, column = expand(np.zeros(len(starts), np.int64), lengths, np.arange(width))
        at = starts[row] + column
        bare = (rng.random(len(starts)) < BARE)[row]
        place = torch.from_numpy(row * width + column)
        tokens = torch.zeros(len(starts) * width, dtype=torch.int64)
        tokens[place] = torch.from_numpy(data.tokens[at])
        actions = torch.zeros(len(starts) * width, data.actions.shape[1])
        actions[place] = torch.from_numpy(data.actions[at] * ~bare[:, None])
        gaps = torch.zeros(len(starts) * width, dtype=torch.int64)
        if data.gaps is not None:
            gaps[place] = torch.from_numpy(np.where((column > 0) & ~bare, data.gaps[at], 0))
        shape = len(starts), width
        found = tokens.view(shape), actions.view(*shape, -1), gaps.view(shape), place
        return *(tensor.to(self.device) for tensor in found), at

    def _encode(self, tokens, actions, gaps, lengths, places) -> torch.Tensor:
        """[n, D] after the events at `places` of the flat batch."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            return self.model(tokens, actions, gaps, torch.from_numpy(lengths).to(self.device)).flatten(0, 1)[places]

    def _next(self, starts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator):
        """Loss of the next event after every event but the last, and their number."""
        tokens, actions, gaps, place, at = self._rows(starts, lengths - 1, rng)
        hidden = self._encode(tokens, actions, gaps, lengths - 1, place)
        targets = torch.from_numpy(self.data.tokens[at + 1] - 1).to(self.device)
        repeats = self._repeats(self._first(at), at + 1) if self.data.repeats else None
        return next_item_loss(self.config, hidden, self.model.items, targets, repeats, rng), len(at)

    def _hidden(self, starts: np.ndarray, lengths: np.ndarray, rng: np.random.Generator):
        """Loss of events hidden among the others, and their number."""
        tokens, actions, gaps, place, at = self._rows(starts, lengths, rng)
        first = np.cumsum(lengths) - lengths
        chosen = rng.random(len(at)) < self.config.hidden_share
        # in some rows the last event alone, as it is asked for in serving, and one event in every row at least
        alone = rng.random(len(starts)) < self.config.last_share
        chosen[np.repeat(alone, lengths)] = False
        alone |= ~np.logical_or.reduceat(chosen, first)
        chosen[(first + lengths - 1)[alone]] = True
        places = place[torch.from_numpy(chosen).to(self.device)]
        targets = tokens.view(-1)[places] - 1
        tokens.view(-1)[places] = self.data.items + 1
        actions.flatten(0, 1)[places] = 0
        hidden = self._encode(tokens, actions, gaps, lengths, places)
        repeats = None
        if self.data.repeats:
            begin = self._first(at[chosen])
            end = self.data.offsets[np.searchsorted(self.data.offsets, begin, "right")]
            repeats = self._repeats(begin, end, at[chosen])
        return next_item_loss(self.config, hidden, self.model.items, targets, repeats, rng), len(targets)

    def _first(self, at: np.ndarray) -> np.ndarray:
        """Where the sequences of events begin."""
        return self.data.offsets[np.searchsorted(self.data.offsets, at, "right") - 1]

    def _repeats(self, begin: np.ndarray, end: np.ndarray, hidden: np.ndarray | None = None) -> Repeats:
        """The items of the events begin:end of each row, without hidden ones."""
        places, items = expand(begin, end - begin, self.data.tokens)
        if hidden is None:
            return Repeats(offsets_of(end - begin), items - 1, self.data.repeats)
        events = expand(begin, end - begin, np.arange(len(self.data.tokens)))[1]
        seen = np.ones(len(self.data.tokens), bool)
        seen[hidden] = False
        counts = np.bincount(places[seen[events]], minlength=len(begin))
        return Repeats(offsets_of(counts), items[seen[events]] - 1, self.data.repeats)

    def state(self) -> dict:
        return {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict(), "done": self.done}

    def load(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.done = state["done"]


class MembersTrainer:
    """All members, one after the other."""

    def __init__(self, config: SequentialConfig, seed: int, data: Sequences, device: torch.device = CPU):
        self.config, self.seed, self.data, self.device = config, seed, data, device
        self.members = [self._new(0)]

    @property
    def epochs(self) -> int:
        return self.config.epochs * self.config.members

    def _new(self, number: int) -> SequenceTrainer:
        return SequenceTrainer(self.config, (self.seed + 7919 * number) % 2**63, self.data, self.device)

    def epoch(self, rng: np.random.Generator) -> float:
        if self.members[-1].done == self.config.epochs:
            self.members.append(self._new(len(self.members)))
        return self.members[-1].epoch(rng)

    def state(self) -> dict:
        return {"finished": [m.model.state_dict() for m in self.members[:-1]], "current": self.members[-1].state()}

    def load(self, state: dict) -> None:
        self.members = [self._new(number) for number in range(len(state["finished"]) + 1)]
        for member, weights in zip(self.members, state["finished"], strict=False):
            member.model.load_state_dict(weights)
            member.done = self.config.epochs
        self.members[-1].load(state["current"])

    def export(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Embeddings of the items float32[V, D] and of a hidden one float32[D] (empty where the network needs none),
        and the bytes uint8[m] of the graph that encodes; D is that of all members together."""
        models = [m.model.cpu().eval() for m in self.members]
        items = torch.cat([m.items for m in models], dim=1).detach().numpy().copy()
        hidden = torch.cat([m.item.weight[-1] for m in models]).detach().numpy().copy()
        wide = 4
        example = (
            torch.zeros(2, wide, items.shape[1]), torch.zeros(2, wide, self.data.actions.shape[1]),
            torch.zeros(2, wide, dtype=torch.int64), torch.tensor([3, 4]),
        )
        axes = {name: {0: "rows", 1: "events"} for name in INPUTS[:3]}
        axes |= {"lengths": {0: "rows"}, "vectors": {0: "rows"}}
        file = io.BytesIO()
        with warnings.catch_warnings():
            # the exporter that needs no further package is marked as the old one
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", UserWarning)
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            torch.onnx.export(
                Served(models).eval(), example, file, dynamo=False, opset_version=17, do_constant_folding=True,
                input_names=list(INPUTS), output_names=["vectors"], dynamic_axes=axes,
            )
        graph = np.frombuffer(file.getvalue(), np.uint8).copy()
        return items, hidden if self.config.kind == "bert4rec" else hidden[:0], graph
