"""Options and files that mean harm or nothing: refused within two seconds, in a line, and nothing elsewhere changes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from commands import copy_project, some

pytestmark = pytest.mark.slow
SECONDS, MIB = 2, 300
FILES = {
    "empty.yaml": b"", "list.yaml": b"- 1\n", "bin.yaml": bytes(range(256)), "deep.yaml": b"a: " * 60,
    "alias.yaml": b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "name.yaml": b"name: ../../evil\n",
    "big.yaml": b"name: " + b"x" * 100_000 + b"\n", "days.yaml": b"name: n\ndays: 1000000000\ncontrol: {}\n",
    "empty.csv": b"", "bin.csv": bytes(range(256)), "fake.parquet": b"PAR1xxxxPAR1",
    "wide.csv": b",".join(b"c%d" % k for k in range(20_000)) + b"\n",
    "nan.csv": b"user_id,variant,spent\n1,control,nan\n2,treatment,inf\n",
    "quote.csv": b'user_id,item_id,rank\n"1,5,1\n',
}
ODD_YAML = ("empty.yaml", "list.yaml", "bin.yaml", "deep.yaml", "alias.yaml", "name.yaml", "big.yaml", "folder",
            "missing.yaml", "/dev/null")
ODD_TABLE = ("empty.csv", "bin.csv", "fake.parquet", "wide.csv", "nan.csv", "quote.csv", "folder", "missing.csv",
             "/dev/null")
READ_YAML = ("simulate {}", "interleave {}", "off-policy {} --log data/impressions.parquet", "ab-test start {}",
             "benchmark {} --from bench")
READ_TABLE = ("recommend --users-file {}", "off-policy policy.yaml --log {}", "evaluate --slates {}", "compare {} {}x",
              "train-safety --task toxicity --labels {}",
              "ab-test analyze analysis.yaml --log {}")
NAMES = (
    "runs use {}", "runs delete {}", "runs show {}", "recommend --user 1 --run {}", "evaluate --run {}",
    "serve --run {}", "check --run {}", "compare {} {}x", "train --warm-start {}", "simulate scenario.yaml --run {}",
    "presets {}", "train --preset {}", "docs {}", "ab-test status {}", "ab-test stop {}", "ab-test report {}",
    "safety export {}", "train-safety --labels texts.csv --task {}", "evaluate --ablate {}",
    "similar-items 5 --source {}", "recommend --user 1 --without {}",
)
HOSTILE = ("../../victim", "/etc/passwd", "..", "n" * 5000)
NUMBERS = (
    "serve --port 99999999", "serve --host 999.1.1.1 --port 0", "loadtest ftp://x",
    "loadtest http://127.0.0.1:1 --rate nan",
    "loadtest http://127.0.0.1:1 --connections 1000000000", "retrain --minutes nan", "retrain --minutes -1",
    "monitor report --days 1000000000 --events data", "tune utility --target dwell --resamples 1000000000",
    "simulate scenario.yaml --days 1000000000", "interleave test.yaml --days 1000000000",
    "ab-test run days.yaml", "ab-test run test.yaml --aa 1000000000", "recommend --user 1 --adventure nan",
    "recommend --user 1 -n 0", "recommend --all --shards 0 --output shards",
    "recommend --all --format csv --shards 1000000000 --output shards", "evaluate -k -1", "evaluate --users -1",
    "data sample --users 0 --to sample", "generate-data --users 1000000000000 --data-dir generated",
    "train-safety --task toxicity --labels texts.csv --test-share nan", "explain --user 1 --item 5 --at 99999-01-01",
    "import-data map.yaml --to imported --max-reject-share nan",
    "ab-test plan test.yaml --mean nan --sd nan --users-a-day 1", "ab-test plan test.yaml --mean 2 --sd 1e300",
    "ab-test plan test.yaml --mean 1e-300 --sd 1", "ab-test plan test.yaml --mean 2 --sd 0",
    "ab-test plan test.yaml --mean 2 --sd inf", "ab-test plan test.yaml --mean 2 --sd 1 --users-a-day 1e300",
)


@pytest.fixture(scope="module")
def place(project, tmp_path_factory) -> Path:
    top = tmp_path_factory.mktemp("hostile")
    (top / "victim").mkdir()
    (top / "victim" / "thesis.txt").write_text("years of work")
    folder = copy_project(project, top / "project")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    (folder / "folder").mkdir()
    return folder


def require_refusal(got: dict, line: str) -> None:
    lines = got["err"].strip().splitlines()
    assert got["code"] in (2, 3, 4, 5, 6), f"{line}: {got['code']} {got['err']}"
    assert "unexpected" not in got["err"] and "Traceback" not in got["err"], f"{line}: {got['err']}"
    assert len(lines) <= (4 if lines[0].startswith("Usage") else 2), f"{line}: {lines}"
    assert max(map(len, lines)) < 700 and "\x1b" not in got["err"], f"{line}: {max(map(len, lines))} characters"
    assert got["cpu"] < SECONDS, f"{line}: {got['cpu']:.1f} s"


@pytest.mark.parametrize("line", some((*READ_YAML, *READ_TABLE, *NAMES)))
def test_no_name_and_no_file_of_an_option_leads_elsewhere_or_hangs(forked, place, line):
    odd = ODD_YAML if line in READ_YAML else ODD_TABLE if line in READ_TABLE else HOSTILE
    before = sorted(path for path in place.parent.rglob("*") if "logs" not in path.parts)
    for name in odd:
        require_refusal(forked(f"{line.replace('{}', name)} -q", place, limit=60), f"{line} {name[:40]}")
    assert sorted(path for path in place.parent.rglob("*") if "logs" not in path.parts) == before
    assert (place.parent / "victim" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("line", some(NUMBERS))
def test_no_number_of_an_option_is_without_bound(forked, place, line):
    require_refusal(forked(f"{line} -q", place, limit=60), line)


MEASURED = """if True:
    import atexit, re, runpy, sys
    place = sys.argv.pop(1)
    def write():  # the maximum that wait4 tells would be that of the process before exec, where that was larger
        with open(place, "w") as file:
            file.write(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
    atexit.register(write)
    runpy.run_module("recsys_cli", run_name="__main__", alter_sys=True)
"""
"""Runs the command line and writes its peak memory, KiB."""


@pytest.mark.parametrize("line", [
    "train -c big.yaml", "config show -c alias.yaml", "simulate bin.yaml", "evaluate --slates wide.csv",
    "ab-test analyze analysis.yaml --log wide.csv", "import-data --guess wide.csv", "runs use ../../victim",
    "train -c missing.yaml", "off-policy policy.yaml --log fake.parquet",
])
def test_a_refusal_costs_little(place, tmp_path, monkeypatch, line):
    """Whole processes, as a shell starts them: processor seconds and memory."""
    monkeypatch.chdir(place)
    peak = tmp_path / "peak"
    process = os.posix_spawn(
        sys.executable, [sys.executable, "-c", MEASURED, str(peak), *line.split(), "-q"],
        os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OPENBLAS_NUM_THREADS": "1"},
        file_actions=[(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (1, 2)],
    )
    _, status, used = os.wait4(process, 0)
    assert os.waitstatus_to_exitcode(status) in (2, 3, 4, 5)
    assert used.ru_utime + used.ru_stime < SECONDS, used
    assert int(peak.read_text()) < MIB * 1024
