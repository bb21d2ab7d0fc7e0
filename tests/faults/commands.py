"""Every command that writes anything, each as somebody would call it in a project folder of their own."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

LEAN = (
    "two_tower", "ease", "rp3beta", "graph_filter", "item_neighbours", "markov", "sequential_rules", "als",
    "linear_autoregressive", "next_basket", "slim", "user_neighbours", "svd", "session_neighbours",
    "repeat_consumption", "segment_trending",
)
"""Sources that a run of these tests goes without: what is fitted says nothing about how it is written."""
PROJECT = """\
paths: {data: data, artifacts: artifacts}
world: {users: 40, items: 300, days: 8, horizon_days: 4, topics: 20, communities: 5}
evaluation: {resamples: 100}
ranking:
  heavy: {epochs: 1, min_steps: 0, members: 1}
  baseline: {enabled: false}
  relevance: {enabled: false}
retrieval:
  random: {enabled: false}
""" + "".join(f"  {name}: {{enabled: false}}\n" for name in LEAN)
WORDS = ("spring", "summer", "autumn", "winter", "rain", "snow", "wind", "sun")
FILES = {
    "recsys.yaml": PROJECT,
    "log.csv": "u,i,t,c\n" + "".join(f"u{k % 7},i{k % 11},{1_700_000_000 + 60 * k},{k % 3 % 2}\n" for k in range(200)),
    "more.csv": "u,i,t,c\n" + "".join(f"u{k % 7},i{k % 11},{1_700_100_000 + 60 * k},{k % 2}\n" for k in range(40)),
    "map.yaml": "name: s\nimpressions:\n  files: log.csv\n"
    "  columns: {user_id: u, item_id: i, timestamp: {column: t, unit: s}}\n  actions: {click: c}\n",
    "test.yaml": "name: trial\ndays: 1\nmin_users: 2\ncontrol: {}\n"
    "treatment: {diversity: {max_per_author: 1}}\nmetrics: [ctr]\nprimary: ctr\n",
    "scenario.yaml": "name: s\ndays: 1\nmarket: own\npolicies: {configured: {}}\n",
    "policy.yaml": "name: p\npolicy: {kind: uniform}\n",
    "outcomes.csv": "user_id,variant,spent\n" + "".join(
        f"{k},{'control' if k % 2 else 'treatment'},{k * k % 13}\n" for k in range(40)
    ),
    "shown.csv": "user_id,variant,impressions,click\n" + "".join(
        f"{k},{'control' if k % 2 else 'treatment'},{5 + k % 3},{k % 4}\n" for k in range(40)
    ),
    "analysis.yaml": "name: t\nmin_users: 5\nmetrics: [{name: spent, numerator: spent}]\n",
    "texts.csv": "text,toxicity\n" + "".join(
        f"{'you awful trash' if k % 2 else 'a lovely day'} {WORDS[k % 8]} {WORDS[k // 8]},{k % 2}\n" for k in range(64)
    ),
    "bench/train.txt": "".join(f"{u} {' '.join(str((u * 3 + j) % 17) for j in range(6))}\n" for u in range(20)),
    "bench/test.txt": "".join(f"{u} {(u * 3 + 7) % 17}\n" for u in range(20)),
    "bench/b.yaml": "name: mini\ntitle: mini\nprotocol: {kind: held_out, train: train.txt, test: test.txt, "
    "metrics: [recall], k: [5]}\nmodels: {popularity: {kind: popularity}}\npublished: []\n",
}
"""Path → text of the files of a project that its owner wrote."""


@dataclass(frozen=True)
class Command:
    """One call: its arguments, and what it is expected to leave behind beside what was there."""

    name: str
    line: str
    first: tuple[str, ...] = ()
    """Command lines that must have run before."""
    codes: tuple[int, ...] = (0,)
    """Exit codes of a call that ends by itself."""
    step: int = 1
    """Killed before every so-manieth rename; more where a like command is killed before each."""
    repeated: tuple[int, ...] = ()
    """Further ones where an earlier call did it already."""

    @property
    def again(self) -> tuple[int, ...]:
        return self.codes + self.repeated

    @property
    def files(self) -> list[str]:
        """The files that it is told to write."""
        words = self.line.split()
        return [
            words[k + 1] for k, word in enumerate(words[:-1])
            if word in ("--output", "--html", "--per-user", "--save-log") and "." in words[k + 1]
        ]


COMMANDS = [
    Command("init", "init shop", repeated=(2,)),
    Command("generate-data", "generate-data -q"),
    Command("generate-data in shards", "generate-data --shards 3 --data-dir sharded -q"),
    Command("import-data", "import-data map.yaml --to imported -q"),
    Command("import-data --append", "import-data more.yaml --to imported --append -q",
            ("import-data map.yaml --to imported -q",)),
    Command("import-data --guess", "import-data --guess log.csv --write guessed.yaml --to guessed --yes -q"),
    Command("data describe", "data describe --output report.html -q"),
    Command("data sample", "data sample --users 10 --to sample -q"),
    Command("data split", "data split --to parts --apart -q"),
    Command("train", "train -q"),
    Command("train --no-refit", "train --no-refit -q", step=4),
    Command("train-safety", "train-safety --task toxicity --labels texts.csv -q"),
    Command("retrain", "retrain --force -q", step=5),
    Command("retrain --events", "retrain --events events --force -q", step=5),
    Command("import-data --events", "import-data --events events --to later -q"),
    Command("recommend", "recommend --user 1 --output slate.json -q"),
    Command("recommend --all", "recommend --all -n 3 --output all.csv -q"),
    Command("recommend --all in shards", "recommend --all -n 3 --shards 3 --output all -q --format parquet"),
    Command("recommend-users", "recommend-users --user 1 --output people.json -q"),
    Command("evaluate", "evaluate --html e.html -q"),
    Command("compare", "compare {run} {other} --html c.html --per-user c.parquet -q"),
    Command("explain", "explain --user 1 --item 5 --output r.json -q"),
    Command("simulate", "simulate scenario.yaml --resume days --html s.html -q"),
    Command("interleave", "interleave test.yaml --no-against-ab --output i.json -q"),
    Command("off-policy", "off-policy policy.yaml --log data/impressions.parquet --output o.json -q"),
    Command("tune utility", "tune utility --target dwell --resamples 20 --output u.json -q"),
    Command("benchmark", "benchmark bench/b.yaml --from bench -q"),
    Command("monitor report", "monitor report --events events --html m.html -q"),
    Command("check", "check --output check.json -q", codes=(0, 1)),
    Command("ab-test plan", "ab-test plan test.yaml --output plan.json -q"),
    Command("ab-test run", "ab-test run test.yaml --save-log log.parquet --resume days --html a.html -q"),
    Command("ab-test analyze", "ab-test analyze analysis.yaml --log outcomes.csv --html a.html -q"),
    Command("ab-test assign", "ab-test assign test.yaml --users data/users.parquet --output who.csv -q"),
    Command("ab-test start", "ab-test start test.yaml -q", repeated=(3,)),
    Command("ab-test stop", "ab-test stop trial -q", ("ab-test start test.yaml -q",), repeated=(5,)),
    Command("ab-test report", "ab-test report trial --log shown.csv --html a.html -q", ("ab-test start test.yaml -q",)),
    Command("safety export", "safety export -q", ("train-safety --task toxicity --labels texts.csv -q",)),
    Command("runs use", "runs use {run} -q"),
    Command("runs delete", "runs delete {other} -q", repeated=(5,)),
    Command("config template", "config template --output c.yaml -q"),
    Command("features list", "features list --output f.json -q"),
    Command("presets", "presets for-you --output p.yaml -q"),
]


EVERYTHING = os.environ.get("RECSYS_FAULTS") == "all"
"""Whether every fault is tried, as tests/simulations/faults.py does; else some of each kind."""
OFTEN = (
    "init", "generate-data", "import-data --append", "data split", "train --no-refit", "train-safety", "evaluate",
    "recommend --all in shards", "benchmark", "ab-test start", "monitor report", "runs use", "runs delete",
)
CHOSEN = [command for command in COMMANDS if EVERYTHING or command.name in OFTEN]


def some(values: tuple, every: int = 3) -> tuple:
    """Every so-manieth of some values, or all of them."""
    return values if EVERYTHING else values[::every]


def write_project(folder: Path) -> None:
    """The files of FILES, and a second mapping for what comes later."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "more.yaml").write_text(FILES["map.yaml"].replace("log.csv", "more.csv"))


def copy_project(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target, symlinks=True)
