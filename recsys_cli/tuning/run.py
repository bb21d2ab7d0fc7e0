"""A study from the file of its search space to the winner's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys_cli.cluster import Cluster, Here, Tasks
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import require_intact
from recsys_cli.errors import DataError
from recsys_cli.safety.models import FOLDER as SAFETY
from recsys_cli.tuning.development import make_development
from recsys_cli.tuning.result import study_document, write_result
from recsys_cli.tuning.space import Space
from recsys_cli.tuning.study import DEFAULT, Study, alone, cores, keep_space, open_study, require_optuna
from recsys_cli.tuning.tables import study_page

if TYPE_CHECKING:
    from recsys_cli.progress import Progress
    from recsys_cli.settings import Settings

STUDIES = "studies"
"""Folder of studies within the artifacts."""
FEWEST = 20
"""People on either side without whom a figure says nothing."""


def tune_space(
    file: Path,
    settings: Settings,
    *,
    trials: int | None = None,
    hours: float | None = None,
    resume: bool = False,
    jobs: int | None = None,
    tasks: Tasks | None = None,
    progress: Progress,
) -> tuple[dict[str, Any], dict[str, Path]]:
    """Run the study of a file below `artifacts/studies/NAME`; returns its document and the paths of what was written.

    trials, hours: instead of what the file says. resume: go on with a study that is there. jobs: trials at once, each
    in a process of its own (None: one, or as many as a cluster has cores). tasks: where trials are run, here where
    None. Raises UsageError where Optuna is not installed, ConfigError where the space is refused, ArtifactError where
    the study of that name is of another space, and DataError where too few people turn to anything in the validation
    window.
    """
    require_optuna()
    space = Space.read(file, settings)
    dataset = Dataset.open(settings.paths.data)
    artifacts = Path(settings.paths.artifacts)
    require_intact(dataset, artifacts / "intact.json", progress)
    config = space.config
    seed = settings.seed if config.seed is None else config.seed
    folder = artifacts / STUDIES / config.name
    shares = config.pruning.shares if config.pruning else ()
    tasks = tasks or Here()
    jobs = jobs or (tasks.cores if isinstance(tasks, Cluster) else 1)
    with alone(folder):
        digest = space.digest(dataset.manifest.digest, seed)
        kept = open_study(folder, space, digest, resume=resume, progress=progress)
        with progress.step("rows before the test window"):
            development = make_development(settings, dataset, folder / "data", shares)
        threads = settings.threads or (1 if isinstance(tasks, Cluster) else max(1, cores() // jobs))
        study = Study(folder, space, development, seed, jobs, threads, progress, tasks)
        _link_safety(artifacts, folder / "work")
        keep_space(folder, file)
        study.run(kept, trials or config.trials, hours if hours is not None else config.hours)
        document = study_document(study, kept)
        if min(document["people"].values()) < FEWEST:
            raise DataError(
                f"{study.outcome(DEFAULT).users.size} people turn to something new in the validation window, "
                f"and {FEWEST} are needed on either side",
                "make `windows.validation_share` larger",
            )
        return document, write_result(study, document, study_page(document))


def _link_safety(artifacts: Path, work: Path) -> None:
    """Let trainings below `work` find the safety models of the artifacts."""
    models = (artifacts / SAFETY).resolve()
    work.mkdir(parents=True, exist_ok=True)
    if models.is_dir() and not (work / SAFETY).exists():
        (work / SAFETY).symlink_to(models)
