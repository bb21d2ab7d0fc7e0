"""Run folders and `artifacts/current`.

artifacts/
  current               the id of the run in use, replaced in one step
  runs/<id>/            never changes once published
    manifest.json       settings, seed, dataset digest, versions, durations, metrics, files
    checkpoints/*.pt    models as they were trained, up to the test window
    served/*.pt         sources fitted again on everything
    history/*.pt        sources as the rankers were trained with, up to the ranker's window
    bundle/             models as they are served
    measured/           models as they are measured, which know nothing of the test window
  intact.json           the files of datasets whose digests were compared, and when they were changed
  logs/  reports/  work/
"""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import ArtifactError, did_you_mean
from recsys_cli.files import file_digest, inside, is_name, publish_folder, remove_folder, write_bytes

RUN_VERSION = 1
VERIFY_BYTES = 64 * 2**20
"""Bundle files are digested when a run is opened as long as they are smaller than this together; of larger
ones only the sizes are compared (`recsys runs show --verify` digests everything)."""


class DatasetReference(BaseModel):
    """The dataset a run was trained on."""

    model_config = ConfigDict(extra="forbid")
    path: str
    name: str
    digest: str
    events: int = 0
    """Offset up to which events of a server's log are among its rows; 0 for none."""


class FileEntry(BaseModel):
    """One file of a run as it was published."""

    model_config = ConfigDict(extra="forbid")
    bytes: int
    digest: str


class RunManifest(BaseModel):
    """`manifest.json` of a run."""

    model_config = ConfigDict(extra="forbid")
    run_version: int = RUN_VERSION
    id: str
    created_at: str
    settings: dict[str, Any]
    """The whole resolved configuration."""
    seed: int
    final: bool
    """Whether nothing was held out, so that the run cannot be measured."""
    refitted: bool = False
    """Whether what is served was fitted again on everything, beside what is measured."""
    dataset: DatasetReference
    windows: Windows
    warm_start: str | None = None
    """Id of the run with whose rankers these began."""
    models_end: int
    """Moment (µs) up to which the served sources were fitted."""
    packages: dict[str, str]
    durations: dict[str, float]
    """Step → seconds."""
    metrics: dict[str, dict[str, Any]]
    notes: list[str] = Field(default_factory=list)
    """What stepped aside and why."""
    files: dict[str, FileEntry]


@dataclass(frozen=True)
class Run:
    """A published run that was opened."""

    folder: Path
    manifest: RunManifest

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @property
    def measured(self) -> Path:
        """The bundle that knows nothing of the test window; the served one where that was not refitted."""
        return self.folder / "measured" if self.manifest.refitted else self.bundle

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def verify(self, *, everything: bool = False) -> None:
        """Raises ArtifactError naming the first file that is missing or altered."""
        served = ("bundle/", "measured/")
        entries = {n: entry for n, entry in self.manifest.files.items() if everything or n.startswith(served)}
        digesting = everything or sum(e.bytes for e in entries.values()) <= VERIFY_BYTES
        for name, entry in entries.items():
            self._check(name, entry, digesting)

    def intact(self, name: str) -> Path:
        """The path of a file of the run, whatever its size digested; raises ArtifactError where it is missing or
        altered."""
        entry = self.manifest.files.get(name)
        return self._check(name, entry or FileEntry(bytes=-1, digest=""), digesting=True)

    def _check(self, name: str, entry: FileEntry, digesting: bool) -> Path:
        hint = "use another run (`recsys runs list`, `recsys runs use ID`) or train again"
        path = inside(self.folder, name)
        if path is None:
            raise ArtifactError(f"run {self.id}: its manifest names a file elsewhere, {name[:80]!r}", hint)
        try:
            size = path.stat().st_size
            altered = not path.is_file() or size != entry.bytes or (digesting and file_digest(path) != entry.digest)
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
            raise ArtifactError(f"run {self.id}: {name} {reason}", hint) from None
        if altered:
            raise ArtifactError(f"run {self.id}: {name} was altered after training", hint)
        return path


