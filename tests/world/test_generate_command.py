"""`recsys generate-data` as a real process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import orjson
import pytest

from recsys_cli.data.dataset import read_manifest

SMALL = ["--users", "80", "--items", "400", "--days", "3", "--set", "world.impressions_per_user=30"]


def recsys(folder, *arguments, prefix=(), **kwargs):
    env = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    command = [*prefix, sys.executable, "-m", "recsys_cli", "generate-data", "--data-dir", "data", *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, timeout=120, **kwargs)


def test_json_summary_agrees_with_the_manifest(tmp_path):
    done = recsys(tmp_path, *SMALL, "--format", "json")
    assert done.returncode == 0, done.stderr
    summary, manifest = orjson.loads(done.stdout), read_manifest(tmp_path / "data")
    assert (summary["users"], summary["items"]) == (80, 400)
    assert summary["impressions"] == manifest.tables["impressions"].rows
    assert summary["digest"] == manifest.digest
    assert summary["actions"]["click"]["count"] == manifest.actions["click"].count
    assert b"Traceback" not in done.stderr


def test_table_prints_and_the_dataset_is_replaced_by_a_new_one(tmp_path):
    first = recsys(tmp_path, *SMALL)
    assert first.returncode == 0
    assert b"impressions" in first.stdout and b"click" in first.stdout
    assert max(len(line) for line in first.stdout.decode().splitlines()) <= 100
    before = read_manifest(tmp_path / "data").digest
    assert recsys(tmp_path, *SMALL, "--seed", "2", "--shards", "2", "-q").returncode == 0
    assert read_manifest(tmp_path / "data").digest != before
    assert len(list((tmp_path / "data" / "impressions").glob("part-*.parquet"))) == 2
    assert not (tmp_path / "data" / "impressions.parquet").exists()


@pytest.mark.parametrize(("arguments", "word"), [
    (["--users", "0"], b"users"), (["--days", "-3"], b"days"), (["--shards", "0"], b"shards"),
    (["--set", "world.logging.uniform=0.5"], b"sum to 1.35"), (["--set", "world.usres=5"], b"did you mean 'users'"),
    (["--set", "world.behaviour.weights.click.afinity=2"], b"afinity"), (["--set", "world.start=yesterday"], b"start"),
])
def test_impossible_settings_are_refused(tmp_path, arguments, word):
    done = recsys(tmp_path, *arguments)
    assert done.returncode == 3
    assert word in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "data").exists()


def test_a_foreign_folder_is_not_replaced_unless_forced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("mine")
    refused = recsys(tmp_path, *SMALL)
    assert refused.returncode == 2
    assert b"--force" in refused.stderr
    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"
    assert recsys(tmp_path, *SMALL, "--force", "-q").returncode == 0
    assert (tmp_path / "data" / "thesis.txt").read_text() == "mine"
    assert read_manifest(tmp_path / "data").name == "world"


def test_a_full_disk_leaves_the_old_dataset(tmp_path):
    assert recsys(tmp_path, *SMALL, "-q").returncode == 0
    before = read_manifest(tmp_path / "data").digest
    # no file may grow beyond 64 KiB: to the program that is a disk that fills up
    limited = recsys(tmp_path, "--seed", "5", prefix=("bash", "-c", 'ulimit -f 64; exec "$@"', "-"))
    assert limited.returncode == 1, limited.stderr
    assert b"cannot write" in limited.stderr
    assert b"Traceback" not in limited.stderr
    assert read_manifest(tmp_path / "data").digest == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_an_interrupt_leaves_the_old_dataset(tmp_path):
    assert recsys(tmp_path, *SMALL, "-q").returncode == 0
    before = read_manifest(tmp_path / "data").digest
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys_cli", "generate-data", "--data-dir", "data", "--users", "20000"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")] and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert b"Traceback" not in errors
    assert read_manifest(tmp_path / "data").digest == before
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]
