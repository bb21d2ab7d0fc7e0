"""Bad input and bad moments: the right exit code, a helpful line, and nothing earlier lost."""

import json
import signal
import subprocess
import time

import polars as pl
import pytest


def snapshot(folder):
    """Every file below a folder but logs, with its content."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and "logs" not in p.relative_to(folder).parts
    }


def current(place):
    return (place.folder / "artifacts" / "current").read_text().strip()


def test_nothing_trained_nothing_generated(world, tmp_path):
    assert "recsys train" in world.refused(5, "recommend", "--user", "1")
    assert "generate-data" in world.refused(4, "train", "--data-dir", str(tmp_path / "nowhere"))


def test_usage_errors(trained):
    trained.refused(2, "recommend")
    trained.refused(2, "recommend", "--user", "1", "--all")
    trained.refused(2, "recommend", "--user", "1", "--format", "xml")
    assert trained.recsys("recommend", "--user", "1", "-n", "0").returncode == 2
    assert "no file" in trained.refused(4, "recommend", "--users-file", "nowhere.txt")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("ranking.heavy.epoch=3", "'epochs'"),
        ("ranking.heavy.epochs=many", "integer"),
        ("retrieval.als.kind=alss", "'als'"),
        ("windows.test_share=1.5", "less than 1"),
    ],
)
def test_refused_settings_change_nothing(trained, override, words):
    before = snapshot(trained.folder / "artifacts")
    assert words in trained.refused(3, "train", "--set", override)
    assert snapshot(trained.folder / "artifacts") == before


def test_a_truncated_table_is_refused_and_the_run_in_use_stays(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    path = place.folder / "data" / "world" / "impressions.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    before = current(place)
    assert "cannot be read" in place.refused(4, "train", "--quiet")
    assert current(place) == before
    place.ok("recommend", "--user", "1")


def test_a_missing_table_is_refused(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    (place.folder / "data" / "world" / "items.parquet").unlink()
    assert "items.parquet is missing" in place.refused(4, "train", "--quiet")


@pytest.mark.parametrize("harm", ["missing", "altered", "garbage manifest"])
def test_a_harmed_run_is_refused_and_an_earlier_one_still_works(trained, tmp_path, harm):
    place = trained.copy(tmp_path / "place")
    run = place.folder / "artifacts" / "runs" / current(place)
    target = run / "manifest.json" if harm == "garbage manifest" else run / "bundle" / "ranking" / "heavy.dense.bin"
    if harm == "missing":
        target.unlink()
    else:
        target.write_bytes(b"x" * target.stat().st_size)
    words = "manifest.json" if harm == "garbage manifest" else "heavy.dense.bin"
    assert words in place.refused(5, "recommend", "--user", "1")
    assert words in place.refused(5, "evaluate")


def test_unusable_datasets_are_refused_with_a_reason(tmp_path, world):
    from recsys_cli.data.writer import write_dataset

    start = 1_700_000_000_000_000
    empty = pl.DataFrame(
        schema={"user_id": pl.Int64, "item_id": pl.Int64, "timestamp": pl.Datetime("us", "UTC"), "click": pl.Boolean}
    )
    rows = pl.DataFrame(
        {
            "user_id": [1] * 50,
            "item_id": [1] * 50,
            "timestamp": [start + i * 1_000_000 for i in range(50)],
            "click": [False] * 50,
        }
    ).with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))
    one = {"users": pl.DataFrame({"user_id": [1]}), "items": pl.DataFrame({"item_id": [1]})}
    for name, impressions, words in (
        ("empty", empty, "no impression"),
        ("passive", rows, "positive action"),
        ("lone", rows.with_columns(click=pl.Series([True, False] * 25)), ""),
    ):
        folder = tmp_path / name
        write_dataset(folder, name, {**one, "impressions": impressions}, {"click": "positive"})
        done = world.recsys("train", "--quiet", "--data-dir", str(folder), "--artifacts-dir", str(tmp_path / "a"))
        assert "Traceback" not in done.stderr
        if words:
            assert done.returncode == 4 and words in done.stderr
        else:
            assert done.returncode in (0, 4)
    assert not (tmp_path / "a" / "current").exists() or done.returncode == 0


def start_training(place, *more):
    return subprocess.Popen(
        place.command("train", "--quiet", *more),
        cwd=place.folder,
        env=place.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(pattern, place, process, timeout=120):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if list((place.folder / "artifacts").glob(pattern)):
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    raise AssertionError(f"{pattern} never appeared")


def test_ctrl_c_leaves_the_run_in_use_and_training_resumes_to_the_same_result(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    settings = ("--seed", "5", "--set", "ranking.heavy.epochs=4")
    before = current(place)
    process = start_training(place, *settings)
    wait_for("work/*/progress/heavy.pt", place, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert current(place) == before
    place.ok("recommend", "--user", "1")
    place.ok("train", "--resume", "--quiet", *settings)
    resumed = current(place)
    assert resumed != before
    whole = trained.copy(tmp_path / "whole")
    whole.ok("train", "--quiet", *settings)
    sides = []
    for p in (place, whole):
        run = p.folder / "artifacts" / "runs" / current(p)
        sides.append((run / "bundle" / "ranking" / "heavy.dense.bin").read_bytes())
    assert sides[0] == sides[1]


def test_a_killed_training_resumes_from_its_checkpoints(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    before = current(place)
    process = start_training(place, "--seed", "6")
    wait_for("work/*/history/two_tower.pt", place, process)
    process.kill()
    process.wait()
    process.stderr.close()
    kept = next((place.folder / "artifacts").glob("work/*/history/two_tower.pt"))
    stamp = kept.stat().st_mtime_ns
    assert current(place) == before
    process = start_training(place, "--seed", "6", "--resume")
    wait_for("work/*/checkpoints/heavy.pt", place, process)
    assert kept.stat().st_mtime_ns == stamp
    process.communicate(timeout=120)
    assert process.returncode == 0 and current(place) != before


def test_a_second_training_of_the_same_kind_is_kept_out(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    process = start_training(place, "--seed", "8")
    wait_for("work/*/history/als.pt", place, process)
    assert "another training" in place.refused(1, "train", "--quiet", "--seed", "8")
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_checkpoint_that_is_none_stops_the_resume_with_its_name(trained, tmp_path):
    place = trained.copy(tmp_path / "place")
    process = start_training(place, "--seed", "7")
    wait_for("work/*/history/als.pt", place, process)
    process.kill()
    process.wait()
    process.stderr.close()
    next((place.folder / "artifacts").glob("work/*/history/als.pt")).write_bytes(b"no checkpoint")
    assert "als.pt is not a checkpoint" in place.refused(5, "train", "--quiet", "--seed", "7", "--resume")


def test_a_full_disk_leaves_every_earlier_output(trained, tmp_path):
    """A file-size limit of the process stands in for a disk that fills up while writing."""
    place = trained.copy(tmp_path / "place")
    before = snapshot(place.folder / "data")
    script = f"trap '' XFSZ; ulimit -f 64; exec {' '.join(place.command('generate-data', '--seed', '9'))}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=place.folder, env=place.environment(), capture_output=True, text=True
    )
    assert done.returncode == 1 and "cannot write" in done.stderr and "Traceback" not in done.stderr
    assert snapshot(place.folder / "data") == before
    script = script.replace("generate-data --seed 9", "recommend --all --output slates.parquet -n 100").replace(
        "-f 64", "-f 8"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=place.folder, env=place.environment(), capture_output=True, text=True
    )
    assert done.returncode == 1 and "cannot write" in done.stderr
    assert not [p for p in place.folder.iterdir() if "slates" in p.name]


def test_json_goes_through_a_closed_pipe_quietly(trained):
    script = f"{' '.join(trained.command('recommend', '--all', '--format', 'json'))} | head -c 10"
    done = subprocess.run(
        ["bash", "-c", script], cwd=trained.folder, env=trained.environment(), capture_output=True, text=True
    )
    assert done.stderr == "" and len(done.stdout) == 10


def test_output_files_are_whole_or_absent(trained, tmp_path):
    out = tmp_path / "slate.json"
    trained.ok("recommend", "--user", "1", "--output", str(out))
    assert json.loads(out.read_text())["user_id"] == 1
    trained.refused(3, "recommend", "--user", "1", "--output", str(out), "--set", "pipeline.slate_sise=3")
    assert json.loads(out.read_text())["user_id"] == 1
