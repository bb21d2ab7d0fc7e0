"""Simulated people who use a server."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from server_process import CONFIG, Server

from recsys_cli.config import validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.serving.client import Item, Slate
from recsys_cli.serving.playground import Pace, People
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate
from recsys_cli.world.simulator import World


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("world") / "data"
    generate(validate(WorldConfig, {"users": 40, "items": 200, "days": 4}), 1, path)
    return path


class Kept:
    """Stands where a client does: gives a list and keeps what is told."""

    def __init__(self, slates):
        self.slates, self.told, self.items = slates, [], {}

    def recommend(self, user_id, n, context):
        return self.slates(user_id, n, context)

    def events(self, events):
        self.told.append(events)

    def put_item(self, item_id, attributes):
        self.items[item_id] = attributes


def test_people_act_as_the_world_says_and_know_what_is_new(world_folder):
    world, dataset = World.open(world_folder), Dataset.open(world_folder)
    new = world.future_items(0)["item_id"][0].as_py()
    ids = [*dataset.item_ids.external(np.arange(40)), new, "nobody knows it"]
    asked = []

    def slates(user_id, n, context):
        asked.append((user_id, n, context))
        return Slate("r1", "run", [Item(i, at) for at, i in enumerate(ids, 1)], user_id)

    kept = Kept(slates)
    people = People(world, dataset.user_ids, dataset.item_ids, kept, kept)
    people.wake(0)
    assert new in kept.items and "created_at" not in kept.items[new] and kept.items[new]["author_id"] is not None
    assert people.come(0)
    visits = world.visits(0)
    first = int(np.argsort(visits.time, kind="stable")[0])
    user = dataset.user_ids.external([visits.user[first]])[0]
    assert asked == [(user, 10, {"surface": world.surfaces[visits.surface[first]],
                                 "device": world.devices[visits.device[first]]})]
    (events,) = kept.told
    positions = np.array([[*range(40), world.future_positions(0).start]])
    truth = world.respond(
        visits.user[first : first + 1], positions, visits.time[first : first + 1], visits.surface[first : first + 1],
        visits.device[first : first + 1], visits.depth[first : first + 1],
    )
    for name in ("click", "like", "hide"):
        want = {ids[at] for at in np.flatnonzero(truth[name][0])}
        assert {e["item_id"] for e in events if e["type"] == name} == want
    shown = [e["item_id"] for e in events if e["type"] == "impression"]
    assert shown == ids[:-1]
    assert {(e["request_id"], e["user_id"]) for e in events} == {("r1", user)}


def test_a_pace_is_even_and_what_was_late_is_not_caught_up():
    pace = Pace(50)
    started = time.monotonic()
    for _ in range(10):
        pace.wait()
    assert time.monotonic() - started >= 0.19
    time.sleep(0.2)
    started = time.monotonic()
    for _ in range(3):
        pace.wait()
    assert time.monotonic() - started >= 0.035


def test_data_of_ones_own_have_nobody_to_simulate(folder):
    import subprocess
    import sys

    said = subprocess.run(
        [sys.executable, "-m", "recsys_cli", "serve", "-c", "recsys.yaml", "--port", "0", "--playground"], cwd=folder,
        capture_output=True, text=True,
    )
    assert said.returncode == 4 and "there is nobody to simulate" in said.stderr
    assert len(said.stderr.strip().splitlines()) == 2


@pytest.mark.slow
def test_figures_move_from_nothing_on(tmp_path):
    (tmp_path / "recsys.yaml").write_text(CONFIG)
    server = Server.start(tmp_path, "--playground", wait=300)
    try:
        seen = []
        for _ in range(240):
            page = server.get("/dashboard").body.decode()
            found = re.search(r"<dt>answers a minute</dt><dd>([\d.,]+)</dd>", page)
            seen.append(float(found[1].replace(",", "")))
            rate = re.search(r"<dt>click-through, last hour</dt><dd>([\d.]+) %</dd>", page)
            if seen[-1] > 0 and rate and len({*seen}) > 2:
                break
            time.sleep(0.5)
        assert rate and float(rate[1]) > 0 and "trending" in page
        children = server.get("/dashboard/requests").body.decode()
        assert children.count("<tr>") > 1
    finally:
        assert server.stop() == 0, server.errors
    assert any("simulated people come" in line for line in server.errors)
