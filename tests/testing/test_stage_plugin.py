"""An installed package adds a stage, which a YAML file names: the example of the page on stages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "recsys_cli" / "docs" / "add-a-stage.md").read_text()
EXAMPLE, CHECK = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
ADDED, SEQUENCE = re.findall(r"```yaml\npipeline:\n(.*?)```", PAGE, re.DOTALL)
ENTRY = re.search(r'entry-points\."(.*?)"\]\n(\w+) = "(.*?)"', PAGE)
SLATES = """
from recsys_cli.engine import RecommendationEngine
from recsys_cli.settings import Settings
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle
from recsys_cli.config import read_yaml
sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
config = Settings.model_validate({"pipeline": read_yaml("shop.yaml")["pipeline"] | {"sourcing": sourcing}}).pipeline
engine = RecommendationEngine(planted_bundle(), config)
print([r["stage"] for r in engine.recommend(1).funnel])
print([r["stage"] for r in engine.recommend(1, without=["boost"]).funnel])
"""


@pytest.fixture
def run(tmp_path):
    """Lays the package as pip would into a folder, and runs Python with that folder on the path."""
    package, told = tmp_path / "site" / "shop_models", tmp_path / "site" / "shop_models-1.0.dist-info"
    package.mkdir(parents=True)
    told.mkdir()
    (package / "__init__.py").write_text("")
    (package / "boost_new.py").write_text(EXAMPLE)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-models\nVersion: 1.0\n")
    group, name, value = ENTRY.groups()
    (told / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    (tmp_path / "shop.yaml").write_text(f"pipeline:\n{ADDED}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}

    def python(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    python.folder = tmp_path
    return python


def test_the_example_is_short_and_keeps_the_contract(run):
    assert len(EXAMPLE.splitlines()) < 40
    (run.folder / "test_it.py").write_text(CHECK)
    done = run("-c", "from test_it import *; test_boost_new_is_a_stage()")
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_yaml_file_adds_the_stage_of_an_installed_package_and_orders_it(run):
    done = run("-c", SLATES)
    assert done.returncode == 0, done.stderr[-2000:]
    with_it, without = done.stdout.splitlines()
    assert "'utility', 'boost', 'diversity', 'safety', 'select'" in with_it and "boost" not in without
    (run.folder / "shop.yaml").write_text(f"pipeline:\n{ADDED}{SEQUENCE}")
    ordered = run("-c", SLATES)
    assert ordered.returncode == 0, ordered.stderr[-2000:]
    assert "'not_seen', 'fresh', 'fallback'" in ordered.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("yaml", "told"),
    [
        ("kind: boost_new, factr: 2", "unknown key 'pipeline.stages.boost.factr'"),
        ("kind: boost_new, factor: -2", "pipeline.stages.boost.factor"),
        ("kind: boost_nw", "no kind of stage 'boost_nw'; did you mean 'boost_new'?"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_their_key(run, yaml, told):
    (run.folder / "bad.yaml").write_text(f"pipeline:\n  stages:\n    boost: {{{yaml}}}\n")
    done = run("-m", "recsys_cli", "config", "show", "--config", "bad.yaml")
    assert done.returncode == 3 and told in done.stderr and "bad.yaml line" in done.stderr, done.stderr
