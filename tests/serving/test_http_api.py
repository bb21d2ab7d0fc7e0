"""The API of a running server, as a client sees it."""

import json
import socket
import time
from urllib.parse import urlsplit

import pytest

from recsys_cli.serving.client import AsyncClient, Client, ServerError


@pytest.fixture
def client(server):
    with Client(server.url) as client:
        yield client


def test_a_list_is_that_of_the_engine(server, engine):
    for user in (1003, 1017, 1040):
        expected = [r.item_id for r in engine.recommend(user, 8).items]
        assert server.items(f"/v1/recommend/{user}?n=8") == expected


def test_a_stranger_gets_what_is_popular_and_is_told(server, engine):
    reply = server.get("/v1/recommend/9999?n=5").json
    assert reply["fallback"] == "unknown user" and len(reply["items"]) == 5
    assert [i["item_id"] for i in reply["items"]] == [r.item_id for r in engine.recommend(9999, 5).items]


def test_explanations_come_when_they_are_asked_for(server):
    plain = server.get("/v1/recommend/1011?n=2").json["items"][0]
    told = server.post("/v1/recommend/1012", {"n": 2, "explain": True}).json["items"][0]
    assert not plain.get("predictions") and not plain.get("reason")
    assert {"click", "like", "dwell_seconds"} <= set(told["predictions"]) and told["reason"]


def test_pages_go_on_without_repeats_until_there_is_nothing_left(client):
    slate = client.recommend(1020, n=10)
    seen = [i.item_id for i in slate]
    for _ in range(30):
        slate = client.next(slate)
        if not len(slate):
            break
        seen += [i.item_id for i in slate]
    assert len(seen) == len(set(seen)) > 30
    assert slate.next is None and len(client.next(slate)) == 0


def test_what_was_served_is_not_served_again_soon(server):
    assert not set(server.items("/v1/recommend/1021?n=5")) & set(server.items("/v1/recommend/1021?n=5"))


def test_what_the_caller_excludes_is_not_shown_and_topics_narrow(server):
    first = server.items("/v1/recommend/1022?n=3")
    again = server.post("/v1/recommend/1023", {"n": 20, "exclude": first, "topics": ["jazz"]}).json["items"]
    assert again and not set(first) & {i["item_id"] for i in again}
    for item in again:
        assert server.get(f"/v1/items/{item['item_id']}").json["attributes"]["topics"] == ["jazz"]


def test_context_is_taken_in_the_words_of_the_data(server):
    assert server.get("/v1/recommend/1001?n=3&surface=search&device=phone").status == 200
    refused = server.get("/v1/recommend/1001?surface=nowhere")
    assert refused.status == 422 and "home, search" in refused.json["hint"]


def test_the_callers_items_come_back_in_order_and_none_is_lost(server, engine):
    asked = ["i5", "i50", "none such", "i7", "i5"]
    reply = server.post("/v1/rank/1003", {"items": asked}).json["items"]
    assert sorted(i["item_id"] for i in reply) == ["i5", "i50", "i7", "none such"]
    assert reply[-1]["item_id"] == "none such" and "score" not in reply[-1]
    scores = [i["score"] for i in reply[:-1]]
    assert scores == sorted(scores, reverse=True)


def test_a_session_without_an_id_follows_what_was_engaged_with(server, engine):
    reply = server.post("/v1/session/recommend", {"items": ["i10", "i20", "i30"], "n": 6}).json
    expected = [r.item_id for r in engine.recommend_from(["i10", "i20", "i30"], 6).items]
    assert [i["item_id"] for i in reply["items"]] == expected
    assert "user_id" not in reply


def test_lists_of_everybody_and_likeness(server, engine):
    popular = server.get("/v1/popular?n=5").json["items"]
    counts = dict(zip(engine.bundle.item_ids.external(range(120)), engine.state.interactions.tolist(), strict=True))
    assert [i["score"] for i in popular] == sorted(counts.values(), reverse=True)[:5]
    created = [i["score"] for i in server.get("/v1/latest?n=20").json["items"]]
    assert created == sorted(created, reverse=True)
    near = server.get("/v1/items/i5/similar?n=3").json
    assert [n["id"] for n in near["nearest"]] == [n.id for n in engine.similar_items("i5", 3).nearest]
    assert server.get("/v1/items/zzz/similar").status == 404


def test_an_explanation_says_what_hides_an_item(server, engine):
    seen = engine.bundle.item_ids.external([int(engine.state.seen[3][0])])[0]
    assert "not_seen" in server.get(f"/v1/explain/1003/{seen}").json["hidden_by"]
    best = server.items("/v1/recommend/1033?n=1")[0]
    told = server.get(f"/v1/explain/1033/{best}").json
    assert told["rank"] == 1 and told["reason"] and not told.get("hidden_by")


def test_features_are_those_of_the_run(server, engine):
    told = server.get("/v1/features/1003/i5").json["features"]
    assert set(told) == {f.name for f in engine.bundle.spec.features}


