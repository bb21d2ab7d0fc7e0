"""Experiments on a real server: who gets what, what is logged, and what the commands read from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from server_process import Server, second_run

from recsys_cli.experiments.registry import ExperimentRegistry, variants_of
from recsys_cli.serving.events import arms_of, told_of
from recsys_cli.serving.overrides import laid_over

OVERRIDE = {"order": {"known": "popularity", "new": "popularity"}}
DEFINITION = {
    "name": "sources", "variants": {"control": {}, "popular": {"pipeline": OVERRIDE}}, "min_users": 2,
    "metrics": [
        "like_rate", "topics_per_slate", "return_rate", "sessions_per_user", "small_author_share", "flagged_rate",
    ],
}


def recsys(folder, *arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    command = [sys.executable, "-m", "recsys_cli", *arguments, "-c", "recsys.yaml"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def ids(slate):
    return [item["item_id"] for item in slate["items"]]


def test_variants_answer_and_their_exposures_are_analysed_from_the_log(server, engine):
    reply = server.post("/v1/experiments", DEFINITION)
    assert reply.status == 200 and reply.json["served"], reply.body
    registry = ExperimentRegistry(server.folder / "artifacts")
    users = [str(u) for u in range(1020, 1060)]
    expected = variants_of(registry.running(), users)["sources"]
    assert {*expected} == {"control", "popular"}
    ways = {"control": engine, "popular": engine.with_pipeline(laid_over(engine.pipeline, json.dumps(OVERRIDE)))}
    events, unlike, shown = [], 0, {"control": [], "popular": []}
    for user, variant in zip(users, expected, strict=True):
        slate = server.get(f"/v1/recommend/{user}?n=5").json
        assert slate["arms"] == {"sources": variant}
        lists = {name: [i.item_id for i in way.recommend(int(user), 5).items] for name, way in ways.items()}
        assert ids(slate) == lists[variant]
        shown[variant] += ids(slate)
        unlike += lists["control"] != lists["popular"]
        for place, item in enumerate(ids(slate)):
            told = {"user_id": user, "item_id": item, "request_id": slate["request_id"], "position": place}
            events.append({"type": "impression", **told})
            if place == 0 or variant == "popular":
                events.append({"type": "like", **told})
    assert server.post("/v1/events", events).json["accepted"] == len(events)
    assert unlike
    asked = server.post("/v1/recommend/1020?n=5", {"variants": {"sources": "popular"}}).json
    assert asked["arms"] == {"sources": "popular"}
    assert server.post("/v1/recommend/1020", {"variants": {"sources": "no"}}).status == 422
    near = server.post("/v1/recommend/1020", {"pipeline": {"diversity": {"nonsense": 1}}})
    assert near.status == 422 and "nonsense" in near.json["message"]
    listed = server.get("/v1/experiments").json["experiments"]
    assert [(e["name"], e["served"]) for e in listed] == [("sources", True)]
    time.sleep(0.3)  # what was served goes to the log behind the answer
    status = json.loads(recsys(server.folder, "ab-test", "status", "sources", "--format", "json").stdout)
    counts = {name: expected.count(name) for name in ("control", "popular")}
    assert status["exposed"] == counts
    done = recsys(server.folder, "ab-test", "report", "sources", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    rates = {m["metric"]: m for m in report["metrics"]}
    assert rates["like_rate"]["control"] == pytest.approx(1 / 5)
    assert rates["like_rate"]["treatment"] == pytest.approx(1.0)
    bundle = engine.bundle
    followers = bundle.state.author_followers
    few = set(np.argsort(followers, kind="stable")[: int(len(followers) * 0.9)].tolist())
    for name, arm in (("control", "control"), ("popular", "treatment")):
        items = bundle.item_ids.positions(shown[name])
        by_few = np.mean([int(bundle.catalogue.item_author[item]) in few for item in items])
        unsafe = np.mean([any(s[item] > 0.5 for s in bundle.catalogue.item_safety.values()) for item in items])
        assert rates["small_author_share"][arm] == pytest.approx(by_few)
        assert rates["flagged_rate"][arm] == pytest.approx(unsafe)
    assert server.post("/v1/experiments", DEFINITION).status == 422
    assert server.post("/v1/experiments/sources/stop", {"reason": "enough"}).json["state"] == "stopped"
    assert "arms" not in server.get("/v1/recommend/1020?n=3").json
    assert server.post("/v1/experiments/sources/stop").status == 409
    assert server.post("/v1/experiments/none/stop").status == 404


@pytest.mark.slow
def test_a_variant_that_is_another_run_is_answered_from_it_until_the_experiment_ends(folder):
    other = second_run(folder)
    server = Server.start(folder)
    try:
        first = server.get("/health/ready").json["run_id"]
        variants = {"control": {}, "next": {"run": other}}
        assert not server.post("/v1/experiments", DEFINITION | {"name": "runs", "variants": variants}).json["served"]
        until(lambda: server.get("/v1/experiments").json["experiments"][0]["served"])
        registry = ExperimentRegistry(folder / "artifacts")
        users = [str(u) for u in range(1020, 1040)]
        expected = variants_of(registry.running(), users)["runs"]
        assert {*expected} == {"control", "next"}
        for user, variant in zip(users, expected, strict=True):
            slate = server.get(f"/v1/recommend/{user}?n=5").json
            assert (slate["arms"], slate["run_id"]) == ({"runs": variant}, other if variant == "next" else first)
            assert server.post("/v1/events", {"type": "hide", "user_id": user, "item_id": ids(slate)[0]}).status == 200
            more = server.get(f"/v1/recommend/{slate['request_id']}/next?n=5").json
            again = server.get(f"/v1/recommend/{user}?n=5").json
            assert more["run_id"] == again["run_id"] == slate["run_id"]
            # each run remembers what it served
            assert len({*ids(slate), *ids(more), *ids(again)}) == len(ids(slate) + ids(more) + ids(again))
        treated = users[expected.index("next")]
        assert server.post("/v1/runs/" + other + "/promote").json["run_id"] == other
        assert server.get(f"/v1/recommend/{treated}?n=3").json["run_id"] == other
        assert server.post("/v1/experiments/runs/stop").status == 200
        assert server.get(f"/v1/recommend/{treated}?n=3").json.get("arms") is None
        until(lambda: not (folder / "artifacts" / "events" / "live" / "beside" / other).exists())
        gone = DEFINITION | {"name": "gone", "variants": {"control": {}, "next": {"run": "20990101-000000"}}}
        assert server.post("/v1/experiments", gone).status == 200
        until(lambda: "cannot be served" in "".join(server.get("/health/ready").json.get("reasons", [])))
        assert server.get("/v1/recommend/1021").status == 200
    finally:
        server.stop()


def until(true) -> None:
    since = time.monotonic()
    while not true():
        assert time.monotonic() - since < 90
        time.sleep(0.2)


def test_names_of_any_kind_come_back_from_the_log():
    names = {"bolder@2": "a=b&c", "x": "ü /"}
    assert arms_of(told_of(names)) == names and arms_of("") == {} and arms_of("treatment") == {"": "treatment"}


@pytest.mark.parametrize("method", ["team_draft", "optimised"])
def test_lists_of_an_interleaved_experiment_are_mixed_and_credited_from_the_log(server, engine, method):
    name = f"mixed-{method}"
    definition = {"name": name, "interleave": method, "variants": DEFINITION["variants"], "min_users": 2}
    reply = server.post("/v1/experiments", definition)
    assert reply.status == 200 and reply.json["served"], reply.body
    again = {"name": f"another-{method}", "interleave": "team_draft", "variants": DEFINITION["variants"]}
    assert not server.post("/v1/experiments", again).json["served"]
    assert any(f"{name} mixes lists already" in t for t in server.get("/v1/experiments").json["troubles"])
    assert server.post(f"/v1/experiments/another-{method}/stop").status == 200
    popular = engine.with_pipeline(laid_over(engine.pipeline, json.dumps(OVERRIDE)))
    events, differ, from_both = [], 0, 0
    first = 1060 if method == "team_draft" else 1075  # what was served lately is left out
    for user in map(str, range(first, first + 15)):
        slate = server.get(f"/v1/recommend/{user}?n=6").json
        assert slate["arms"] == {name: "interleaved"}
        mine, theirs = ([i.item_id for i in way.recommend(int(user), 6).items] for way in (engine, popular))
        shown = ids(slate)
        assert len(set(shown)) == 6 == len(shown) and {*shown} <= {*mine, *theirs}
        assert [i["rank"] for i in slate["items"]] == [1, 2, 3, 4, 5, 6]
        differ += mine != theirs
        from_both += bool({*shown} - {*mine}) and bool({*shown} - {*theirs})
        for item in shown:
            told = {"user_id": user, "item_id": item, "request_id": slate["request_id"]}
            events.append({"type": "impression", **told})
            if item in theirs and item not in mine:
                events.append({"type": "like", **told})
    assert differ and from_both
    assert server.post("/v1/events", events).json["accepted"] == len(events)
    time.sleep(0.3)
    done = recsys(server.folder, "interleave", "analyze", name, "--format", "json")
    assert done.returncode == 0, done.stderr
    pair = json.loads(done.stdout)["preferences"][0]
    assert (pair["a"], pair["b"]) == ("control", "popular") and pair["low"] > 0 and pair["share_b"] > 0.5
    told = recsys(server.folder, "interleave", "analyze", name)
    assert "people prefer popular to control" in told.stdout
    refused = recsys(server.folder, "ab-test", "report", name)
    assert refused.returncode == 4 and f"recsys interleave analyze {name}" in refused.stderr
    assert server.post(f"/v1/experiments/{name}/stop").json["state"] == "stopped"
