"""What a kind of heavy ranker is given to learn from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError
from recsys_cli.features.table import FeatureTable
from recsys_cli.parallel import Device
from recsys_cli.progress import Progress
from recsys_cli.ranking.warm_start import WarmStart


@dataclass(frozen=True)
class TrainingInputs:
    """Rows, tasks and circumstances of one training."""

    train: FeatureTable
    valid: FeatureTable
    """rows to stop by, with the columns of `train`; may be empty"""
    tasks: tuple[str, ...]
    """actions that get a head: each has rows with and without it in `train`"""
    seed: int
    """of everything random"""
    dropped: dict[str, str] = field(default_factory=dict)
    """action → why it gets no head"""
    progress: Progress = field(default_factory=Progress)
    resume: Path | None = None
    """file in which a long training may keep how far it is, and from which it goes on"""
    fingerprint: str = ""
    """of everything that the training depends on; progress with another one is not continued"""
    threads: int = 0
    """0 takes what the library takes"""
    warm: WarmStart | None = None
    """what an earlier run leaves to begin with"""
    device: Device = "auto"
    """where networks are trained"""

    def aside(self, name: str) -> TrainingInputs:
        """The same with a progress file of its own, beside this one."""
        return replace(self, resume=self.resume and self.resume.with_stem(f"{self.resume.stem}-{name}"))

    def keep(self, content: dict) -> None:
        """Write how far the training is, where a file for it is named."""
        if self.resume is not None:
            save_checkpoint(self.resume, content | {"fingerprint": self.fingerprint})

    def kept(self) -> dict | None:
        """What `keep` of the same training, interrupted, wrote last; None where there is none, and said why."""
        if self.resume is None or not Path(self.resume).exists():
            return None
        try:
            content = load_checkpoint(self.resume)
        except ArtifactError as error:
            self.progress.message(f"{error.message}; the heavy ranker is trained from the start")
            return None
        if content.get("fingerprint") != self.fingerprint:
            self.progress.message("settings or rows have changed: the heavy ranker is trained from the start")
            return None
        return content

    def part(self, name: str) -> TrainingInputs:
        """Inputs of a part of a ranker, which begins with the same part of the earlier run."""
        return replace(self.aside(name), warm=self.warm and self.warm.part(name))
