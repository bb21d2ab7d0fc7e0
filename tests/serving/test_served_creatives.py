"""Several titles of an item: the server says which to show, logs it, and learns from what comes of it."""

from __future__ import annotations

import time
from collections import Counter

import polars as pl
import pytest
from recent_data import recent
from server_process import CONFIG, Server, copy_of

from recsys_cli.serving.client import Client
from recsys_cli.serving.event_log import read_log
from recsys_cli.serving.fold_table import fold_of, table_of

STAGE = "  stages: {artwork: {kind: creatives, least: 0.02}}\n"


@pytest.fixture(scope="module")
def trained(tiny_dataset, tmp_path_factory):
    """A run whose items have two titles each, but every third, which has none."""
    from recsys_cli.config import resolve
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.data.writer import write_dataset
    from recsys_cli.settings import Settings
    from recsys_cli.training import train

    folder = tmp_path_factory.mktemp("creatives")
    recent(tiny_dataset, folder / "plain")
    held = Dataset.open(folder / "plain")
    tables = {name: held.table(name) for name in held.manifest.tables}
    ids = tables["items"]["item_id"].cast(pl.String).to_list()
    titles = [[] if k % 3 == 2 else [f"{i} plain", f"{i} loud"] for k, i in enumerate(ids)]
    tables["items"] = tables["items"].with_columns(pl.Series("creatives", titles, dtype=pl.List(pl.String)))
    actions = {name: info.polarity for name, info in held.manifest.actions.items()}
    write_dataset(folder / "data", "tiny", tables, actions, authors_are_users=True)
    (folder / "recsys.yaml").write_text(CONFIG.replace("pipeline:\n", f"pipeline:\n{STAGE}"))
    settings = resolve(Settings, file=folder / "recsys.yaml").config
    paths = {"data": str(folder / "data"), "artifacts": str(folder / "artifacts")}
    train(settings.model_copy(update={"paths": settings.paths.model_copy(update=paths)}))
    return folder


@pytest.mark.slow
def test_the_title_shown_is_told_logged_and_learned_from_at_once(trained, tmp_path):
    server = Server.start(copy_of(trained, tmp_path / "place"), "--set", "serving.served_seconds=0")
    with Client(server.url) as client:
        slates = [client.recommend(1001 + k % 20, n=10) for k in range(60)]
        listed = [(slate, item) for slate in slates for item in slate.items]
        several = [(slate, item) for slate, item in listed if item.creative is not None]
        assert 0 < len(several) < len(listed), "items without titles of their own have none"
        for _, item in several:
            number, text = item.creative["number"], item.creative["text"]
            assert text == f"{item.item_id} {('plain', 'loud')[number - 1]}"
            assert item.creative["propensity"] == pytest.approx(0.5, abs=0.01)
        numbers = Counter(item.creative["number"] for _, item in several)
        assert min(numbers[1], numbers[2]) > 0.3 * len(several), "one and the same pool is drawn from on every request"

        # strangers click on the top item wherever it has the loud title
        often = next(item.item_id for item in client.recommend(9_000, n=10).items if item.creative is not None)
        for stranger in range(9_001, 9_071):
            slate = client.recommend(stranger, n=10)
            mine = next(item for item in slate.items if item.item_id == often)
            told = {"user_id": stranger, "item_id": often, "request_id": slate.request_id}
            click = [{"type": "click", **told}] if mine.creative["number"] == 2 else []
            client.events([{"type": "impression", **told}, *click])
        end = time.monotonic() + 20
        while (loud := loud_share(client, often)) < 0.9 and time.monotonic() < end:
            time.sleep(0.1)
        assert loud > 0.9
    assert server.stop() == 0, server.errors

    events = server.folder / "artifacts" / "events"
    logged = {e.event.request_id: e.event.served for e in read_log(events) if e.event.type == "served"}
    for slate in slates:
        served = logged[slate.request_id]
        assert served.creatives == [0 if i.creative is None else i.creative["number"] for i in slate.items]
        assert served.creative_propensities == [0 if i.creative is None else i.creative["propensity"]
                                                for i in slate.items]
    table = table_of(fold_of(events, ("click",)))
    assert set(table["creative"].drop_nulls()) == {1, 2}
    assert table.filter(pl.col("click"))["creative"].unique().to_list() == [2]

    again = Server.start(server.folder, "--set", "serving.served_seconds=0")
    with Client(again.url) as client:  # learned from the log, within a second of the start
        time.sleep(1.5)
        assert loud_share(client, often) > 0.9
    assert again.stop() == 0, again.errors


def loud_share(client: Client, item_id) -> float:
    """The probability of an item's loud title, as an answer to somebody else tells it."""
    creative = next(item.creative for item in client.recommend(9_500, n=10).items if item.item_id == item_id)
    return creative["propensity"] if creative["number"] == 2 else 1 - creative["propensity"]
