"""Clients of Gorse and of Metarank, unchanged, against this server."""

import time

import pytest
from gorse import Gorse, GorseException
from server_process import Server, copy_of


@pytest.fixture(scope="module")
def server(served_folder, tmp_path_factory):
    folder = copy_of(served_folder, tmp_path_factory.mktemp("compatible") / "place")
    running = Server.start(folder, "--set", "serving.compatibility=[gorse, metarank]")
    yield running
    assert running.stop() == 0


@pytest.fixture
def gorse(server) -> Gorse:
    return Gorse(server.url, "no key is set")


def test_gorses_client_gets_lists_with_scores_that_go_on_by_offset(gorse, engine):
    first = gorse.get_recommend("1003", n=5)
    assert [s.id for s in first] == [r.item_id for r in engine.recommend(1003, 5).items]
    assert [s.score for s in first] == sorted((s.score for s in first), reverse=True)
    assert [s.id for s in gorse.get_recommend("1003", n=5)] == [s.id for s in first]
    more = gorse.get_recommend("1003", n=3, offset=2)
    assert [s.id for s in more] == [s.id for s in first[2:]]


def test_gorses_client_narrows_by_category_and_writes_back_what_it_read(gorse):
    jazz = gorse.get_recommend("1007", category="jazz", n=3)
    assert jazz and all("jazz" in gorse.get_item(s.id)["Labels"] for s in jazz)
    read = gorse.get_recommend("1008", n=4, write_back_type="read")
    assert not {s.id for s in read} & {s.id for s in gorse.get_recommend("1008", n=50)}
    assert {f["ItemId"] for f in gorse.list_feedbacks("read", "1008")} == {s.id for s in read}


def test_gorses_client_brings_feedback(gorse):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    assert gorse.insert_feedback("like", "1009", "i3", now) == {"RowAffected": 1}
    pairs = (("star", "i4"), ("read", "i5"))
    several = [{"FeedbackType": t, "UserId": "1009", "ItemId": i, "Timestamp": now} for t, i in pairs]
    assert gorse.insert_feedbacks(several)["RowAffected"] == 2
    assert {f["ItemId"] for f in gorse.list_feedbacks("like", "1009")} == {"i3", "i4"}
    with pytest.raises(GorseException) as refused:
        gorse.insert_feedback("admire", "1009", "i3", now)
    assert refused.value.status_code == 400


def test_gorses_client_keeps_items_and_users(gorse):
    item = {"ItemId": "g1", "Labels": ["jazz"], "Categories": ["art"], "Comment": "a tune", "IsHidden": False,
            "Timestamp": "2024-03-05T00:00:00Z"}
    assert gorse.insert_item(item) == {"RowAffected": 1}
    held = gorse.get_item("g1")
    assert held["Labels"] == ["jazz", "art"] and held["Comment"] == "a tune" and held["IsHidden"] is False
    gorse.update_item("g1", is_hidden=True)
    assert gorse.get_item("g1")["IsHidden"] is True
    gorse.delete_item("g1")
    items, cursor = gorse.get_items(50)
    more, _ = gorse.get_items(50, cursor)
    assert len(items) == len(more) == 50 and not {i["ItemId"] for i in items} & {i["ItemId"] for i in more}
    assert gorse.insert_user({"UserId": "5001", "Labels": ["a"]}) == {"RowAffected": 1}
    assert gorse.get_user("5001")["UserId"] == "5001" and gorse.get_user("5001")["Labels"] == ["a"]
    assert gorse.insert_users([{"UserId": "5002"}, {"UserId": "5003"}])["RowAffected"] == 2
    users, _ = gorse.get_users(10)
    assert len(users) == 10
    assert gorse.delete_user("5001") == {"RowAffected": 1}
    with pytest.raises(GorseException) as gone:
        gorse.get_user("5001")
    assert gone.value.status_code == 404


def test_gorses_client_gets_neighbours_and_sessions(gorse, engine):
    near = gorse.get_neighbors("i5", n=3)
    assert [n["Id"] for n in near] == [n.id for n in engine.similar_items("i5", 3).nearest]
    told = [{"FeedbackType": "like", "UserId": "x", "ItemId": i, "Timestamp": f"2024-01-0{at}T00:00:00Z"}
            for at, i in ((3, "i30"), (1, "i10"), (2, "i20"))]
    session = gorse.session_recommend(told, n=4)
    assert [s["Id"] for s in session] == [r.item_id for r in engine.recommend_from(["i10", "i20", "i30"], 4).items]


def ranking(number="81f46c34", **more):
    """A request as Metarank's documentation has it."""
    return {
        "id": number, "timestamp": str(int(time.time() * 1000)), "user": "1004", "session": "session1",
        "fields": [{"name": "query", "value": "jeans"}, {"name": "source", "value": "search"}],
        "items": [{"id": "i3", "relevancy": 2.0}, {"id": "i1", "relevancy": 1.0}, {"id": "unknown", "relevancy": 0.5}],
        **more,
    }


def test_metaranks_ranking_comes_back_in_order_with_every_item(server):
    reply = server.post("/rank/xgboost", ranking()).json["items"]
    assert {i["item"] for i in reply} == {"i3", "i1", "unknown"} and reply[-1]["item"] == "unknown"
    told = server.post("/rank/xgboost?explain=true", ranking()).json["items"]
    assert {f["name"] for f in told[0]["features"]} >= {"click", "like"}
    assert server.post("/rank/xgboost", ranking(items=[])).status == 400


def test_metaranks_four_kinds_of_events_are_taken(server):
    now = str(int(time.time() * 1000))
    events = [
        {"event": "item", "id": "e1", "timestamp": now, "item": "m1",
         "fields": [{"name": "text", "value": "You favourite cat"}, {"name": "topics", "value": ["art"]}]},
        {"event": "user", "id": "e2", "timestamp": now, "user": "6001", "fields": [{"name": "age", "value": 33}]},
        {"event": "ranking"} | ranking("e3"),
        {"event": "interaction", "id": "e4", "ranking": "e3", "timestamp": now, "user": "1004", "type": "click",
         "item": "i1"},
    ]
    reply = server.post("/feedback", events).json
    assert reply["accepted"] == 6 and reply["status"] == "ok" and reply["tookMillis"] >= 0
    assert server.post("/feedback", events).json == reply | {"updated": 0, "tookMillis": pytest.approx(0, abs=10_000)}
    assert server.get("/v1/users/1004").json["history"][0] == "i1"
    assert server.get("/v1/items/m1").json["attributes"]["text"] == "You favourite cat"
    assert server.post("/feedback", {"event": "unheard", "timestamp": now}).status == 400
    assert server.post("/recommend/similar", {"count": 3, "items": ["i10"]}).json["items"]
    assert len(server.post("/recommend/trending", {"count": 3, "user": "1010"}).json["items"]) == 3


def test_these_paths_are_there_only_when_asked_for(served_folder):
    from recsys_cli.config import resolve
    from recsys_cli.settings import Settings

    assert resolve(Settings, file=served_folder / "recsys.yaml").config.serving.compatibility == []
