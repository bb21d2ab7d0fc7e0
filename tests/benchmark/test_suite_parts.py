"""Parts of a suite: how data are split, what is said of lists, and what other systems are given."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from recsys_cli.benchmark import peers
from recsys_cli.benchmark.alone import chosen_settings, inner_task, ranking_task_of, source_rows
from recsys_cli.benchmark.funnel import Where
from recsys_cli.benchmark.list_rows import Row, measured
from recsys_cli.benchmark.peers import NotInstalled, environment, implicit_lists, program_lists, write_rows
from recsys_cli.benchmark.splits import Rows, build_task, list_task
from recsys_cli.benchmark.suite import ratio, verdict
from recsys_cli.benchmark.suite_config import (
    Adjacency,
    Given,
    ImplicitAls,
    ImplicitNeighbours,
    LastRows,
    LastShare,
    ListTaskSettings,
    OwnEnvironment,
    RandomRows,
    Sequences,
    SourcesTask,
    SuiteConfig,
    Table,
    Task,
)
from recsys_cli.errors import DataError, RecsysError
from recsys_cli.progress import Progress

TABLE = """user_id:token\titem_id:token\trating:float\ttimestamp:float
b\tx\t5\t30
a\tx\t5\t20
a\ty\t4\t10
a\tz\t3\t40
a\tw\t5\t30
a\tv\t5\t50
b\ty\t2\t10
b\tz\t4\t20
"""


def table(**more) -> Table:
    return Table(**{"file": "t.inter", "user": "user_id", "item": "item_id", **more})


def pairs(rows: Rows) -> list[str]:
    return [u + i for u, i in zip(rows.users.tolist(), rows.items.tolist(), strict=True)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "t.inter").write_text(TABLE)
    return tmp_path


def of(train: list[str], test: list[str], ordered: bool = False):
    """A task of pairs written as user and item, a letter each."""
    return build_task(*(Rows(np.array([p[0] for p in s]), np.array([p[1] for p in s])) for s in (train, test)), ordered)


def test_the_last_share_of_each_user_in_time_is_hidden(folder):
    task = list_task(ListTaskSettings(data=table(time="timestamp"), split=LastShare(share=0.4)), folder)
    # a: y x w z v in time, two of five hidden; b: y z x, one of three
    assert pairs(task.train) == ["ay", "ax", "aw", "by", "bz"]
    assert task.train.times.tolist() == [10, 20, 30, 10, 20] and task.ordered
    # w x y z stand in train, v comes behind them
    assert task.item_ids.tolist() == ["w", "x", "y", "z"]
    assert task.users.tolist() == [0, 1] and [task.wanted[r].tolist() for r in (0, 1)] == [[3, 4], [1]]
    last = list_task(ListTaskSettings(data=table(time="timestamp"), split=LastRows(rows=1)), folder)
    assert pairs(last.train) == ["ay", "ax", "aw", "az", "by", "bz"]


def test_only_good_ratings_of_items_with_enough_rows_count(folder):
    settings = ListTaskSettings(
        data=table(rating="rating", at_least=4, least_users=3), split=RandomRows(share=0.5, seed=3)
    )
    # y has three rows with the bad one, which counts for what an item has and not for the user
    (folder / "t.inter").write_text(TABLE + "c\tx\t5\t1\nc\ty\t5\t2\n")
    drawn = np.random.default_rng(3).random(5) < 0.5
    kept = np.array(["bx", "ax", "ay", "cx", "cy"])
    task = list_task(settings, folder)
    assert pairs(task.train) == kept[~drawn].tolist() and not task.ordered


def test_lines_of_items_are_users_from_one(tmp_path):
    (tmp_path / "s.txt").write_text("7 8 9 7 5\n3 7 8 9 4\n")
    task = list_task(ListTaskSettings(data=Sequences(file="s.txt"), split=LastShare(share=0.2)), tmp_path)
    assert task.user_ids.tolist() == ["1", "2"] and pairs(task.train)[:4] == ["17", "18", "19", "17"]
    # nobody is asked for what they have already
    (tmp_path / "s.txt").write_text("7 8 9 6 7\n3 7 8 9 6\n")
    task = list_task(ListTaskSettings(data=Sequences(file="s.txt"), split=LastShare(share=0.2)), tmp_path)
    assert task.user_ids[task.users].tolist() == ["2"]


def test_published_parts_are_taken_as_given(tmp_path):
    (tmp_path / "train.txt").write_text("0 1 2\n1 2 3\n2\n")
    (tmp_path / "test.txt").write_text("0 3\n1 9\n2 1\n")
    task = list_task(ListTaskSettings(data=Adjacency(), split=Given()), tmp_path)
    assert task.user_ids[task.users].tolist() == ["0", "1"]  # 2 has no history
    assert [task.wanted[r].tolist() for r in (0, 1)] == [[2], [3]] and len(task.item_ids) == 3


def test_what_does_not_fit_together_is_refused(folder):
    with pytest.raises(ValidationError, match="as given"):
        ListTaskSettings(data=table(), split=Given())
    with pytest.raises(ValidationError, match=r"need data\.time"):
        ListTaskSettings(data=table(), split=LastShare())
    with pytest.raises(DataError, match="line 1: no column 'stars'"):
        list_task(ListTaskSettings(data=table(rating="stars", at_least=4), split=RandomRows()), folder)
    with pytest.raises(DataError, match="nobody who has both"):
        of(["ax", "by"], ["cx"])
    task = {"kind": "sources", "data": {"form": "sequences", "file": "s"}, "split": {"kind": "last_share"}}
    with pytest.raises(ValidationError, match="'markov', which is none of models"):
        SuiteConfig(name="n", title="t", tasks={"one": {**task, "models": ["markov"]}})


@given(st.data())
def test_figures_are_those_of_a_naive_count(data):
    n_items, k = 12, 4
    ints = st.integers(0, n_items - 1)
    rows = [(u, data.draw(st.lists(ints, min_size=1, max_size=8, unique=True))) for u in range(data.draw(
        st.integers(2, 5)))]
    train = [(u, i) for u, items in rows for i in items[: len(items) // 2 + 1]]
    test = [(u, i) for u, items in rows for i in items[len(items) // 2 + 1 :]] + [(0, 11), (0, 10)]
    made = [Rows(np.array([str(u) for u, _ in s]), np.array([f"{i:02}" for _, i in s])) for s in (train, test)]
    try:
        task = build_task(*made, False)
    except DataError:
        return
    lists = data.draw(st.permutations(range(len(task.item_ids))))
    items = np.tile(np.array(lists, np.int32), (len(task.users), 1))
    other = np.full_like(items, -1)
    settings = Task(metrics=("ndcg", "recall"), k=k)
    ours, theirs = measured(
        [Row("ours", "funnel", items), Row("theirs", "source", other)], task, settings, resamples=100, seed=0
    )
    ndcg, recall = [], []
    for user in task.user_ids[task.users]:
        seen = {i for u, i in train if str(u) == user}
        want = {i for u, i in test if str(u) == user} - seen
        top = [int(task.item_ids[i]) for i in lists if int(task.item_ids[i]) not in seen][:k]
        gain = sum(1 / np.log2(p + 2) for p, i in enumerate(top) if i in want)
        ndcg.append(gain / sum(1 / np.log2(p + 2) for p in range(min(k, len(want)))))
        recall.append(len(want & set(top)) / len(want))
    assert ours["figures"]["ndcg@4"]["value"] == pytest.approx(np.mean(ndcg))
    assert ours["figures"]["recall@4"]["value"] == pytest.approx(np.mean(recall))
    assert theirs["best_part"] and theirs["figures"]["ndcg@4"]["value"] == 0
    assert ours["to_best"]["value"] == pytest.approx(np.mean(ndcg)) and theirs["to_best"] is None
    low = ours["figures"]["ndcg@4"]["low"]
    assert 0 <= low <= np.mean(ndcg) + 1e-6


def test_the_best_part_is_a_source_or_a_baseline_and_goals_are_read_off():
    task = of(["ax", "by", "az", "bz"], ["ay", "bx"])
    right, wrong = np.array([[1], [0]], np.int32), np.array([[2], [2]], np.int32)
    rows = [Row("funnel", "funnel", right), Row("fusion", "order", right), Row("als", "source", wrong),
            Row("popularity", "baseline", np.array([[1], [2]], np.int32)), Row("peer", "peer", error="gone"),
            Row("absent", "peer", error="not here", absent=True)]
    found = {r["name"]: r for r in measured(rows, task, Task(k=1), resamples=100, seed=0)}
    assert [n for n, r in found.items() if r["best_part"]] == ["popularity"]
    assert found["als"]["to_best"]["value"] == -0.5 and found["fusion"]["to_best"]["value"] == 0.5
    assert found["peer"]["error"] == "gone" and found["absent"]["absent"] == "not here"
    document = {"rows": list(found.values()), "metrics": ["ndcg@1", "recall@1"], "ratio": None}
    document["ratio"] = ratio(document["rows"], "ndcg@1")
    assert document["ratio"] == 2
    told = verdict({"funnel": 0.9, "funnel over best part": 2.5, "als: recall@1": 0, "peer": 0.1,
                    "best part": 0.5}, document)
    assert [(t["value"], t["met"]) for t in told] == [(1, True), (2, False), (0, True), (None, False), (0.5, True)]


def planted(users: int = 40, ordered: bool = False):
    """Even users have even items; everybody hides two of their kind."""
    rng, train, test = np.random.default_rng(0), [], []
    for user in range(users):
        items = rng.permutation(np.arange(user % 2, 24, 2))
        train += [(f"u{user}", f"i{i}") for i in items[:8]]
        test += [(f"u{user}", f"i{i}") for i in items[8:10]]
    return build_task(*(Rows(*(np.array(c) for c in zip(*side, strict=True))) for side in (train, test)), ordered)


@pytest.mark.parametrize(
    "config",
    [ImplicitAls(dim=4), ImplicitNeighbours(neighbours=20), ImplicitNeighbours(similarity="bm25", neighbours=20)],
)
def test_implicit_learns_from_the_training_rows_and_lists_nothing_seen(config):
    task = planted()
    row = implicit_lists(config, "theirs", task, 4, seed=0, threads=1)
    assert row.items.shape == (40, 4) and not task.seen.contains(task.users, row.items).any()
    found = measured([row], task, Task(metrics=("recall",), k=4), resamples=100, seed=0)[0]
    assert found["figures"]["recall@4"]["value"] == 1 and row.fit_seconds > 0  # four of the own kind are left


STUB = """
import csv, json, sys
rows, users, length, out = sys.argv[1:]
table = list(csv.DictReader(open(rows)))
assert list(table[0]) == COLUMNS, table[0]
count = {}
for row in table:
    count[row["item"]] = count.get(row["item"], 0) + 1
