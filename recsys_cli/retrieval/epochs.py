"""Training by epochs in torch that a killed run can take up again; imported by trainers only."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from recsys_cli.files import atomic_file
from recsys_cli.progress import Progress


class Trainer(Protocol):
    """A model that learns an epoch at a time."""

    def epoch(self, rng: np.random.Generator) -> float:
        """One pass; returns the mean loss."""

    def state(self) -> dict:
        """All that the next epoch depends on, as tensors and plain values."""

    def load(self, state: dict) -> None:
        """Take up what `state` gave."""


def run_epochs(
    trainer: Trainer, name: str, epochs: int, seed: int, progress: Progress, resume: Path | None, key: str
) -> None:
    """Train to the end, going on from the file `resume` where it holds progress of the same `key`.

    Every epoch has its own stream of random numbers, so that it can be repeated alone.
    """
    done = 0
    if resume is not None and resume.is_file():
        try:
            kept = torch.load(resume, weights_only=True, map_location="cpu")
        except Exception:
            # a file that is no progress of ours only costs the time to start afresh
            kept = None
        if isinstance(kept, dict) and kept.get("key") == key:
            trainer.load(kept["state"])
            done = kept["epoch"]
    with progress.step(name, epochs) as step:
        step.advance(done)
        for epoch in range(done, epochs):
            loss = trainer.epoch(np.random.default_rng([seed & (2**63 - 1), epoch]))
            step.advance()
            step.describe(f"loss {loss:.3f}")
            if resume is not None:
                with atomic_file(resume) as temporary:
                    torch.save({"key": key, "epoch": epoch + 1, "state": trainer.state()}, temporary)


def digest(*arrays: np.ndarray) -> int:
    """A number that names arrays of whole numbers of equal length: progress on others is not taken up."""
    total = np.uint64(0)
    for place, array in enumerate(arrays):
        salt = np.uint64(0x9E3779B97F4A7C15 * (2 * place + 1) % 2**64)
        mixed = (np.asarray(array).astype(np.uint64) + np.arange(len(array), dtype=np.uint64)) * salt
        total ^= np.bitwise_xor.reduce(mixed) if len(mixed) else salt
    return int(total >> np.uint64(1))
