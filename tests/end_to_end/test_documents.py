"""What the documents show works: commands on a tiny world, the examples, and the worked examples of new parts."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from place import Place

from recsys_cli import docs

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = docs.FOLDER / "examples"
MARKED = re.compile(r"<!-- run -->\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {name: "".join(MARKED.findall(docs.read(name))) for name in docs.PAGES if MARKED.search(docs.read(name))}


def shell(place: Place, script: str, folder: Path | None = None, **more: str) -> subprocess.CompletedProcess:
    """Run shell commands in a place, with `recsys` and `python` on the path."""
    tools = place.folder / ".tools"
    tools.mkdir(exist_ok=True)
    (tools / "recsys").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m recsys_cli "$@"\n')
    (tools / "recsys").chmod(0o755)
    environment = place.environment(PYTHONPATH=str(ROOT)) | more
    environment["PATH"] = f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e"], input=script, cwd=folder or place.folder, env=environment, capture_output=True, text=True,
        timeout=300,
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(trained, tmp_path, page):
    done = shell(trained.copy(tmp_path / "place"), RUN[page])
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout and "Traceback" not in done.stderr


def test_the_python_of_the_readme_runs(trained):
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(snippet.splitlines()) <= 8
    done = shell(trained, f"python - <<'END'\n{snippet}END\n")
    assert done.returncode == 0, done.stderr
    *items, last = done.stdout.splitlines()
    assert len(items) == 10 and items[0].startswith("1 ") and last.startswith("None {")


def fields(page: str, heading: str) -> set[str]:
    """First-level fields of the table of a page that begins with such a heading."""
    table = docs.read(page).split(f"| {heading} | |\n|---|---|\n", 1)[1].split("\n\n", 1)[0]
    return set(re.findall(r"`(\w+)(?:\[\])?`", "".join(line.split("|")[1] for line in table.splitlines())))


def test_the_slate_holds_the_fields_that_the_page_lists(trained):
    answer = json.loads(trained.ok("recommend", "--user", "1", "--format", "json"))
    assert set(answer) == fields("slate", "field")


@pytest.mark.slow
def test_the_report_holds_the_fields_that_the_page_lists(trained):
    report = json.loads(trained.ok("evaluate", "--users", "40", "--quiet", "--format", "json"))
    assert set(report) == fields("evaluation", "JSON field")


def example(place: Place, name: str, *arguments: str) -> str:
    done = shell(place, f"python {EXAMPLES / name} " + " ".join(arguments))
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_slate_is_explained(trained):
    out = example(trained, "explain_slate.py", "artifacts", "1")
    assert re.search(r"^1\. \d+: .+ \(score -?\d\.\d{3}\)$", out, re.MULTILINE)
    assert "proposed by " in out and re.search(r"expected: \w+ \d", out) and "→" in out


def test_a_source_of_ones_own_is_measured(trained):
    out = example(trained, "custom_source.py", "data/world")
    found = {(kind, name): float(value) for kind, name, value in re.findall(r"^(\w+) +(\S+) +([\d.]+) \(", out, re.M)}
    assert found["loyal", "recall@10"] > 0 and found["popularity", "recall@10"] > 0


def test_a_metric_of_ones_own_is_measured_and_is_right(trained):
    import numpy as np

    out = example(trained, "custom_metric.py", "artifacts", "data/world")
    value, low, high = map(float, re.search(r"authors: ([\d.]+) \(([\d.]+) to ([\d.]+)\), 150 people", out).groups())
    assert 0 <= low <= value <= high < 0.5
    space: dict = {"__name__": "example"}
    exec(compile((EXAMPLES / "custom_metric.py").read_text(), "custom_metric.py", "exec"), space)
    # authors 0 and 1 are small; the first list holds one of them in three, the second nothing but them
    share = space["small_author_share"](
        np.array([[0, 2, 3], [1, 0, -1], [-1, -1, -1]]), np.array([0, 1, 2, 3]), np.array([1, 1, 5, 9])
    )
    np.testing.assert_allclose(share, [1 / 3, 1, np.nan])


@pytest.mark.slow
def test_an_experiment_is_run(trained):
    out = example(trained, "ab_test.py", "artifacts", "data/world", "1")
    assert re.search(r"^authors_per_slate +[\d.]+ → [\d.]+, difference [-\d.]+ to [-\d.]+, p = ", out, re.MULTILINE)
    assert "engagement_per_user" in out.splitlines()[-1]


def interactions(path: Path) -> None:
    """People of three groups, each turning to items of its own: what `own-data` describes."""
    import numpy as np

    rng, lines = np.random.default_rng(0), ["user_id,item_id,timestamp"]
    for user in range(45):
        for _ in range(20):
            item = user % 3 * 30 + int(30 * rng.random() ** 2)
            lines.append(f"u{user},i{item},{1767225600 + int(rng.integers(0, 30 * 86_400))}")
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_a_csv_file_becomes_slates(tmp_path):
    interactions(tmp_path / "interactions.csv")
    out = example(Place(tmp_path), "csv_to_slate.py", "interactions.csv", "shop")
    assert "900 interactions" in out
    header, *rows = (tmp_path / "shop" / "slates.csv").read_text().splitlines()
    assert header == "user_id,rank,item_id,reason" and len(rows) == 450
    # the items of one's own group come first
    own = [int(r.split(",")[0][1:]) % 3 == int(r.split(",")[2][1:]) // 30 for r in rows if r.split(",")[1] == "1"]
    assert sum(own) / len(own) > 0.9


@pytest.mark.slow
def test_init_writes_a_project_that_make_takes_from_a_csv_file_to_slates(tmp_path):
    place = Place(tmp_path)
    project = tmp_path / "shop"
    made = shell(place, "recsys init shop", RECSYS_CONFIG="")
    assert made.returncode == 0, made.stderr
    assert {p.name for p in project.iterdir()} == {"recsys.yaml", "mapping.yaml", "Makefile", ".gitignore"}
    (project / "raw").mkdir()
    interactions(project / "raw" / "interactions.csv")
    (project / "raw" / "items.csv").write_text("item_id,colour,topics\ni1,red,tea|cups\ni2,blue,\n")
    done = shell(place, "unset RECSYS_CONFIG\nmake\nrecsys recommend --user u1 --format json", project)
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout[done.stdout.rindex("\n{") + 1 :])
    assert answer["user_id"] == "u1" and len(answer["items"]) == 10
    manifest = json.loads((project / "data" / "mine" / "dataset.json").read_text())
    assert manifest["tables"]["impressions"]["rows"] == 900 and manifest["tables"]["users"]["rows"] == 45
    assert {"colour", "topics"} <= set(manifest["tables"]["items"]["columns"])
    assert list((project / "artifacts" / "reports").glob("*/evaluation.html"))


def test_init_replaces_nothing_unless_forced(tmp_path):
    place = Place(tmp_path)
    (tmp_path / "Makefile").write_text("mine\n")
    (tmp_path / "tiny.yaml").write_text("{}\n")
    assert "Makefile already" in place.refused(2, "init")
    assert (tmp_path / "Makefile").read_text() == "mine\n" and not (tmp_path / "recsys.yaml").exists()
    place.ok("init", "--force")
    assert "import-data mapping.yaml" in (tmp_path / "Makefile").read_text()
    assert "is not a folder" in place.refused(2, "init", "Makefile")


@pytest.fixture
def changed(tmp_path):
    """A copy of the package to change as a page says; returns (environment that uses it, its folder)."""
    shutil.copytree(ROOT / "recsys_cli", tmp_path / "recsys_cli", ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": str(tmp_path)}, tmp_path / "recsys_cli"


def code(page: str, starts: str) -> str:
    """The block of a page that begins so."""
    blocks = re.findall(r"^```\w+\n(.*?)^```$", docs.read(page), re.MULTILINE | re.DOTALL)
    (found,) = [b for b in blocks if b.startswith(starts)]
    return found


def put_before(path: Path, mark: str, text: str) -> None:
    before = path.read_text()
    assert before.count(mark) == 1, mark
    path.write_text(before.replace(mark, text + mark))


QUICK = """
world: {users: 150}
retrieval: {two_tower: {enabled: false}, als: {enabled: false}, item_neighbours: {enabled: false}}
ranking:
  choose: light
  heavy: {kind: shared_bottom, hidden: [16], epochs: 1}
  relevance: {enabled: false}
  baseline: {enabled: false}
pipeline: {sourcing: {shares: {loyal: 0.3}}}
tuning: {enabled: false}
"""


@pytest.mark.slow
def test_the_worked_source_is_a_file_and_two_lines(world, tmp_path, changed):
    environment, package = changed
    (package / "retrieval" / "popularity" / "loyal.py").write_text(code("add-a-source", '"""Items by'))
    registry = package / "retrieval" / "registry.py"
    imported = code("add-a-source", "from recsys_cli.retrieval.popularity.l")
    put_before(registry, "from recsys_cli.retrieval.popularity.popularity import", imported)
    put_before(registry, '    "random": Random,\n', code("add-a-source", '    "loyal"'))
    place = world.copy(tmp_path / "place")
    (place.folder / "tiny.yaml").write_text(QUICK)
    place.ok("train", "--quiet", **environment)
    answer = json.loads(place.ok("recommend", "--user", "1", "--format", "json", **environment))
    assert any("loyal" in item["sources"] for item in answer["items"])
    assert any("loyal" in item["similarities"] for item in answer["items"])
