"""What killed, interrupted and refused commands leave behind, and what is said of broken runs and odd places."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cli import files
from recsys_cli.artifacts.checkpoint import save_checkpoint
from recsys_cli.artifacts.runs import RunStore
from recsys_cli.cli.common import run
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.intact import require_intact
from recsys_cli.errors import DataError
from recsys_cli.spreadsheets import without_formulas


def small_dataset(place: Path) -> Dataset:
    rows = pl.DataFrame({
        "user_id": [k % 5 for k in range(40)], "item_id": [k % 7 for k in range(40)],
        "timestamp": pl.Series(range(40)).cast(pl.Datetime("us", "UTC")), "click": [True] * 40,
    })
    return Dataset.from_frames(place, {"impressions": rows}, {"click": "positive"})


def test_altered_tables_are_refused_before_training_and_intact_ones_are_read_once(tmp_path, monkeypatch):
    dataset, notes = small_dataset(tmp_path / "data"), tmp_path / "notes.json"
    require_intact(dataset, notes)
    monkeypatch.setattr("recsys_cli.data.intact.digest_checks", lambda *_: pytest.fail("it was read again"))
    require_intact(dataset, notes)
    monkeypatch.undo()
    file = tmp_path / "data" / "impressions.parquet"
    frame = pl.read_parquet(file)
    frame.with_columns(click=pl.Series([False] + [True] * 39)).write_parquet(file)
    with pytest.raises(DataError, match=r"impressions: .*the rows were altered"):
        require_intact(Dataset.open(tmp_path / "data"), notes)
    code = run(["train", "--data-dir", str(tmp_path / "data"), "--artifacts-dir", str(tmp_path / "art"), "-q"])
    assert code == 4 and not RunStore(tmp_path / "art").ids()


def test_equal_checkpoints_are_equal_files(tmp_path):
    import torch

    for name in ("a.pt", "b.pt"):
        save_checkpoint(tmp_path / name, {"w": torch.arange(5), "n": 3})
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def broken_run(store: Path, name: str, manifest: str) -> None:
    folder = store / "runs" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(manifest)


@pytest.mark.parametrize("manifest", ["[]", "{", '{"run_version": 1}', '{"run_version": 99}', "\0"])
def test_a_broken_run_is_listed_and_can_be_deleted(tmp_path, capsys, manifest):
    broken_run(tmp_path, "bad", manifest)
    where = ["--artifacts-dir", str(tmp_path)]
    assert run(["runs", "list", *where]) == 0
    told = capsys.readouterr()
    assert "unreadable" in told.out and "recsys runs delete bad" in told.err
    assert run(["runs", "delete", "bad", *where]) == 0 and not (tmp_path / "runs" / "bad").exists()
    assert run(["runs", "delete", "bad", *where]) == 5


def test_what_a_dead_process_left_is_swept_and_what_a_living_one_writes_stays(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead, here = int(done.stdout), files._HERE
    rubbish = tmp_path / f".x.json.{here}-{dead}-00000000.tmp"
    folder = tmp_path / f".data.{here}-{dead}-00000001.tmp"
    living = tmp_path / f".x.json.{here}-{os.getppid()}-00000002.tmp"
    elsewhere = tmp_path / f".x.json.{'0000' if here != '0000' else '0001'}-{dead}-00000003.tmp"
    for file in (rubbish, living, elsewhere):
        file.write_text("half")
    folder.mkdir()
    (folder / "part").write_text("half")
    files.write_bytes(tmp_path / "x.json", b"{}")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([living.name, elsewhere.name, "x.json"])


PROGRAM = "import sys; sys.argv[0] = 'recsys'; from recsys_cli.cli import main; main()"


def test_sigterm_tidies_up_and_exits_with_143(tmp_path):
    command = [sys.executable, "-c", PROGRAM, "generate-data", "--data-dir", str(tmp_path / "data"),
               "--set", "world.users=3000", "--set", "world.items=20000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 143 and "terminated" in told and "Traceback" not in told
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_stdout_and_odd_terminals_are_told_in_one_line():
    environment = os.environ | {"COLUMNS": "abc", "PYTHONIOENCODING": "ascii"}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", PROGRAM, "config", "show", "--format", "json"], stdout=full,
                              stderr=subprocess.PIPE, text=True, env=environment)
    assert done.returncode == 1 and "No space left" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, "-c", PROGRAM, "presets"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout


def test_texts_that_a_spreadsheet_would_run_are_marked_unless_raw():
    frame = pl.DataFrame({"id": ["=1+1", "@x", "-5", "+1e3", "-a", "b", None, "\tz"], "n": np.arange(8)})
    assert without_formulas(frame)["id"].to_list() == ["'=1+1", "'@x", "-5", "+1e3", "'-a", "b", None, "'\tz"]
    assert without_formulas(frame)["n"].to_list() == list(range(8))
