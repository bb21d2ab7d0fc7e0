"""Runs and datasets of which a file is gone, cut, changed, emptied or a folder: refused with their code in one line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from commands import copy_project, some

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.data.intact import open_intact
from recsys_cli.errors import ArtifactError, DataError

pytestmark = pytest.mark.slow


def gone(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (gone, cut, flip, empty, folder)
READ_A_RUN = (
    "recommend --user 1 -q", "recommend --all -n 2 --output all.csv -q", "evaluate -q", "similar-items 5 -q",
    "similar-users 1 -q", "recommend-users --user 1 -q", "explain --user 1 --item 5 -q", "features list -q",
    "features show --user 1 --item 5 -q", "compare {run} {other} -q", "check -q",
    "tune utility --target dwell --resamples 20 -q", "ab-test run test.yaml -q", "interleave test.yaml -q",
    "simulate scenario.yaml -q", "runs use {run} -q", "runs show --verify -q",
    "monitor report --events events --predictions 50 -q", "serve --port 0 -q", "train --warm-start current -q",
    "retrain --force -q", "evaluate --ablate stages -q", "evaluate --users 5 -q",
)
READ_A_DATASET = (
    "data validate -q", "data describe -q", "data diff data data -q", "data sample --users 5 --to s -q", "advise -q",
    "data split --to s -q", "train -q", "train --final -q", "evaluate -q", "evaluate --rolling -q",
    "compare {run} {other} -q", "explain --user 1 --item 5 --at 2026-01-05 -q", "tune sources -q", "check -q",
    "features show --user 1 --item 5 --at 2026-01-05 -q", "tune utility --target dwell --resamples 20 -q",
    "ab-test plan test.yaml -q", "ab-test run test.yaml -q", "simulate scenario.yaml -q", "interleave test.yaml -q",
    "train-safety --task spam --accounts -q", "evaluate --slates slates.csv -q", "monitor report --events events -q",
    "import-data --events events --to later -q", "import-data more.yaml --to data --append -q",
)


@pytest.fixture(scope="module")
def place(project, tmp_path_factory) -> Path:
    return copy_project(project, tmp_path_factory.mktemp("damaged") / "project")


def restoring(path: Path, damage) -> None:
    """Damage a file and give back what puts it right."""
    content = path.read_bytes()
    damage(path)

    def restore() -> None:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(content)

    return restore


def told(got: dict, code: int, line: str) -> str:
    lines = got["err"].strip().splitlines()
    assert got["code"] == code, f"{line}: {got['code']} {got['err']}"
    assert 1 <= len(lines) <= 2 and lines[0].startswith("recsys: "), f"{line}: {got['err']}"
    assert got["cpu"] < 2, f"{line}: {got['cpu']:.1f} s"
    return lines[0]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_no_file_of_a_run_may_be_damaged(place, damage):
    store = RunStore(place / "artifacts")
    run = store.open()
    assert len(run.manifest.files) > 20
    for name in [*run.manifest.files, "manifest.json"]:
        restore = restoring(run.folder / name, damage)
        with pytest.raises(ArtifactError) as caught:
            store.open().verify(everything=True)
        if name.startswith(("bundle/", "measured/")):
            with pytest.raises(ArtifactError):
                store.open()
        assert "\n" not in caught.value.message and run.id in caught.value.message
        restore()
    store.open().verify(everything=True)


@pytest.mark.parametrize("line", some(READ_A_RUN))
def test_every_command_refuses_a_damaged_run(forked, place, line):
    store = RunStore(place / "artifacts")
    run = store.open()
    line = line.format(run=run.id, other=store.ids()[0])
    for name in ("bundle/state.bin", "measured/catalogue.bin"):
        restore = restoring(run.folder / name, flip)
        try:
            assert run.id in told(forked(line, place), 5, line)
        finally:
            restore()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_not_gone_on_from(forked, place, damage):
    run = RunStore(place / "artifacts").open()
    restore = restoring(run.checkpoints / "heavy.pt", damage)
    try:
        assert "heavy.pt" in told(forked("train --warm-start current -q", place), 5, damage.__name__)
    finally:
        restore()


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_no_table_of_a_dataset_may_be_damaged(place, damage):
    whole = open_intact(place / "data", None)
    before = {name: whole.table(name) for name in whole.manifest.tables}
    for name in before:
        restore = restoring(place / "data" / f"{name}.parquet", damage)
        try:
            assert open_intact(place / "data", None).table(name).equals(before[name])  # a bit that holds nothing
        except DataError as error:
            assert "\n" not in error.message and str(place / "data") in error.message
        restore()


@pytest.mark.parametrize("line", some(READ_A_DATASET))
def test_every_command_refuses_rows_that_were_altered(forked, place, line):
    runs = RunStore(place / "artifacts")
    (place / "slates.csv").write_text("user_id,item_id,rank\n1,5,1\n1,6,2\n")
    line = line.format(run=runs.current(), other=runs.ids()[0])
    before = sorted(p.name for p in place.iterdir())
    path = place / "data" / "impressions.parquet"
    frame = pl.read_parquet(path)
    restore = restoring(path, lambda p: frame.with_columns(click=~pl.col("click")).write_parquet(p))
    try:
        got = forked(line, place)
        if line.startswith("data validate"):
            assert got["code"] == 4 and "altered" in got["out"]
        else:
            assert "altered" in told(got, 4, line)
    finally:
        restore()
    assert sorted(p.name for p in place.iterdir()) == before


def test_a_retraining_keeps_the_run_in_use_where_rows_were_altered(forked, place):
    path, before = place / "data" / "impressions.parquet", RunStore(place / "artifacts").current()
    restore = restoring(path, lambda p: pl.read_parquet(p).with_columns(click=~pl.col("click")).write_parquet(p))
    got = forked("retrain --force -q", place)
    restore()
    assert got["code"] == 1 and "digest" in got["err"] and RunStore(place / "artifacts").current() == before


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_manifest_of_a_dataset_is_refused(forked, place, damage):
    restore = restoring(place / "data" / "dataset.json", damage)
    try:
        for line in ("train -q", "data validate -q", "evaluate -q"):
            told(forked(line, place), 4, line)
    finally:
        restore()
