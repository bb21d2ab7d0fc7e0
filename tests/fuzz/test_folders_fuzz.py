"""Spoilt configurations, datasets and runs: each command does its work or refuses in a line, with its exit code."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from recsys_cli.cli.common import run
from recsys_cli.config import leaves
from recsys_cli.data.dataset import Dataset
from recsys_cli.settings import Settings

ODD = [
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 1e-300, float("inf"), float("nan"), 10**30, "", " ", "auto", "no",
    "x" * 300, "[/z]", "007", "é", [], {}, [1], {"a": 1}, {"kind": "als"}, {"kind": "nonsense"}, [[]], "2024-02-30",
]
BYTES = [b"", b"\x00" * 8, b"\xff", b"{}", b"[1]", b"null", b'{"a": ', b"PAR1", b"\x93NUMPY"]
SMALL = [
    "ranking.heavy.epochs=1", "ranking.heavy.min_steps=0", "retrieval.two_tower.enabled=false",
]


class Spoilt:
    """One way of spoiling, drawn with a seed."""

    def __init__(self, seed: int):
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def odd(self):
        return ODD[self.rng.integers(len(ODD))]

    def tree(self, tree: dict) -> dict:
        """A tree with one to three values changed, moved, misspelt or taken away."""
        tree = copy.deepcopy(tree)
        for _ in range(int(self.rng.integers(1, 4))):
            node, depth = tree, int(self.rng.integers(0, 5))
            while depth and isinstance(node, dict) and node:
                key = list(node)[self.rng.integers(len(node))]
                if not isinstance(node[key], dict) or not node[key]:
                    break
                node, depth = node[key], depth - 1
            if not isinstance(node, dict) or not node:
                continue
            key = list(node)[self.rng.integers(len(node))]
            how = self.rng.integers(4)
            if how == 0:
                node[f"{key}x"] = node.pop(key)
            elif how == 1:
                del node[key]
            else:
                node[key] = self.odd()
        return tree

    def file(self, path: Path) -> None:
        """A file cut, changed, emptied, taken away or made a folder."""
        content, how = bytearray(path.read_bytes()), self.rng.integers(6)
        if path.suffix == ".json" and self.rng.random() < 0.7:
            path.write_text(json.dumps(self.tree(json.loads(content)), default=str))
        elif how == 0:
            path.unlink()
        elif how == 1:
            path.write_bytes(bytes(content[: self.rng.integers(len(content) + 1)]))
        elif how == 2:
            path.write_bytes(BYTES[self.rng.integers(len(BYTES))])
        elif how == 3:
            path.unlink()
            path.mkdir()
        else:
            at = int(self.rng.integers(len(content) + 1))
            content[at : at + int(self.rng.integers(0, 9))] = BYTES[self.rng.integers(len(BYTES))]
            path.write_bytes(bytes(content))


def told(capsys, seed: int, allowed: tuple[int, ...], *arguments: str) -> int:
    """The exit code of a command, which must be one of those allowed and leave no traceback."""
    code = run(list(arguments))
    err = capsys.readouterr().err
    assert "Traceback" not in err and "unexpected failure" not in err, f"seed {seed}: {arguments}: {err}"
    assert code in allowed, f"seed {seed}: exit code {code} of {arguments}: {err}"
    if code:
        lines = err[err.rindex("recsys: ") :].strip().splitlines()
        assert len(lines) <= 2, f"seed {seed}: {lines}"
    return code


@pytest.fixture(scope="module")
def plain() -> dict:
    return Settings().model_dump(mode="json")


def try_configuration(seed: int, plain: dict, folder: Path, data: Path, capsys) -> int:
    """0 where a spoilt configuration was taken, else the exit code of its refusal."""
    spoilt = Spoilt(seed)
    path = folder / "c.yaml"
    if seed % 3:
        # few values of a whole file are odd, and the file says nothing of the rest
        section = list(plain)[spoilt.rng.integers(len(plain))]
        tree = spoilt.tree({section: plain[section]})
    else:
        tree = {}
        keys = list(leaves(plain))
        for key in spoilt.rng.choice(keys, 2):
            node, *rest = key.split(".")
            tree[node] = {".".join(rest): spoilt.odd()} if len(rest) == 1 else spoilt.odd() if not rest else {}
    path.write_text(yaml.safe_dump(tree, allow_unicode=True))
    if spoilt.rng.random() < 0.15:
        content = bytearray(path.read_bytes())
        at = int(spoilt.rng.integers(len(content) + 1))
        content[at:at] = BYTES[spoilt.rng.integers(len(BYTES))]
        path.write_bytes(bytes(content))
    code = told(capsys, seed, (0, 3), "config", "show", "-c", str(path), "-q", "--format", "json")
    if code == 0:
        at = ["-c", str(path), "--data-dir", str(data), "-q", "--threads", "1"]
        told(capsys, seed, (0, 2, 3, 4), "data", "split", "--to", str(folder / "split"), *at)
    return code


def try_dataset(seed: int, data: Path, folder: Path, capsys) -> int:
    spoilt = Spoilt(seed)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data, folder)
    files = sorted(p for p in folder.iterdir() if p.is_file())
    spoilt.file(files[spoilt.rng.integers(len(files))])
    at = ["--data-dir", str(folder), "-q"]
    code = told(capsys, seed, (0, 4), "data", "validate", *at)
    told(capsys, seed, (0, 4), "data", "diff", str(data), str(folder), "-q")
    told(capsys, seed, (0, 4), "data", "sample", "--users", "5", "--to", f"{folder}-sample", *at)
    told(capsys, seed, (0, 3, 4), "advise", *at)
    return code


def try_run(seed: int, artifacts: Path, data: Path, folder: Path, capsys) -> int:
    spoilt = Spoilt(seed)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(artifacts, folder, symlinks=True)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "logs" not in p.parts)
    spoilt.file(files[spoilt.rng.integers(len(files))])
    at = ["--artifacts-dir", str(folder), "--data-dir", str(data), "-q"]
    code = told(capsys, seed, (0, 5), "recommend", "--user", "1000", "-n", "3", *at)
    told(capsys, seed, (0, 5), "runs", "list", *at)
    told(capsys, seed, (0, 5), "runs", "show", "--verify", *at)
    return code


@pytest.fixture(scope="module")
def trained(tiny_dataset, tmp_path_factory) -> Path:
    """An artifacts folder with a small run of the tiny dataset."""
    folder = tmp_path_factory.mktemp("fuzz") / "artifacts"
    overrides = [word for value in SMALL for word in ("--set", value)]
    assert run(["train", "--data-dir", str(tiny_dataset), "--artifacts-dir", str(folder), "-q", *overrides]) == 0
    return folder


def test_spoilt_configurations_are_taken_or_refused(plain, tmp_path, tiny_dataset, capsys):
    codes = [try_configuration(seed, plain, tmp_path, tiny_dataset, capsys) for seed in range(24)]
    assert 0 in codes and 3 in codes


def test_spoilt_datasets_are_found_out(tmp_path, tiny_dataset, capsys):
    assert Dataset.open(tiny_dataset).table("impressions").height == 4800
    codes = [try_dataset(seed, tiny_dataset, tmp_path / "d", capsys) for seed in range(6)]
    assert codes.count(4) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("part", range(5))
def test_many_spoilt_configurations_are_taken_or_refused(plain, tmp_path, tiny_dataset, capsys, part):
    for seed in range(1000 + 80 * part, 1080 + 80 * part):
        try_configuration(seed, plain, tmp_path, tiny_dataset, capsys)


@pytest.mark.slow
def test_many_spoilt_datasets_are_found_out(tmp_path, tiny_dataset, capsys):
    for seed in range(2000, 2080):
        try_dataset(seed, tiny_dataset, tmp_path / "d", capsys)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_many_spoilt_runs_are_refused(tmp_path, tiny_dataset, trained, capsys, part):
    seeds = range(3000 + 40 * part, 3040 + 40 * part)
    codes = [try_run(seed, trained, tiny_dataset, tmp_path / "a", capsys) for seed in seeds]
    assert codes.count(5) > 10