best = ["nobody knows"] + sorted(count, key=lambda i: (-count[i], i))[: int(length)]
lists = {user: best for user in open(users).read().split()}
json.dump({"lists": lists, "fit_seconds": 1, "rank_seconds": 2, "peak_memory_mib": 3}, open(out, "w"))
"""


@pytest.mark.parametrize("ordered", [False, True])
def test_a_program_in_its_own_environment_is_given_rows_and_gives_lists(tmp_path, ordered):
    columns = ["user", "item", "time"] if ordered else ["user", "item"]
    (tmp_path / "stub.py").write_text(STUB.replace("COLUMNS", repr(columns)))
    task = planted(ordered=ordered)
    config = OwnEnvironment(script="stub.py")
    row = program_lists(config, "stub", task, 3, tmp_path, tmp_path / "work")
    assert (row.fit_seconds, row.rank_seconds, row.peak_memory_mib) == (1, 2, 3)
    count = np.bincount(task.item)
    best = max(range(len(count)), key=lambda i: (count[i], [-ord(c) for c in task.item_ids[i]]))
    assert (row.items[:, 0] == -1).all() and (row.items[:, 1] == best).all()
    assert (task.unseen(row.items, 3)[:, :1] >= 0).all()
    # the environment is kept
    made = (tmp_path / "work/stub/bin/python").stat().st_ctime_ns
    program_lists(config, "stub", task, 3, tmp_path, tmp_path / "work")
    assert (tmp_path / "work/stub/bin/python").stat().st_ctime_ns == made


@pytest.mark.parametrize(
    ("script", "words"),
    [("raise SystemExit('no luck today')", "stub failed: no luck today"), ("pass", "wrote no lists"),
     ("import sys; open(sys.argv[4], 'w').write('{}')", "wrote no lists")],
)
def test_a_program_that_fails_says_why(tmp_path, script, words):
    (tmp_path / "stub.py").write_text(script)
    with pytest.raises(RecsysError, match=words):
        program_lists(OwnEnvironment(script="stub.py"), "stub", planted(), 3, tmp_path, tmp_path / "work")


def test_what_does_not_install_leaves_nothing_and_says_so(tmp_path, monkeypatch):
    calls = []

    def call(command, seconds, told):
        calls.append(command[1:3])
        if "pip" in command:
            (tmp_path / "work/stub").mkdir(parents=True)
            raise RecsysError(f"{told}: ERROR: No matching distribution found for nowhere")

    monkeypatch.setattr(peers, "_call", call)
    with pytest.raises(NotInstalled, match="stub does not install: ERROR: No matching"):
        environment(tmp_path / "work", "stub", ("nowhere",))
    assert calls == [["-m", "venv"], ["-m", "pip"]] and not (tmp_path / "work/stub").exists()


def test_rows_of_a_task_are_written_in_their_order(tmp_path):
    write_rows(of(["ax", "ay", "bx"], ["by"], ordered=True), tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text().split() == ["user,item,time", "a,x,0", "a,y,1", "b,x,2"]


def cycle(seed: int, hidden: int = 1):
    """Everybody walks a cycle of 20 items from a place of their own; the next ones are to be found."""
    rng, train, test = np.random.default_rng(seed), [], []
    for user in range(60):
        start, length = rng.integers(20), rng.integers(8, 12)
        walk = [f"i{(start + step) % 20:02}" for step in range(length + hidden)]
        train += [(f"u{user:02}", i) for i in walk[:length]]
        test += [(f"u{user:02}", i) for i in walk[length:]]
    return build_task(*(Rows(*(np.array(c) for c in zip(*side, strict=True))) for side in (train, test)), True)


MODELS = {
    "markov": {"kind": "markov"}, "item_neighbours": {"kind": "item_neighbours"}, "popularity": {"kind": "popularity"},
    "content": {"kind": "content"},
}
TASK = {"kind": "sources", "data": {"form": "sequences", "file": "s.txt"}, "split": {"kind": "last_share"}, "k": 3}


def test_sources_alone_find_a_planted_cycle_where_they_know_order(tmp_path):
    suite = SuiteConfig(name="n", title="t", tasks={"one": TASK}, models=MODELS)
    where = Where(tmp_path, tmp_path, 0, 1, Progress())
    task = cycle(0)
    rows, told = source_rows(task, suite.tasks["one"], suite, where)
    found = {r["name"]: r for r in measured(rows, task, suite.tasks["one"], resamples=100, seed=0)}
    value = {n: r["figures"]["ndcg@3"]["value"] for n, r in found.items() if r["figures"]}
    assert value["markov"] > 0.95 > value["popularity"] and found["markov"]["best_part"]
    assert found["markov"]["fit_seconds"] > 0 and found["markov"]["request_ms"] > 0
    assert "cannot work on this" in found["content"]["error"] and told["validation"]["users"] == 60


def test_settings_are_chosen_without_what_is_to_be_found():
    settings = SourcesTask(**TASK)
    config = SuiteConfig(name="n", title="t", tasks={"one": TASK}, models=MODELS).models["item_neighbours"]
    one, other = cycle(0), cycle(0)
    swapped = build_task(other.train, Rows(other.train.users[::-1], other.train.items), True)
    assert swapped.counts["to_find"] != one.counts["to_find"]
    chosen = [
        chosen_settings(config, ranking_task_of(inner_task(task, settings, 0), 0), settings, Progress())
        for task in (one, swapped)
    ]
    assert chosen[0][0] == chosen[1][0]
    assert chosen[0][1]["weightings"] == chosen[1][1]["weightings"] and chosen[0][0].history_weighting.kind != "auto"
    # what the choice hides are the last rows of what may be learned from
    inner = inner_task(one, settings, 0)
    assert len(inner.train.users) < len(one.train.users)
