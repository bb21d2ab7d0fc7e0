"""Bad input ends the command with the right exit code and one or two helpful lines, and changes nothing."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import yaml

GOOD = "u,i,t,c\n" + "".join(f"{n % 7},x{n % 5},{1_600_000_000 + n},{n % 2}\n" for n in range(200))
MAPPING = {
    "name": "shop",
    "impressions": {
        "files": "log.csv",
        "columns": {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}},
        "actions": {"click": "c"},
    },
}


def surroundings(folder: Path) -> dict[str, str]:
    """The environment without settings of its own, and the trace beside `folder`."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    return plain | {"RECSYS_ARTIFACTS_DIR": str(folder.parent / "artifacts")}


def recsys(folder: Path, *arguments: object, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "recsys_cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=surroundings(folder), timeout=60, **options
    )


def bring(folder: Path, mapping: dict, **options) -> subprocess.CompletedProcess:
    path = folder / "mapping.yaml"
    path.write_text(yaml.safe_dump(mapping, sort_keys=False))
    return recsys(folder, "import-data", path, "--from", folder / "from", "--to", folder / "to", **options)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> Path:
    """A folder with a good source, its mapping and the dataset made from it."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "from").mkdir()
    (folder / "from" / "log.csv").write_text(GOOD)
    done = bring(folder, MAPPING)
    assert done.returncode == 0, done.stderr
    return folder


def _with(**changes) -> dict:
    return MAPPING | {"impressions": MAPPING["impressions"] | changes}


def _source(name: str, content: bytes | str, **changes):
    def spoil(folder: Path) -> dict:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return _with(files=name, **changes)

    return spoil


def _parquet(cut: int):
    def spoil(folder: Path) -> dict:
        pl.read_csv(GOOD.encode()).write_parquet(folder / "log.parquet")
        content = (folder / "log.parquet").read_bytes()
        (folder / "log.parquet").write_bytes(content[:cut] if cut else b"PAR1" + b"\0" * 400 + b"PAR1")
        return _with(files="log.parquet")

    return spoil


def _two_tables(users: str | None = None, items: str | None = None):
    def spoil(folder: Path) -> dict:
        out = dict(MAPPING)
        if users is not None:
            (folder / "users.csv").write_text(users)
            out["users"] = {"files": "users.csv", "columns": {"user_id": "id"}}
        if items is not None:
            (folder / "items.csv").write_text(items)
            out["items"] = {"files": "items.csv", "columns": {"item_id": "id"}}
        return out

    return spoil


CASES = {
    "misspelt key": (
        lambda f: MAPPING | {"max_reject_shere": 0.1},
        3,
        ["unknown key 'max_reject_shere'", "mapping.yaml line ", "did you mean 'max_reject_share'?"],
    ),
    "wrong type": (lambda f: MAPPING | {"max_reject_share": "few"}, 3, ["max_reject_share", "given: 'few'"]),
    "no unit": (
        lambda f: _with(columns=MAPPING["impressions"]["columns"] | {"timestamp": "t"}),
        3,
        ["does not say how timestamp (t) is written", "give `unit`"],
    ),
    "no form": (_source("log.dat", GOOD), 3, ["the form of log.dat does not show in its name"]),
    "missing file": (lambda f: _with(files="lag.csv"), 4, ["no file lag.csv in", "it holds log.csv"]),
    "missing column": (
        lambda f: _with(actions={"click": "cc"}),
        4,
        ["log.csv has no column 'cc' (for click)", "is it 'c'?"],
    ),
    "missing user column": (_source("log.csv", GOOD.replace("u,i", "usr,i")), 4, ["has no column 'u'"]),
    "ragged rows": (
        _source("log.csv", GOOD + "1,x1\n" * 9),
        4,
        ["9 of 209 rows of impressions refused", "2 fields where 4 are due", "log.csv line 202: '1,x1'"],
    ),
    "wrong unit": (
        _source("log.csv", GOOD.replace(",16000", ",16000000")),
        4,
        ["200 of 200 rows", "lies in the future: wrong unit? the mapping says s"],
    ),
    "unit too long": (
        lambda f: _with(
            columns=MAPPING["impressions"]["columns"] | {"timestamp": {"column": "t", "unit": "ms"}}
        ),
        4,
        ["lies before 1990-01-01: wrong unit? the mapping says ms"],
    ),
    "empty file": (_source("log.csv", ""), 4, ["log.csv is empty"]),
    "header only": (_source("log.csv", "u,i,t,c\n"), 4, ["no impression was left"]),
    "not UTF-8": (
        _source("log.csv", GOOD.encode() + b"1,caf\xe9,1600000000,1\n"),
        4,
        ["log.csv line 202: not utf-8 (byte 0xe9)", "latin-1"],
    ),
    "truncated Parquet": (_parquet(900), 4, ["log.parquet cannot be read", "damaged, truncated"]),
    "no Parquet": (_parquet(0), 4, ["log.parquet cannot be read"]),
    "truncated gzip": (
        _source("log.csv.gz", gzip.compress(GOOD.encode())[:-40]),
        4,
        ["log.csv.gz cannot be read"],
    ),
    "broken JSON": (
        _source("log.jsonl", '{"u":1,"i":"x","t":1600000000,"c":1}\n{"u":1,\n'),
        4,
        ["not a JSON object", "log.jsonl line 2"],
    ),
    "unknown users": (
        _two_tables(users="id\n0\n1\n2\n"),
        4,
        ["rows of impressions refused", "unknown user_id", "log.csv line 5: '3'"],
    ),
    "duplicate item ids": (
        _two_tables(items="id\nx0\nx1\nx1\nx2\nx3\nx4\n"),
        4,
        ["1 of 6 rows of items refused", "item_id stands more than once", "items.csv line 4: 'x1'"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_import_is_refused_and_changes_nothing(imported, tmp_path, case):
    spoil, code, words = CASES[case]
    shutil.copytree(imported, tmp_path / "shop")
    folder = tmp_path / "shop"
    before = snapshot(folder / "to")
    done = bring(folder, spoil(folder / "from"))
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr and 1 <= len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""
    assert snapshot(folder / "to") == before
    assert sorted(p.name for p in folder.iterdir()) == ["from", "mapping.yaml", "to"]


def test_a_full_disk_leaves_the_earlier_dataset(imported, tmp_path):
    folder = tmp_path / "shop"
    shutil.copytree(imported, folder)
    before = snapshot(folder / "to")
    done = bring(folder, MAPPING, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(folder / "to") == before
    assert sorted(p.name for p in folder.iterdir()) == ["from", "mapping.yaml", "to"]


def test_an_interrupted_import_leaves_the_earlier_dataset(imported, tmp_path):
    folder = tmp_path / "shop"
    shutil.copytree(imported, folder)
    before = snapshot(folder / "to")
    (folder / "from" / "log.csv").write_text(GOOD + GOOD.partition("\n")[2] * 5000)
    command = [
        sys.executable,
        "-m",
        "recsys_cli",
        "import-data",
        folder / "mapping.yaml",
        "--from",
        folder / "from",
        "--to",
        folder / "to",
    ]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([str(c) for c in command], env=surroundings(folder), **streams) as process:
        while process.poll() is None and not list(folder.glob(".to.*")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "interrupted" in errors
    assert snapshot(folder / "to") == before
    assert sorted(p.name for p in folder.iterdir()) == ["from", "mapping.yaml", "to"]


def test_one_user_and_one_item_are_a_dataset(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "log.csv").write_text("u,i,t,c\n1,x,1600000000,0\n")
    assert bring(tmp_path, MAPPING).returncode == 0
    done = recsys(tmp_path, "data", "validate", "--data-dir", tmp_path / "to")
    assert done.returncode == 0, done.stderr
    done = recsys(tmp_path, "data", "describe", "--data-dir", tmp_path / "to")
    assert done.returncode == 0, done.stderr
    assert "click" in done.stdout


def test_describing_what_is_no_dataset_names_the_remedy(tmp_path):
    done = recsys(tmp_path, "data", "describe", "--data-dir", tmp_path)
    assert done.returncode == 4
    assert "no dataset in" in done.stderr and "recsys import-data" in done.stderr
