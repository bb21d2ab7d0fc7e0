"""The monitor: counts of days against the raw log, drift, alerts with hysteresis, and the report."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from recsys_cli.cli.common import run
from recsys_cli.config import validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.live.alerts import Alert, Sent, check_rules, follow, post
from recsys_cli.live.config import AlertRule, MonitorConfig
from recsys_cli.live.drift import jensen_shannon, population_stability_index
from recsys_cli.live.figures import daily_figures, figures_of, reference_of
from recsys_cli.live.rollup import DayStore, Described, counts_of_shown, roll_up, rows_of_log
from recsys_cli.serving.event_log import EventLog, read_log
from recsys_cli.serving.events import Event, EventRules, Served

DAY = 86_400_000_000
FIRST = 1_709_251_200_000_000 + 9 * DAY
"""2024-03-10, the day after the last of `tiny_dataset`."""
RULES = EventRules(actions=("click", "like", "repost", "follow", "hide"), late_days=10_000, integer_users=True)


def some_days(seed: int, days: range, answers: int = 40, clicks: float = 0.2) -> list[Event]:
    rng, out = np.random.default_rng(seed), []
    for day in days:
        for n in range(answers):
            moment = FIRST + day * DAY + int(rng.integers(0, DAY - DAY // 20))
            user, items = str(1000 + rng.integers(0, 60)), [f"i{i}" for i in rng.permutation(120)[:5]]
            request = f"{day}-{n}"
            sources = [str(rng.choice(["als", "popularity", "als+popularity", "trending"])) for _ in items]
            served = Served(items, "run", "", [], sources)
            out.append(Event("served", user, timestamp=moment, request_id=request, served=served))
            for place, item in enumerate(items):
                out.append(Event("impression", user, item, timestamp=moment + 1, request_id=request, position=place))
                for action, chance in (("click", clicks), ("hide", 0.02)):
                    if rng.random() < chance:
                        out.append(Event(action, user, item, timestamp=moment + 2, request_id=request))
                if rng.random() < 0.5:
                    out.append(Event("dwell", user, item, timestamp=moment + 3, request_id=request,
                                     dwell_seconds=float(rng.integers(1, 50))))
    return out


def filled(folder, events: list[Event]):
    with EventLog.open(folder, RULES, now=lambda: FIRST + 40 * DAY) as log:
        assert log.append(events).accepted == len(events)
    return folder


def raw_figures(folder, n_items: int) -> dict[dt.date, dict[str, float]]:
    """The figures counted event by event, in plain Python."""
    shown, acted, dwell, requests, items, sources = (defaultdict(list) for _ in range(6))
    for entry in read_log(folder):
        e = entry.event
        day = dt.datetime.fromtimestamp(e.timestamp / 1e6, dt.UTC).date()
        if e.type == "served":
            requests[day].append(e.request_id)
            items[day] += e.served.items
            sources[day] += e.served.sources
        elif e.type == "impression":
            shown[day].append(e.user_id)
        elif e.type == "dwell":
            dwell[day].append(e.dwell_seconds)
        else:
            acted[day].append(e.type)
    out = {}
    for day, people in shown.items():
        kinds, each = Counter(acted[day]), Counter(s for text in sources[day] for s in text.split("+"))
        alone = [text for text in sources[day] if set(text.split("+")) <= {"popularity", "trending"}]
        out[day] = {
            "shown": len(people), "users": len(set(people)), "requests": len(requests[day]), "served": len(items[day]),
            "click_through_rate": kinds["click"] / len(people), "negative_rate": kinds["hide"] / len(people),
            "dwell_seconds": sum(dwell[day]) / len(dwell[day]), "coverage": len(set(items[day])) / n_items,
            "fallback_share": len(alone) / len(items[day]), "source.als": each["als"] / len(items[day]),
        }
    return out


@pytest.fixture
def described(tiny_dataset) -> Described:
    return Described.of(Dataset.open(tiny_dataset), ("popularity", "trending"))


def test_rolled_up_figures_are_those_of_the_raw_log(described, tmp_path):
    folder = filled(tmp_path / "events", some_days(0, range(3)))
    rows = rows_of_log(folder, described.actions)
    DayStore(tmp_path).update(roll_up(rows, described, 10_000).days, trimmed=rows.trimmed)
    expected = raw_figures(folder, 120)
    daily = daily_figures(DayStore(tmp_path).read())
    assert list(daily) == sorted(expected) and len(daily) == 3
    for day, figures in expected.items():
        assert {n: daily[day][n] for n in figures} == pytest.approx(figures, rel=1e-6)


def test_days_outlive_a_trimmed_log_and_an_empty_day_has_zeros(described, tmp_path):
    folder = filled(tmp_path / "events", some_days(1, range(2)))
    store = DayStore(tmp_path)
    before = store.update(roll_up(rows_of_log(folder, described.actions), described, 10_000).days, trimmed=False)
    with EventLog.open(folder, RULES, now=lambda: FIRST + 40 * DAY) as log:
        log.append(some_days(2, range(3, 4)))
        log.trim(next(e.offset for e in read_log(folder) if e.event.timestamp >= FIRST + DAY) + 50)
    rows = rows_of_log(folder, described.actions)
    assert rows.trimmed
    after = store.update(roll_up(rows, described, 10_000).days, trimmed=rows.trimmed)
    assert {d: after[d] for d in before} == before and len(after) == 3
    daily = daily_figures(after)
    assert [f["shown"] for f in daily.values()] == [200, 200, 0, 200]


def test_a_day_of_bots_is_named_and_left_out(described, tmp_path):
    robot = [
        Event("impression", "1007", f"i{n % 120}", timestamp=FIRST + n * 1_000_000, request_id=f"bot-{n}")
        for n in range(600)
    ]
    folder = filled(tmp_path / "events", [*some_days(3, range(1)), *robot])
    rolled = roll_up(rows_of_log(folder, described.actions), described, 500)
    (day, counts), = rolled.days.items()
    assert rolled.bots == {day: ["1007"]} and counts["bots", ""] == 1
    assert counts["shown", ""] <= 200


def test_a_damaged_day_is_named(tmp_path):
    store = DayStore(tmp_path)
    store.update({dt.date(2026, 1, 1): {("shown", ""): 1.0}}, trimmed=False)
    (store.folder / "2026-01-01.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"2026-01-01\.parquet cannot be read"):
        store.read()


def test_drift_by_hand_and_by_scipy():
    first, second = {"a": 75.0, "b": 25.0}, {"a": 25.0, "b": 75.0}
    p, q = 75.5 / 101, 25.5 / 101
    assert population_stability_index(first, second) == pytest.approx(2 * (p - q) * np.log(p / q))
    assert population_stability_index(first, first) == 0 == jensen_shannon(first, first)
    assert jensen_shannon({"a": 1.0}, {"b": 3.0}) == pytest.approx(1)
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 50, (2, 9)).astype(float)
    own = jensen_shannon(dict(zip("abcdefghi", x, strict=True)), dict(zip("abcdefghi", y, strict=True)))
    assert own == pytest.approx(jensenshannon(x, y, base=2) ** 2)
    assert np.isnan(population_stability_index({}, first)) and np.isnan(jensen_shannon(first, {}))


def days_of(values: list[float], shown: float = 1_000.0) -> dict[dt.date, dict[str, float]]:
    return {dt.date(2026, 1, 1) + dt.timedelta(n): {"x": v, "shown": shown} for n, v in enumerate(values)}


def test_alerts_wait_for_their_window_and_end_only_well_within():
    rule = AlertRule(name="r", figure="x", above=1.0, days=2, clear_below=0.5, clear_days=2)
    #        beyond once: nothing; twice: raised; between the bounds: on; back twice: ended
    history = follow(rule, days_of([2, 0, 2, 2, 0.8, 0.4, 2, 0.4, 0.3, 2]))
    assert [(a.state, a.day.day) for a in history] == [
        ("raised", 4), ("on", 5), ("on", 6), ("on", 7), ("on", 8), ("ended", 9)
    ]
    below = AlertRule(name="r", figure="x", below=-0.3, clear_above=-0.1)
    assert [a.state for a in follow(below, days_of([0, -0.5, -0.2, 0]))] == ["raised", "on", "ended"]
    assert follow(rule, days_of([2, 2, 2], shown=10)) == []
    assert follow(rule, days_of([float("nan")] * 3)) == []


def test_rules_that_name_no_figure_are_told_the_nearest():
    with pytest.raises(ConfigError, match="click_thru_rate") as error:
        check_rules([AlertRule(name="r", figure="click_thru_rate", above=1)], {})
    assert "did you mean 'click_through_rate'" in str(error.value)
    with pytest.raises(ConfigError, match="asl") as error:
        check_rules([AlertRule(name="r", figure="source.asl", above=1)], days_of([1]) | {
            dt.date(2026, 2, 1): {"source.als": 0.5}
        })
    assert "'source.als'" in str(error.value)
    with pytest.raises(ConfigError, match="one of `above` and `below`"):
        check_rules([AlertRule(name="r", figure="shown")], {})
    assert validate(MonitorConfig, {"alerts": []}).alerts == ()


def test_quiet_days_raise_no_alert_and_a_planted_shift_is_told_on_its_day(tiny_dataset, described):
    dataset = Dataset.open(tiny_dataset)
    log, reference = dataset.table("impressions"), reference_of(dataset, described)
    rng = np.random.default_rng(4)
    start = dt.date(2026, 1, 1)
    days = {
        start + dt.timedelta(n): counts_of_shown(log[rng.integers(0, log.height, 600)], described) for n in range(90)
    }
    rules = MonitorConfig().alerts
    assert sum(a.state == "raised" for r in rules for a in follow(r, daily_figures(days, reference))) <= 1
    shifted = log.filter(log["surface"] == "search")  # a tenth of the sessions
    last = start + dt.timedelta(90)
    days[last] = counts_of_shown(shifted[rng.integers(0, shifted.height, 600)], described)
    daily = daily_figures(days, reference)
    drift = next(r for r in rules if r.figure == "psi.max")
    assert [(a.day, a.state) for a in follow(drift, daily)] == [(last, "raised")]
    assert daily[last]["psi.surface"] > 1 > 0.2 > daily[last]["psi.language"]


def test_calibration_is_what_happened_for_each_that_was_foretold():
    assert figures_of({("predicted", "click"): 20.0, ("observed", "click"): 30.0})["calibration.click"] == 1.5


class Hook(BaseHTTPRequestHandler):
    seen: list[dict] = []
    hang = threading.Event()

    def do_POST(self):
        if self.path == "/hang":
            self.hang.wait(20)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append(json.loads(body))
        self.send_response(204 if self.path == "/" else 500)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_webhooks_are_told_once_and_one_that_hangs_is_given_up(tmp_path):
    server = HTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    day = dt.date(2026, 1, 2)
    alert = Alert("drift", "raised", day, day, "psi.max", 0.7, 0.5)
    try:
        assert post(url + "/", [alert], 5) is None
        assert Hook.seen[0]["alerts"][0]["day"] == "2026-01-02"
        assert "drift raised: psi.max 0.7" in Hook.seen[0]["alerts"][0]["text"]
        assert "500" in post(url + "/broken", [alert], 5)
        assert "timed out" in post(url + "/hang", [alert], 0.2)
        assert "no http address" in post("file:///etc/passwd", [alert], 1)
    finally:
        Hook.hang.set()
        server.shutdown()
    sent = Sent(tmp_path)
    assert sent.new([alert]) == [alert]
    sent.add([alert])
    assert sent.new([alert]) == []


def test_the_report_as_a_person_asks_for_it(tiny_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "artifacts" / "events", [*some_days(5, range(3)), *some_days(6, range(3, 4), clicks=0.02)])
    (tmp_path / "c.yaml").write_text(
        "live: {monitor: {alerts: [{name: clicks, figure: click_through_rate_change, below: -0.3, fewest: 50, "
        "send: [log, exit]}]}}\n"
    )
    call = ["monitor", "report", "--data-dir", str(tiny_dataset), "-c", "c.yaml"]
    assert run([*call, "--days", "2", "--format", "json"]) == 1
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert [row["day"] for row in document["daily"]] == ["2024-03-12", "2024-03-13"]
    assert document["alerts_on"] == ["clicks"] and "alert: clicks raised" in told.err
    page = (tmp_path / "artifacts" / "monitor" / "report.html").read_text()
    assert "Click-through rate" in page and "2024-03-13" in page and "<script src" not in page
    assert run([*call, "--quiet"]) == 1
    told = capsys.readouterr()
    assert "alert: clicks" not in told.err and "alerts on: clicks" in told.out
    assert max(map(len, told.out.splitlines())) <= 100
    assert run([*call, "--set", "live.monitor.alerts=[{name: a, figure: coverge, above: 1}]"]) == 3
    assert "did you mean 'coverage'" in capsys.readouterr().err


def test_nothing_to_report_is_said(tiny_dataset, tmp_path, capsys):
    call = ["monitor", "report", "--data-dir", str(tiny_dataset), "--artifacts-dir", str(tmp_path / "none")]
    assert run(call) == 4 and "nothing was served" in capsys.readouterr().err
    assert run([*call, "--events", str(tmp_path)]) == 4 and "no log of events" in capsys.readouterr().err


def test_a_rare_bin_that_has_become_frequent_is_told_apart():
    before = {("bin.topic", f"t{n}"): 100.0 for n in range(100)} | {("shown", ""): 10_000.0}
    today = {("bin.topic", f"t{n}"): 100.0 for n in range(99)} | {("bin.topic", "t99"): 9_900.0}
    figures = figures_of(today, before)
    # 20 bins and the others fall to a half, one rises from 1 to 50 %
    assert figures["psi.topic"] == pytest.approx(0.49 * np.log(50) + 0.495 * np.log(2), rel=0.03)
