"""An installed package adds kinds of rankers and sources, which a YAML file names: the examples of the documents."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "recsys_cli" / "docs" / "add-a-ranker.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SOURCE = '''
"""The newest items first."""
from typing import Literal

import numpy as np

from recsys_cli.retrieval.base import Retriever
from recsys_cli.retrieval.config import RetrieverConfig
from recsys_cli.retrieval.eligibility import eligible
from recsys_cli.retrieval.topk import topk

class NewestConfig(RetrieverConfig):
    """The newest items first."""
    kind: Literal["newest"] = "newest"

class Newest(Retriever):
    config_type = NewestConfig

    def retrieve(self, state, users, k):
        age = np.where(eligible(state, self.config.max_age_days), state.catalogue.item_created - state.now, -np.inf)
        scores = np.tile((age / 86_400_000_000).astype(np.float32), (len(users), 1))
        return topk(scores, k, state.seen.take(users) if self.config.exclude_seen else None)
'''
ENTRIES = """[recsys.rankers]
linear = shop_models.linear:KIND
residual = shop_models.residual:KIND

[recsys.retrievers]
newest = shop_models.newest:Newest
"""
YAML = """ranking:
  choose: heavy
  heavy: {kind: linear, l2: 5}
retrieval:
  newest: {kind: newest, max_age_days: 3}
pipeline:
  sourcing:
    shares: {newest: 0.2}
"""


@pytest.fixture
def install(tmp_path):
    """Lays a package as pip would into a folder, and gives what runs a command with that folder on the path."""

    def put(entries: str = ENTRIES):
        package, told = tmp_path / "site" / "shop_models", tmp_path / "site" / "shop_models-1.0.dist-info"
        package.mkdir(parents=True)
        told.mkdir()
        for name, text in (("__init__", ""), ("linear", EXAMPLES[0]), ("residual", EXAMPLES[1]), ("newest", SOURCE)):
            (package / f"{name}.py").write_text(text)
        (told / "METADATA").write_text("Metadata-Version: 2.1\nName: shop-models\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text(entries)
        (tmp_path / "shop.yaml").write_text(YAML)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}

        def run(*arguments: str) -> subprocess.CompletedProcess:
            return subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
            )

        return run

    return put


def test_a_yaml_file_names_the_kinds_of_an_installed_package(install):
    run = install()
    done = run("-m", "recsys_cli", "config", "show", "--config", "shop.yaml", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert '"linear"' in done.stdout and '"newest"' in done.stdout
    (Path(run("-c", "import os; print(os.getcwd())").stdout.strip()) / "bad.yaml").write_text(YAML.replace("l2", "l3"))
    done = run("-m", "recsys_cli", "config", "show", "--config", "bad.yaml")
    assert done.returncode == 3 and "bad.yaml line 3: unknown key 'ranking.heavy.l3'" in done.stderr
    assert "known keys here: calibration" in done.stderr


@pytest.mark.parametrize(
    "check",
    [
        'check_ranker(RANKERS["linear"])',
        'check_ranker(RANKERS["residual"], RANKERS["residual"].config(min_steps=40, learning_rate=0.01))',
        'check_retriever(SOURCES["newest"])',
    ],
    ids=["linear", "residual", "newest"],
)
def test_the_kinds_of_the_package_keep_the_contracts(install, check):
    done = install()(
        "-c", "from recsys_cli.testing import check_ranker, check_retriever;"
        f"from recsys_cli.retrieval.registry import SOURCES; from recsys_cli.ranking.registry import RANKERS; {check}",
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ("[recsys.rankers]\nlinear = shop_models.nowhere:KIND\n", "cannot be imported: ModuleNotFoundError"),
        ("[recsys.rankers]\nmmoe = shop_models.linear:KIND\n", "there is a kind 'mmoe' already"),
        ("[recsys.rankers]\nother = shop_models.linear:KIND\n", "its settings are of kind 'linear'"),
        ("[recsys.retrievers]\nlinear = shop_models.linear:KIND\n", "is nothing that can be registered there"),
    ],
)
def test_a_package_that_does_not_fit_is_refused_by_name(install, entries, told):
    done = install(entries)("-m", "recsys_cli", "config", "show")
    assert done.returncode == 3 and done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2 and "package shop-models (recsys." in lines[0] and told in lines[0]
    assert "update or uninstall it" in lines[1]


@pytest.mark.slow
def test_a_run_is_trained_and_served_with_the_kinds_of_the_package(install):
    run = install()
    small = ["--config", "shop.yaml", "--set", "world.users=120", "--set", "world.items=800", "--set", "world.days=8",
             "--set", "tuning.budget_seconds=1"]
    for command in (["generate-data"], ["train", "--quiet"]):
        done = run("-m", "recsys_cli", *command, *small)
        assert done.returncode == 0, done.stderr[-2000:]
    done = run("-m", "recsys_cli", "recommend", "--user", "1", "--format", "json", *small)
    assert done.returncode == 0 and '"newest"' in done.stdout, done.stderr