def test_a_hide_counts_in_the_very_next_answer(client):
    first = client.recommend(1030, n=5)
    victim = first.items[0].item_id
    client.record_interaction(1030, victim, "hide", request_id=first.request_id)
    later = [i.item_id for i in client.recommend(1030, n=200)]
    assert later and victim not in later


def test_a_block_hides_everything_of_an_author_until_it_is_taken_back(server):
    item = server.get("/v1/recommend/1031?n=1").json["items"][0]
    author = item["author_id"]
    assert server.ask("PUT", f"/v1/users/1031/blocks/{author}").status == 200
    rest = server.get("/v1/recommend/1031?n=200").json["items"]
    assert author not in {i["author_id"] for i in rest}
    assert str(author) in server.get("/v1/users/1031").json["blocks"]
    server.ask("DELETE", f"/v1/users/1031/blocks/{author}")
    assert str(author) not in map(str, server.get("/v1/users/1031").json.get("blocks", []))


def test_somebody_new_gets_a_list_of_their_own_after_one_event(server):
    assert server.get("/v1/recommend/777001?n=5").json["fallback"] == "unknown user"
    server.post("/v1/events", {"type": "like", "user_id": 777001, "item_id": "i40"})
    reply = server.get("/v1/recommend/777001?n=5").json
    assert "fallback" not in reply
    assert "i40" not in [i["item_id"] for i in reply["items"]]
    assert server.get("/v1/users/777001").json["history"] == ["i40"]


def test_events_sent_again_count_once_and_what_is_refused_is_told(server):
    events = [
        {"type": "click", "user_id": 1005, "item_id": "i9", "event_id": "once"},
        {"type": "clack", "user_id": 1005, "item_id": "i9"},
        {"type": "served", "user_id": 1005, "item_id": "i9"},
        {"type": "click", "user_id": 1005, "item_id": "i9", "colour": "red"},
        {"type": "click", "user_id": 1005, "item_id": "i9", "dwell_seconds": "long"},
    ]
    first = server.post("/v1/events", events).json
    assert first["accepted"] == 1 and [r["index"] for r in first["rejected"]] == [1, 2, 3, 4]
    assert "did you mean 'click'" in first["rejected"][0]["reason"]
    again = server.post("/v1/events", events)
    assert again.json["duplicates"] == 1 and again.json.get("accepted", 0) == 0
    assert server.post("/v1/events", [events[1]]).status == 422


def test_events_may_come_a_line_each(server):
    line = b'{"type":"click","user_id":1006,"item_id":"i9"}\n'
    lines = line + b"\nno json\n" + line
    reply = server.post("/v1/events", lines, headers={"content-type": "application/x-ndjson"}).json
    assert reply["accepted"] == 2 and [r["index"] for r in reply["rejected"]] == [1]


def test_a_new_item_is_recommended_within_a_second_and_gone_once_it_is_taken_out(server):
    assert server.ask("PUT", "/v1/items/fresh1", {"author_id": 1001, "text": "jazz", "topics": ["jazz"]}).status == 200
    since, user = time.monotonic(), 1100
    while "fresh1" not in server.items(f"/v1/recommend/{user}?n=10"):  # somebody else each time: none was served it yet
        assert time.monotonic() - since < 20
        user += 1
    told = {item["item_id"]: item for item in server.get(f"/v1/recommend/{user + 50}?n=10&explain").json["items"]}
    assert told["fresh1"]["reason"] == "new" and "promoted" not in {item["reason"] for item in told.values()}
    assert server.items("/v1/latest?n=1") == ["fresh1"]
    assert server.get("/v1/items/fresh1").json["attributes"]["topics"] == ["jazz"]
    server.ask("DELETE", "/v1/items/fresh1")
    since = time.monotonic()
    while "fresh1" in server.items("/v1/latest?n=5"):
        assert time.monotonic() - since < 20
    assert server.get("/v1/items/fresh1").status == 404


def test_many_items_and_users_come_a_line_each(server):
    items = [{"item_id": f"b{i}", "author_id": 1002, "topics": ["art"]} for i in range(5)]
    lines = b"\n".join(json.dumps(item).encode() for item in items)
    reply = server.post("/v1/items/bulk", lines + b'\n{"author_id": 3}\nno\n').json
    assert reply["accepted"] == 5 and [r["index"] for r in reply["rejected"]] == [5, 6]
    assert server.post("/v1/users/bulk", b'{"user_id": 5, "country": "de"}').json["accepted"] == 1
    assert server.get("/v1/users/5").json["attributes"] == {"country": "de"}
    for i in range(5):
        server.ask("DELETE", f"/v1/items/b{i}")


def test_a_person_is_erased_from_state_and_log(server):
    server.post("/v1/events", [{"type": "like", "user_id": 888123, "item_id": f"i{i}"} for i in range(3)])
    request = server.get("/v1/recommend/888123?n=3").json["request_id"]
    erased = server.ask("DELETE", "/v1/users/888123").json["erased"]
    assert erased["events"] >= 3 and erased["requests"] == 1
    assert server.get("/v1/users/888123").status == 404
    assert server.get(f"/v1/recommend/{request}/next").status == 404
    assert server.get("/v1/recommend/888123?n=3").json["fallback"] == "unknown user"
    held = b"".join(p.read_bytes() for p in (server.folder / "artifacts" / "events").rglob("*") if p.is_file())
    assert b"888123" not in held


