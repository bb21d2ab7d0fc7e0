"""A wheel works away from the checkout: its configurations and documents travel with it."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = """
world: {users: 120, items: 800, days: 10}
retrieval: {two_tower: {enabled: false}, als: {enabled: false}, item_neighbours: {enabled: false}}
ranking:
  choose: merge
  heavy: {kind: shared_bottom, hidden: [16], epochs: 1}
  relevance: {enabled: false}
  baseline: {enabled: false}
tuning: {enabled: false}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that nothing is left behind in the checkout."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("recsys_cli", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr[-2000:]
    (found,) = (source / "dist").glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_configurations_documents_and_the_typed_marker(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "configs").rglob("*.yaml"):
        assert f"recsys_cli/{path.relative_to(ROOT)}" in held
    for pattern in ("*.md", "examples/*.py", "images/*"):
        for path in (ROOT / "recsys_cli" / "docs").glob(pattern):
            assert str(path.relative_to(ROOT)) in held
    assert "recsys_cli/py.typed" in held
    assert not [name for name in held if name.startswith(("tests/", "configs/", "data/", "artifacts/"))]


@pytest.mark.slow
def test_the_wheel_works_in_an_empty_folder(wheel, tmp_path):
    home, work = tmp_path / "venv", tmp_path / "work"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True, timeout=120)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=120)
    # what the wheel depends on is taken from here; a .pth file does not bring the checkout itself along
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def recsys(*arguments: str) -> str:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RECSYS_", "PYTHONPATH"))}
        done = subprocess.run(
            [home / "bin" / "recsys", *arguments], cwd=work, env=kept, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    where = [home / "bin" / "python", "-c", "import recsys_cli; print(recsys_cli.__file__)"]
    assert str(home) in subprocess.run(where, cwd=work, env={}, capture_output=True, text=True).stdout
    (work / "recsys.yaml").write_text(QUICK)
    recsys("generate-data", "--quiet")
    recsys("train", "--quiet")
    answer = json.loads(recsys("recommend", "--user", "1", "--format", "json"))
    assert len(answer["items"]) == 10
    assert "mapping.yaml" in recsys("docs", "own-data")
    assert "configuration is valid" in recsys("config", "validate", "--config", "configs/kuairand.yaml")
    test = recsys("ab-test", "configs/experiments/aa.yaml", "--days", "1", "--quiet", "--format", "json")
    assert json.loads(test)["experiment"] == "aa"
