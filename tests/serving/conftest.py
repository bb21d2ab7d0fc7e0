"""A small trained run, and a server of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from recent_data import recent
from server_process import CONFIG, Server, copy_of


@pytest.fixture(scope="session")
def served_folder(tiny_dataset, tmp_path_factory) -> Path:
    """Settings, data and a run trained on `tiny_dataset` as of last week; not to be served from: see `folder`."""
    from recsys_cli.config import resolve
    from recsys_cli.settings import Settings
    from recsys_cli.training import train

    folder = tmp_path_factory.mktemp("served")
    recent(tiny_dataset, folder / "data")
    (folder / "recsys.yaml").write_text(CONFIG)
    settings = resolve(Settings, file=folder / "recsys.yaml").config
    paths = {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}
    train(settings.model_copy(update={"paths": settings.paths.model_copy(update=paths)}))
    return folder


@pytest.fixture
def folder(served_folder, tmp_path) -> Path:
    """The same for one test alone."""
    return copy_of(served_folder, tmp_path / "place")


@pytest.fixture(scope="module")
def server(served_folder, tmp_path_factory):
    """A server for the tests of a module."""
    running = Server.start(copy_of(served_folder, tmp_path_factory.mktemp("server") / "place"))
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="session")
def engine(served_folder):
    """The engine of the run."""
    from recsys_cli.engine import RecommendationEngine

    return RecommendationEngine.load(served_folder / "artifacts")