def test_ids_may_hold_anything_that_can_be_read(server):
    odd = {"a%2Fb": "a/b", "%C3%A9t%C3%A9": "été", "x%20y'%3B--": "x y';--", "%3Cscript%3E": "<script>"}
    for raw, told in odd.items():
        reply = server.ask("PUT", f"/v1/items/{raw}", {"text": "x"})
        assert reply.status == 200
        assert server.get(f"/v1/items/{raw}").json["item_id"] == told
        server.ask("DELETE", f"/v1/items/{raw}")
    for bad in ("%00", "%0A", "%FF", "x" * 201):
        assert server.get(f"/v1/items/{bad}").status in (400, 422)


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/events", b"{", 400),
        ("POST", "/v1/events", b"", 400),
        ("POST", "/v1/events", b'"x"', 422),
        ("POST", "/v1/events", b"\xff\xfe", 400),
        ("POST", "/v1/recommend/1001", b"[]", 422),
        ("POST", "/v1/recommend/1001", b'{"m": 3}', 422),
        ("POST", "/v1/recommend/1001", b'{"n": 0}', 422),
        ("GET", "/v1/recommend/1001?n=abc", None, 422),
        ("GET", "/v1/recommend/1001?n=100000", None, 422),
        ("GET", "/v1/recommend/1001?m=3", None, 422),
        ("GET", "/v1/recommend/nothing/next", None, 404),
        ("GET", "/v1/popular?n=-1", None, 422),
        ("POST", "/v1/rank/1001", b'{"items": []}', 422),
        ("PUT", "/v1/items/i1", b"[1]", 422),
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/", None, 404),
        ("DELETE", "/v1/popular", None, 405),
        ("GET", "/v1/../../etc/passwd", None, 404),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(server, method, path, body, status):
    reply = server.ask(method, path, body)
    assert reply.status == status, reply.body
    told = reply.json
    if "rejected" not in told:
        assert told["error"] and told["message"]
        assert "Traceback" not in reply.body.decode() and str(server.folder) not in reply.body.decode()


def test_a_body_that_is_too_large_is_refused(server):
    # the server need not wait for what it will not read: its answer may come, and the connection go, before all is sent
    with socket.create_connection((urlsplit(server.url).hostname, urlsplit(server.url).port), timeout=30) as line:
        line.sendall(b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
                     b"content-length: 2097152\r\n\r\n[")
        assert line.recv(1000).split()[1] == b"413"


def test_the_document_tells_of_every_path_and_lists_no_dangling_schema(server):
    document = server.get("/openapi.json").json
    assert document["openapi"].startswith("3.1") and len(document["paths"]) > 20
    names = set(document["components"]["schemas"])
    text = json.dumps(document)
    assert {"Slate", "Event", "Receipt", "Ask", "Problem"} <= names
    for ref in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert ref in names


def test_metrics_are_prometheus_text(server):
    from prometheus_client.parser import text_string_to_metric_families

    families = {f.name: f for f in text_string_to_metric_families(server.get("/metrics").body.decode())}
    assert {"recsys_requests", "recsys_request_seconds", "recsys_pool_bytes"} <= set(families)
    assert sum(s.value for s in families["recsys_pools_built"].samples if s.name.endswith("_total")) > 0


def test_health_says_which_run_is_served(server, engine):
    assert server.get("/health/live").json["status"] == "alive"
    ready = server.get("/health/ready").json
    assert ready["status"] == "ready" and ready["run_id"] == engine.manifest.id
    runs = server.get("/v1/runs").json["runs"]
    assert [r["id"] for r in runs if r.get("served")] == [engine.manifest.id]


def test_the_client_tells_what_the_server_says(server, client):
    with pytest.raises(ServerError, match="not known") as refused:
        client.request("GET", "/v1/users/424242")
    assert refused.value.status == 404
    with pytest.raises(ServerError, match="did you mean 'click'"):
        client.record_interaction(1001, "i1", "clik")
    with pytest.raises(ServerError, match="no answer") as silent:
        Client("http://127.0.0.1:9", retries=0).recommend(1)
    assert silent.value.status == 0
    assert client.ready() and client.rank(1003, ["i5", "i6"]).items[0].rank == 1
    assert client.similar_items("i5", 2) and client.session(["i1"]).items and client.listed("popular", 2).items


def test_the_client_can_be_awaited(server):
    import asyncio

    async def both():
        async with AsyncClient(server.url) as client:
            return await asyncio.gather(client.recommend(1041, 3), client.rank(1003, ["i5"]))

    slate, ranked = asyncio.run(both())
    assert len(slate) == 3 and ranked.items[0].item_id == "i5"
