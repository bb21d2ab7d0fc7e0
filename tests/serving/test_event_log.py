"""The log of events: what is acknowledged is on the disk, once."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.errors import DataError
from recsys_cli.serving.event_log import EventLog, read_log
from recsys_cli.serving.events import Event, EventRules, LogInUse, Served, StorageFull, check, microseconds
from recsys_cli.serving.log_file import DATABASE

NOW = 1_790_000_000_000_000
DAY = 86_400_000_000


def like(n, **more) -> Event:
    return Event("like", f"u{n}", f"i{n}", **more)


@pytest.fixture
def log(tmp_path):
    with EventLog.open(tmp_path / "log", now=lambda: NOW) as log:
        yield log


def test_events_come_back_in_order_from_any_offset(log):
    receipt = log.append([like(n, event_id=f"e{n}") for n in range(5)])
    assert (receipt.accepted, receipt.duplicates, receipt.rejected, receipt.offset) == (5, 0, [], 5)
    assert [(e.offset, e.event.item_id) for e in log.read(2)] == [(3, "i2"), (4, "i3"), (5, "i4")]
    assert [e.offset for e in log.read(1, limit=2)] == [2, 3]
    assert log.read(5) == []
    assert log.read(0)[0].event.timestamp == NOW


def test_an_event_id_counts_once_within_a_call_across_calls_and_across_starts(tmp_path):
    with EventLog.open(tmp_path) as log:
        assert log.append([like(1, event_id="a"), like(2, event_id="a"), like(3)]).duplicates == 1
        receipt = log.append([like(1, event_id="a"), like(4, event_id="b"), like(3)])
        assert (receipt.accepted, receipt.duplicates) == (2, 1)
    with EventLog.open(tmp_path) as log:
        assert log.append([like(1, event_id="b")]).duplicates == 1
        assert log.last_offset == 4


def test_refused_events_are_named_and_kept_with_their_reasons(log):
    receipt = log.append([like(1), Event("lik", "u", "i"), Event("like", "u"), Event("dwell", "u", "i")])
    assert receipt.accepted == 1
    assert [r.index for r in receipt.rejected] == [1, 2, 3]
    assert receipt.rejected[0].reason == "type 'lik' is unknown: did you mean 'like'?"
    assert receipt.rejected[1].reason == "like needs item_id"
    kept = log.rejects()
    assert [reason for _, reason, _ in kept][::-1] == [r.reason for r in receipt.rejected]
    assert '"type":"lik"' in kept[-1][2]


def test_old_rejects_make_room(log, monkeypatch):
    from recsys_cli.serving import event_log

    monkeypatch.setattr(event_log, "KEPT_REJECTS", 5)
    for n in range(4):
        log.append([Event(f"odd{n}{k}", "u", "i") for k in range(3)])
    assert len(log.rejects()) == 5 and "odd32" in log.rejects()[0][2]


def test_a_second_server_is_refused_and_readers_are_not(log, tmp_path):
    log.append([like(1)])
    with pytest.raises(LogInUse, match="a server that runs"):
        EventLog.open(tmp_path / "log")
    assert [e.event.user_id for e in read_log(tmp_path / "log")] == ["u1"]
    code = (
        "import sys; from recsys_cli.serving.event_log import EventLog\n"
        "from recsys_cli.serving.events import LogInUse\n"
        "try: EventLog.open(sys.argv[1])\nexcept LogInUse: sys.exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "log")]).returncode == 9


def test_what_is_no_log_is_refused(tmp_path):
    with pytest.raises(DataError, match="no log of events"):
        list(read_log(tmp_path))
    (tmp_path / DATABASE).write_bytes(b"not a database" * 100)
    with pytest.raises(DataError, match="damaged"):
        EventLog.open(tmp_path)


def test_threads_and_tasks_share_commits_and_lose_nothing(tmp_path):
    with EventLog.open(tmp_path) as log:

        def work(k):
            for n in range(30):
                assert log.append([like(n, event_id=f"{k}-{n}")]).accepted == 1

        threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
        for thread in threads:
            thread.start()

        async def tasks():
            async def one(k):
                for n in range(30):
                    receipt = await log.append_async([like(n, event_id=f"t{k}-{n}"), like(n, event_id="same")])
                    assert receipt.offset > 0

            await asyncio.gather(*(one(k) for k in range(6)))

        asyncio.run(tasks())
        for thread in threads:
            thread.join()
        entries = log.read(0, 10_000)
        assert [e.offset for e in entries] == list(range(1, 362))
        assert len({e.event.event_id for e in entries}) == 361


def test_a_receipt_is_given_when_readers_see_the_events(tmp_path):
    """Whoever has the receipt finds the events through a connection of its own."""
    with EventLog.open(tmp_path) as log:
        for n in range(10):
            offset = log.append([like(n)]).offset
            assert next(iter(read_log(tmp_path, offset - 1))).event.user_id == f"u{n}"


def test_a_full_disk_refuses_writing_and_goes_on_reading(tmp_path):
    """A real limit on the size of files, in a process of its own: the write fails as on a full disk."""
    with EventLog.open(tmp_path) as log:
        log.append([like(1, event_id="first")])
    code = """if True:
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        from recsys_cli.serving.event_log import EventLog
        from recsys_cli.serving.events import Event, StorageFull
        log = EventLog.open(sys.argv[1])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
        many = [Event('like', 'u' * 190, str(n)) for n in range(2000)]
        try:
            log.append([*many, Event('like', 'u', 'i', event_id='second')])
            sys.exit(7)
        except StorageFull as error:
            print(error)
        assert [e.event.event_id for e in log.read(0)] == ['first'], log.read(0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert log.append([Event('like', 'u', 'i', event_id='second')]).accepted == 1
        assert [e.offset for e in log.read(0)] == [1, 2]
    """
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "full" in done.stdout and "taken again at once" in done.stdout


def test_a_full_database_is_told_as_a_full_disk(log):
    pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
    log._writer.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFull):
        log.append([Event("like", "u" * 190, str(n)) for n in range(2000)])
    with pytest.raises(StorageFull):
        asyncio.run(log.append_async([Event("like", "u" * 190, str(n)) for n in range(2000)]))
    assert log.read(0) == [] and log.last_offset == 0


WRITER = """if True:
    import sys, threading
    from recsys_cli.serving.event_log import EventLog
    from recsys_cli.serving.events import Event
    log, turn, lock = EventLog.open(sys.argv[1]), sys.argv[2], threading.Lock()
    def work(k):
        n = 0
        while True:
            ids = [f"{turn}-{k}-{n}-{j}" for j in range(5)]
            receipt = log.append([Event("like", "u", "i", event_id=i) for i in ids])
            with lock:
                sys.stdout.write("".join(f"{i}\\n" for i in ids)); sys.stdout.flush()
            n += 1
    for k in range(4):
        threading.Thread(target=work, args=(k,)).start()
"""


def killed_often(folder, times, seconds) -> tuple[set[str], list[str]]:
    """Ids that were acknowledged before each kill -9, and those that the log holds at the end."""
    acknowledged: set[str] = set()
    for turn in range(times):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(turn)], stdout=subprocess.PIPE, text=True
        )
        acknowledged.add(process.stdout.readline().strip())
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        acknowledged |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
    return acknowledged, [e.event.event_id for e in read_log(folder)]


def test_kill_9_under_load_loses_no_acknowledged_event(tmp_path):
    acknowledged, held = killed_often(tmp_path, 3, 0.3)
    assert len(acknowledged) > 20
    assert acknowledged <= set(held)
    assert len(held) == len(set(held))


@pytest.mark.slow
def test_kill_9_a_hundred_times(tmp_path):
    acknowledged, held = killed_often(tmp_path, 100, 0.05)
    assert acknowledged <= set(held)
    assert len(held) == len(set(held))
    with EventLog.open(tmp_path) as log:  # a retry of everything adds nothing
        assert log.append([like(1, event_id=i) for i in sorted(acknowledged)][:20_000]).accepted == 0


def test_the_file_survives_its_integrity_check_after_a_kill(tmp_path):
    killed_often(tmp_path, 1, 0.2)
    with sqlite3.connect(tmp_path / DATABASE) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("2026-01-31T18:00:00Z", 1_769_882_400_000_000),
        ("2026-01-31T19:00:00.000001+01:00", 1_769_882_400_000_001),
        ("2026-01-31", 1_769_817_600_000_000),
        (1_769_882_400, 1_769_882_400_000_000),
        (1_769_882_400.5, 1_769_882_400_500_000),
        (1_769_882_400_123, 1_769_882_400_123_000),
        (1_769_882_400_123_456, 1_769_882_400_123_456),
        ("yesterday", None),
        (-5, None),
        (float("nan"), None),
        (1e30, None),
    ],
)
def test_moments_are_told_by_their_size(value, wanted):
    assert microseconds(value) == wanted


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (Event("like", "u", "i", timestamp=NOW + 299_000_000), None),
        (Event("like", "u", "i", timestamp=NOW + 301_000_000), "301 s ahead of the server's clock"),
        (Event("like", "u", "i", timestamp=NOW - 29 * DAY), None),
        (Event("like", "u", "i", timestamp=NOW - 31 * DAY), "31.0 days old"),
        (Event("like", "u\n", "i"), "user_id holds a control character"),
        (Event("like", "", "i"), "user_id has 0 characters"),
        (Event("like", "u" * 201, "i"), "user_id has 201 characters"),
        (Event("like", "u", "i", position=-1), "position -1"),
        (Event("like", "u", "i", propensity=0.0), "propensity 0.0"),
        (Event("dwell", "u", "i", dwell_seconds=float("nan")), "dwell_seconds nan"),
        (Event("follow", "u"), "needs item_id or author_id"),
        (Event("follow", "u", author_id="a"), None),
        (Event("served", "u", request_id="r", served=Served(["i"])), None),
        (Event("served", "u"), "served needs"),
        (Event("item", item_id="i", attributes={"text": "'; DROP TABLE events; --"}), None),
        (Event("item"), "item needs item_id"),
    ],
)
def test_what_is_accepted(event, reason):
    told = check(event, NOW, EventRules())
    assert told is None if reason is None else reason in told


def test_a_clock_that_is_a_little_ahead_is_set_right():
    event = Event("like", 7, 8, timestamp=NOW + 1_000_000)
    assert check(event, NOW, EventRules()) is None
    assert (event.timestamp, event.user_id, event.item_id) == (NOW, "7", "8")


def test_integer_ids_are_asked_for_where_the_data_has_integers():
    rules = EventRules(integer_users=True, integer_items=True)
    assert check(Event("like", "007", 8), NOW, rules) == "user_id '007' is no integer, as the ids of the data are"
    assert "item_id" in check(Event("like", 7, "x"), NOW, rules)
    assert check(Event("like", "-7", 8), NOW, rules) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.integers(1, 5))
def test_any_cut_of_the_same_events_makes_the_same_log(tmp_path_factory, ids, size):
    folder = tmp_path_factory.mktemp("cut")
    with EventLog.open(folder) as log:
        total = 0
        for start in range(0, len(ids), size):
            part = ids[start : start + size]
            receipt = log.append([like(n, event_id=n) for n in part])
            total += receipt.accepted
            assert receipt.accepted + receipt.duplicates == len(part)
        assert [e.event.event_id for e in log.read(0)] == list(dict.fromkeys(ids))
        assert total == len(set(ids)) == log.last_offset


def test_text_that_looks_like_sql_is_text(log):
    odd = ["'; DROP TABLE events; --", "<script>alert(1)</script>", "a/b/../c", "ид-пользователя", "%00"]
    log.append([Event("like", name, name, event_id=name) for name in odd])
    assert [e.event.item_id for e in log.read(0)] == odd


def test_a_log_is_trimmed_and_goes_on(tmp_path):
    with EventLog.open(tmp_path, now=lambda: NOW) as log:
        log.append([like(n, event_id=f"e{n}") for n in range(5000)])
        log.trim(0)
        size = (tmp_path / DATABASE).stat().st_size
        assert log.trim(4999) == 4999
        assert [e.offset for e in log.read(0)] == [5000]
        assert log.trim(5000) == 1
        assert (tmp_path / DATABASE).stat().st_size < size / 4
    with EventLog.open(tmp_path, now=lambda: NOW) as log:
        assert log.last_offset == 5000
        assert log.append([like(1, event_id="e1")]).offset == 5001
        assert [e.offset for e in log.read(0)] == [5001]


def test_how_far_a_source_was_read_is_written_with_what_was_read(tmp_path):
    with EventLog.open(tmp_path) as log:
        assert log.position("x") is None
        log.append([like(1)], positions={"x": "7"}, unreadable=[("no event", b"{")])
        pages = log._writer.execute("PRAGMA page_count").fetchone()[0]
        log._writer.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageFull):
            log.append([Event("like", "u" * 190, str(n)) for n in range(2000)], positions={"x": "8"})
        assert log.position("x") == "7" and log.rejects()[0][1:] == ("no event", "{")
    with EventLog.open(tmp_path) as log:
        assert log.position("x") == "7"


def test_whoever_is_erased_is_found_as_a_user_and_as_an_author_and_nobody_else(log):
    log.append([
        like(1), Event("follow", "u2", author_id="u1"), Event("like", "u11", "u1"),
        Event("follow", "u3", author_id="u11"), Event("odd", "u1", "i"), Event("odd", "u4", "i"),
    ])
    assert log.erase("u1") == 2
    left = [(e.event.type, e.event.user_id) for e in log.read(0)]
    assert left[:2] == [("like", "u11"), ("follow", "u3")] and left[2][0] == "erase" and "u1" not in left[2][1]
    assert len(log.rejects()) == 1
    assert log.last_offset == 5 and log.append([like(2)]).offset == 6


def test_a_log_of_another_layout_is_refused_with_what_to_do(tmp_path):
    import sqlite3

    EventLog.open(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "events.db")
    connection.execute("PRAGMA user_version=1")
    connection.close()
    for _ in range(2):  # and the lock is let go of
        with pytest.raises(DataError, match=r"layout 1.*layout 2") as refused:
            EventLog.open(tmp_path)
        assert "recsys train --events" in refused.value.hint
    with pytest.raises(DataError, match="layout 1"):
        list(read_log(tmp_path))


def test_what_was_just_written_is_read_as_it_stands_on_the_disk(tmp_path):
    served = Served(["i1", "i2"], "run", sources=["a+b", "c"], utilities=[0.5, 0.25])
    events = [
        *(Event("click", 7, f"i{k}", event_id=f"e{k % 40}", value=k, dwell_seconds=3) for k in range(60)),
        Event("item", item_id="new", attributes={"topics": ["a", "b"], "price": 3}),
        Event("served", "u", request_id="r", served=served),
        Event("nothing that is known", "u", "i"),
    ]
    with EventLog.open(tmp_path) as log:
        for k in range(0, len(events), 9):
            log.append(events[k : k + 9])
        disk = list(read_log(tmp_path))
        assert len(disk) == 42 == log.last_offset
        for after in range(43):
            assert log.read(after) == disk[after:] and log.read(after, 5) == disk[after : after + 5]
        log.erase("7")
        assert log.read(0) == list(read_log(tmp_path)) and all(e.event.user_id != "7" for e in log.read(0))
        log.append([Event("click", "v", "i1")])
        assert log.read(43) == list(read_log(tmp_path, 43)) and log.read(0) == list(read_log(tmp_path))
        log.trim(43)
        assert log.read(0) == list(read_log(tmp_path))
