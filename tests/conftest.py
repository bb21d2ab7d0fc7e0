"""Fixtures shared by all tests."""

from __future__ import annotations

import os

# as the program sets it before numpy is loaded
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, max_examples=50)
settings.load_profile("suite")
"""A machine that is busy must not fail a property; no example here is slow by itself."""

ROOT = Path(__file__).resolve().parent.parent
DAY = 86_400_000_000
TINY_START = 1_709_251_200_000_000
"""2024-03-01T00:00Z, when the log of `tiny_dataset` begins."""


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium whose console is logged, for the tests of one file."""
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no chromium and chromedriver to open pages in (Debian: chromium, chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public datasets; tests that ask for it carry the marker `shared_data`."""
    folder = Path(os.environ.get("RECSYS_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no public datasets at {folder} (set RECSYS_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session")
def kuairand_slice(shared_data, tmp_path_factory) -> Path:
    """Source files of every twentieth user of KuaiRand, for the shipped mapping: some 11,000 impressions."""
    source, folder = shared_data / "kuairand", tmp_path_factory.mktemp("kuairand")
    mine = pl.col("user_id").cast(pl.Int64) % 20 == 0
    for name in ("log_standard_4_25_to_5_08.parquet", "history_before_4_25.parquet"):
        pl.read_parquet(source / name).filter(mine).write_parquet(folder / name)
    users = pl.read_csv(source / "user_features_pure.csv", infer_schema=False)
    users.filter(mine).write_csv(folder / "user_features_pure.csv")
    shutil.copy(source / "video_features_basic_pure.csv", folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory) -> Path:
    """A dataset folder of 60 users, 120 items and 4,800 impressions over 8 days; see `tiny_tables`."""
    from recsys_cli.data.writer import write_dataset

    path = tmp_path_factory.mktemp("tiny") / "dataset"
    write_dataset(path, "tiny", tiny_tables(), TINY_ACTIONS, authors_are_users=True)
    return path


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The address of an empty PostgreSQL that ends with the tests."""
    pytest.importorskip("psycopg", reason="the extra `sql` is not installed")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="recsys-postgres-", dir="/tmp"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        # PostgreSQL does not run as root
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tools = found[-1].parent

    def call(*command: str) -> None:
        done = subprocess.run(
            [*as_user, *command], cwd="/", capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            pytest.skip(f"PostgreSQL does not start here: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")

    base = folder / "base"
    call(str(tools / "initdb"), "-D", str(base), "-U", "me", "-A", "trust", "-N", "-E", "UTF8", "--no-locale")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    call(str(tools / "pg_ctl"), "-D", str(base), "-o", options, "-w", "-l", str(folder / "log"), "start")
    try:
        yield f"postgresql://me@127.0.0.1:{port}/postgres"
    finally:
        call(str(tools / "pg_ctl"), "-D", str(base), "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


TINY_ACTIONS = {
    "click": "positive",
    "like": "positive",
    "repost": "positive",
    "follow": "positive",
    "hide": "negative",
}


def tiny_tables(seed: int = 7, users: int = 60, items: int = 120, days: int = 8) -> dict[str, pl.DataFrame]:
    """Tables of a little world in which taste matters: each user likes two of six topics.

    Users 1000, 1001, …; items "i0", "i1", …; the first third of the users write the items. People who share a
    topic follow each other; an item of a liked topic is clicked five times as often and never hidden.
    """
    rng = np.random.default_rng(seed)
    topics = np.array(["art", "chess", "cycling", "jazz", "physics", "travel"])
    taste = np.stack([rng.choice(6, 2, replace=False) for _ in range(users)])
    user_id = 1000 + np.arange(users)
    author = rng.integers(0, users // 3, items)
    topic = np.where(
        rng.random(items) < 0.8, taste[author, rng.integers(0, 2, items)], rng.integers(0, 6, items)
    )
    created = TINY_START + rng.integers(-2 * DAY, (days - 1) * DAY, items)
    words = [f"{topics[t]} notes number {i} about {topics[t]} #{topics[t]}" for i, t in enumerate(topic)]
    # a user has one session a day on average: two requests of five items each, half a minute apart
    sessions = days * users
    n = sessions * 10
    start = np.sort(TINY_START + rng.integers(0, days * DAY - 600_000_000, sessions))
    when = (start[:, None] + np.repeat([0, 60_000_000], 5)).ravel()
    user = np.repeat(rng.integers(0, users, sessions), 10)
    live = np.argsort(created)
    shown = live[(rng.random(n) * np.maximum(np.searchsorted(created[live], when), 1)).astype(int)]
    liked = (taste[user] == topic[shown][:, None]).any(axis=1)
    position = np.tile(np.arange(5), n // 5)
    click = rng.random(n) < np.where(liked, 0.5, 0.1) * (1 - 0.1 * position)
    like = click & (rng.random(n) < 0.4)
    return {
        "users": pl.DataFrame(
            {
                "user_id": user_id,
                "created_at": _time(TINY_START - rng.integers(1, 900, users) * DAY),
                "country": np.array(["de", "fr", "it"])[rng.integers(0, 3, users)],
                "age": rng.integers(16, 70, users),
            }
        ),
        "items": pl.DataFrame(
            {
                "item_id": [f"i{i}" for i in range(items)],
                "author_id": user_id[author],
                "created_at": _time(created),
                "text": words,
                "topics": [[str(topics[t])] for t in topic],
                "media_type": np.array(["text", "image", "video"])[rng.integers(0, 3, items)],
                "language": np.array(["en", "de"])[(rng.random(items) < 0.2).astype(int)],
                "toxicity": np.round(rng.beta(1, 12, items), 3),
                "nsfw": np.round(rng.beta(1, 20, items), 3),
            }
        ),
        "impressions": pl.DataFrame(
            {
                "user_id": user_id[user],
                "item_id": [f"i{i}" for i in shown],
                "timestamp": _time(when),
                "request_id": np.arange(n) // 5,
                "session_id": np.arange(n) // 10,
                "position": position,
                "surface": np.array(["home", "search"])[
                    np.repeat(rng.random(sessions) < 0.1, 10).astype(int)
                ],
                "device": np.array(["phone", "desktop"])[
                    np.repeat(rng.random(sessions) < 0.3, 10).astype(int)
                ],
                "propensity": rng.uniform(0.01, 1, n),
                "dwell_seconds": np.where(click, rng.gamma(2, 8, n), rng.gamma(1, 1, n)),
                "click": click,
                "like": like,
                "repost": like & (rng.random(n) < 0.3),
                "follow": like & (rng.random(n) < 0.05),
                "hide": ~liked & (rng.random(n) < 0.03),
            }
        ),
        "follows": _follows(rng, user_id, taste, users // 3),
        "blocks": pl.DataFrame(
            {"user_id": user_id[[5, 9]], "author_id": user_id[[0, 1]], "kind": ["block", "mute"]}
        ),
    }


def _time(microseconds: np.ndarray) -> pl.Series:
    return pl.Series(microseconds.astype(np.int64)).cast(pl.Datetime("us", "UTC"))


def _follows(rng, user_id: np.ndarray, taste: np.ndarray, authors: int) -> pl.DataFrame:
    shared = (taste[:, None, :, None] == taste[None, :authors, None, :]).any(axis=(2, 3))
    edge = rng.random(shared.shape) < np.where(shared, 0.4, 0.05)
    follower, followee = np.nonzero(edge & (np.arange(len(user_id))[:, None] != np.arange(authors)[None, :]))
    created = _time(TINY_START - rng.integers(1, 400, len(follower)) * DAY)
    return pl.DataFrame(
        {"follower_id": user_id[follower], "followee_id": user_id[followee], "created_at": created}
    )


@pytest.fixture(scope="module")
def bucket():
    """Environment of an S3 interface with the bucket `shop`, and a client of it."""
    boto3 = pytest.importorskip("boto3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    env = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret",
           "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="shop")
        yield client
    server.stop()