class RunStore:
    """The runs below an artifacts folder."""

    def __init__(self, artifacts: str | os.PathLike[str]):
        self.folder = Path(artifacts)

    def current(self) -> str | None:
        """Id of the run in use, None before the first training."""
        try:
            return (self.folder / "current").read_text(errors="replace").strip() or None
        except OSError:
            return None

    def ids(self) -> list[str]:
        """All published runs, oldest first."""
        runs = self.folder / "runs"
        there = runs.iterdir() if runs.is_dir() else ()
        return sorted(
            p.name for p in there if is_name(p.name) and inside(runs, p.name) and (p / "manifest.json").exists()
        )

    def open(self, run: str | None = None, *, verify: bool = True) -> Run:
        """Open a run (the current one by default); raises ArtifactError where it is unusable."""
        if run is None:
            run = self.current()
            if run is None:
                raise ArtifactError(
                    f"no trained run in {self.folder}",
                    "train one with `recsys train`, or name its folder with --artifacts-dir",
                )
        folder = inside(self.folder / "runs", run) if is_name(run) else None
        path = self.folder / "runs" / "manifest.json" if folder is None else folder / "manifest.json"
        try:
            if folder is None:
                raise FileNotFoundError
            content = orjson.loads(path.read_bytes())
            if not isinstance(content, dict):
                raise ArtifactError(f"{path} is no manifest of a run", "use another run or train again")
        except FileNotFoundError:
            hint = did_you_mean(run, self.ids(), "see `recsys runs list`")
            raise ArtifactError(f"no run {run[:80]!r} in {self.folder}", hint) from None
        except (OSError, orjson.JSONDecodeError) as error:
            raise ArtifactError(f"{path} cannot be read: {error}", "use another run or train again") from None
        if content.get("run_version") != RUN_VERSION:
            raise ArtifactError(
                f"run {run} is of version {content.get('run_version')}, this program reads {RUN_VERSION}", "train again"
            )
        try:
            opened = Run(folder, RunManifest.model_validate(content))
        except ValidationError as error:
            raise ArtifactError(f"{path}: {str(error).splitlines()[0]}", "use another run or train again") from None
        if opened.id != run:
            raise ArtifactError(
                f"{path} is of run {opened.id[:80]!r}, not of {run}", "a run keeps the name it was published with"
            )
        if verify:
            opened.verify()
        return opened

    def publish(self, work: Path, manifest: dict[str, Any], *, use: bool = True) -> Run:
        """Move a finished work folder among the runs and, with `use`, make it the current one.

        manifest: everything of RunManifest but id, created_at and files.
        """
        created = dt.datetime.now(dt.UTC)
        files = {
            path.relative_to(work).as_posix(): FileEntry(bytes=path.stat().st_size, digest=file_digest(path))
            for path in sorted(work.rglob("*"))
            if path.is_file()
        }
        complete = RunManifest(id="", created_at=created.isoformat(timespec="seconds"), files=files, **manifest)

        def prepare(run_id: str) -> None:
            complete.id = run_id
            text = orjson.dumps(complete.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
            write_bytes(work / "manifest.json", text)

        label = created.strftime("%Y%m%d-%H%M%S")
        target = publish_folder(work, self.folder / "runs", label, prepare)
        if use:
            self.use(target.name)
        return Run(target, complete)

    def use(self, run: str) -> None:
        """Make a run the current one, in one step."""
        opened = self.open(run)
        write_bytes(self.folder / "current", f"{opened.id}\n".encode())

    def delete(self, run: str) -> None:
        """Remove a run, be it readable or not; the current one is refused."""
        if run not in self.ids():
            self.open(run, verify=False)  # tells why it is none
        if run == self.current():
            raise ArtifactError(f"run {run} is the one in use", "switch with `recsys runs use ID` first")
        remove_folder(self.folder / "runs" / run)
