"""The load test itself: when requests come, who asks, and that no stall is spared."""

import asyncio
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from scipy import stats

from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.serving.load import Load, arrivals, run_load, zipf_users
from recsys_cli.serving.loadtest import load_test, picture

SLATE = {"request_id": "r", "run_id": None, "items": [{"item_id": "a", "rank": 1}], "user_id": "u"}


class Stub:
    """A server that stalls once, for so many seconds, when it has answered so many requests."""

    def __init__(self, stall=0.0, after=10**9, status=200):
        self.stall, self.after, self.status, self.bodies = stall, after, status, []
        self.busy = None

    async def answer(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = [line.split(":")[1] for line in head.splitlines() if line.startswith("content-length:")]
                body = await reader.readexactly(int(length[0])) if length else b""
                self.bodies.append(body)
                if len(self.bodies) == self.after:
                    self.busy = asyncio.create_task(asyncio.sleep(self.stall))
                if self.busy is not None:
                    await self.busy
                told = b"{}" if body else json.dumps(SLATE).encode()
                if head.startswith("get /metrics"):
                    told = b"recsys_processor_seconds 1.5\nrecsys_resident_bytes 1048576\n"
                writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(told)}\r\n\r\n".encode() + told)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def start(self):
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        return server, server.sockets[0].getsockname()[1]


def run(stub: Stub, load: Load):
    async def both():
        server, port = await stub.start()
        async with server:
            return await run_load("127.0.0.1", port, load)

    return asyncio.run(both())


def test_arrivals_are_a_poisson_process():
    times = arrivals(500, 20, np.random.default_rng(1))
    assert abs(len(times) - 10_000) < 400 and (np.diff(times) >= 0).all()
    assert stats.kstest(np.diff(times), "expon", args=(0, 1 / 500)).pvalue > 0.01


def test_users_are_drawn_by_zipfs_law():
    drawn = np.bincount(zipf_users(50, 200_000, 1.0, np.random.default_rng(2)), minlength=50)
    counts = np.sort(drawn)[::-1] / drawn.sum()
    expected = 1 / np.arange(1, 51) / (1 / np.arange(1, 51)).sum()
    np.testing.assert_allclose(counts, expected, rtol=0.1)
    alike = np.bincount(zipf_users(50, 200_000, 0.0, np.random.default_rng(2)), minlength=50)
    assert stats.chisquare(alike).pvalue > 0.001


def test_whatever_was_due_while_a_server_stalled_is_counted_from_when_it_was_due():
    """Of two seconds the server stalls for one: half of all requests waited, half a second on average."""
    outcome = run(Stub(stall=1.0, after=100), Load(rate=200, seconds=2, users=["u"], connections=4))
    ms = np.array(outcome.ms)
    assert outcome.status[0, 200] == len(ms)
    assert 0.3 < (ms > 100).mean() < 0.75
    assert np.percentile(ms, 99) > 700 and ms.max() < 4_000


def test_events_act_on_what_was_answered():
    stub = Stub()
    outcome = run(stub, Load(rate=60, seconds=1, events=30, batch=3, users=["u"]))
    told = [event for body in stub.bodies if body for event in json.loads(body)]
    assert len(told) >= 30 and len({e["event_id"] for e in told}) == len(told)
    assert all(e["request_id"] == "r" and e["item_id"] == "a" and e["position"] == 0 for e in told)
    assert outcome.status[1, 200] * 3 == len(told)


def test_a_report_counts_failures_and_draws_them():
    ports, done = [], threading.Event()

    def serve():
        async def main():
            server, port = await Stub(status=503).start()
            ports.append(port)
            async with server:
                while not done.is_set():
                    await asyncio.sleep(0.02)

        asyncio.run(main())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        while not ports:
            pass
        found = load_test(f"127.0.0.1:{ports[0]}", Load(rate=50, seconds=1, users=["u"]))
    finally:
        done.set()
        thread.join()
    assert found.times[0].failed == found.times[0].requests > 20
    assert any("failed" in warning for warning in found.warnings)
    page = picture(found)
    assert "<svg" in page and "503" not in found.times[0].ms


def test_other_machines_are_not_asked_by_accident_and_silence_is_told():
    with pytest.raises(UsageError, match="another machine"):
        load_test("http://example.org", Load(rate=1, seconds=1, users=["u"]))
    with pytest.raises(RecsysError, match="no server answers"):
        load_test("http://127.0.0.1:9", Load(rate=1, seconds=1, users=["u"]))
    with pytest.raises(UsageError, match="no address"):
        load_test("ftp://x", Load(rate=1, seconds=1, users=["u"]))


def test_the_client_loads_next_to_nothing():
    heavy = ["numpy", "msgspec", "pydantic", "http.client", "asyncio", "starlette", "polars"]
    code = f"import sys, recsys_cli.serving.client; print([m for m in sys.modules if m in {heavy}])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_what_is_recorded_in_process_counts_in_the_next_list_and_is_in_the_log(folder):
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.serving.event_log import read_log

    engine = RecommendationEngine.load(folder / "artifacts")
    first = [r.item_id for r in engine.recommend(1003, 5).items]
    others = [r.item_id for r in engine.recommend(1004, 5).items]
    engine.record_interaction(1003, first[0], "like", dwell_time=12.5)
    assert first[0] not in [r.item_id for r in engine.recommend(1003, 50).items]
    assert [r.item_id for r in engine.recommend(1004, 5).items] == others
    with pytest.raises(UsageError, match="did you mean 'like'"):
        engine.record_interaction(1003, first[0], "lik")
    engine.close()
    entries = list(read_log(folder / "artifacts" / "events"))
    assert [(e.event.type, e.event.item_id, e.event.dwell_seconds) for e in entries] == [("like", first[0], 12.5)]
