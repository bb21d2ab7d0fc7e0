"""A program that plays one person brings no more events than a person may, and is named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from server_process import Server

from recsys_cli.serving.events import Event
from recsys_cli.serving.user_limit import DAY_SECONDS, UserLimit


def test_a_days_worth_at_once_and_then_as_they_come_back():
    now = [0.0]
    limit = UserLimit(24, lambda: now[0])
    click = Event("click", user_id=7, item_id="1")
    first = limit.sift([click] * 30)
    assert (first.taken, first.over, first.named) == (list(range(24)), list(range(24, 30)), [24])
    now[0] = DAY_SECONDS / 24  # an hour later one has come back
    later = limit.sift([click, click, Event("click", user_id="8", item_id="1"), Event("user", user_id="7")])
    assert (later.taken, later.over, later.named) == ([0, 2, 3], [1], [])
    now[0] += DAY_SECONDS  # somebody who was quiet for a day and overdoes it again is named again
    assert limit.sift([click] * 25).named == [24]


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, DAY_SECONDS / 4)), max_size=80), st.integers(1, 10))
def test_nobody_brings_more_than_a_days_worth_and_what_came_back_meanwhile(events, a_day):
    now, taken = [0.0], {}
    limit = UserLimit(a_day, lambda: now[0])
    for user, wait in events:
        now[0] += wait
        if limit.sift([Event("click", user_id=user, item_id="1")]).taken:
            taken.setdefault(user, []).append(now[0])
    for moments in taken.values():
        for first in range(len(moments)):
            for last in range(first, len(moments)):
                within = a_day * (1 + (moments[last] - moments[first]) / DAY_SECONDS)
                assert last - first + 1 <= within + 1e-6


def test_a_bot_is_refused_and_named_and_others_go_on(folder):
    server = Server.start(folder, "--set", "serving.user_events_per_day=1000", "--set", "serving.warm_up=0")

    def batch(user, n, start):
        return [{"type": "click", "user_id": user, "item_id": "i1", "event_id": f"{user}-{start + k}"}
                for k in range(n)]

    answers = [server.post("/v1/events", batch(1001, 400, 400 * k)) for k in range(4)]
    assert [a.status for a in answers] == [200, 200, 200, 429]
    assert [a.json["accepted"] for a in answers[:3]] == [400, 400, 200]
    refused = answers[2].json["rejected"]
    assert [r["index"] for r in refused] == list(range(200, 400))
    assert refused[0]["reason"] == "user '1001' has brought more than 1,000 events within a day"
    assert answers[3].json["error"] == "too_many_events" and "1001" in answers[3].json["message"]
    both = server.post("/v1/events", batch(1001, 1, 5000) + batch(1002, 1, 0))
    assert both.status == 200 and both.json["accepted"] == 1 and both.json["rejected"][0]["index"] == 0
    assert server.get("/v1/recommend/1001?n=3").json["items"], "what it asks is answered"
    assert b'recsys_alerts_total{kind="user_events"} 1.0' in server.get("/metrics").body
    page = server.get("/dashboard/alerts").body.decode()
    assert "1001" in page and "more than 1,000 events within a day" in page
    assert server.stop() == 0, server.errors
