"""Every command that can work on a cluster, on a real one of this machine: the same result as here, also where a
machine of it is killed in the middle."""

import os
import shutil
from pathlib import Path

import orjson
import pytest

from recsys_cli import cluster as of_cluster
from recsys_cli.cli.common import run
from recsys_cli.parcel import Parcel

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SETTINGS = """\
threads: 1
retrieval:
  two_tower: {enabled: false}
  als: {dim: 8, epochs: 2}
ranking: {choose: heavy, heavy: {kind: shared_bottom, epochs: 1, hidden: [16]}}
tuning: {enabled: false}
pipeline: {batch_size: 4}
evaluation: {resamples: 100, auc_resamples: 50}
"""
SPACE = """\
name: dims
search: {retrieval.als.dim: {choices: [4, 8, 12]}}
sampler: random
trials: 2
"""
STORE = 80 * 2**20


@pytest.fixture(scope="module")
def machines():
    """A cluster of two machines of one core that this process has joined."""
    ray = pytest.importorskip("ray", reason="the extra `distributed` is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_health_check_period_ms", "500")  # a machine that is gone is known to be soon
        patch.setenv("RAY_health_check_failure_threshold", "3")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
        head = {"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False}
        machines = Cluster(initialize_head=True, head_node_args=head)
        machines.add_node(num_cpus=1, object_store_memory=STORE)
        ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
        yield machines
        ray.shutdown()
        machines.shutdown()


@pytest.fixture
def killed(machines, monkeypatch):
    """A third machine, which is killed as soon as the first result of a command is there; how often that was."""
    doomed = machines.add_node(num_cpus=1, object_store_memory=STORE)
    machines.wait_for_nodes()
    wait, times = of_cluster.Cluster._wait, []

    def wait_and_kill(self, ref):
        found = wait(self, ref)
        if not times:
            times.append(1)
            machines.remove_node(doomed, allow_graceful=False)
        return found

    monkeypatch.setattr(of_cluster.Cluster, "_wait", wait_and_kill)
    yield times
    if not times:
        machines.remove_node(doomed)


@pytest.fixture(scope="module")
def place(tiny_dataset, tmp_path_factory) -> Path:
    """A folder with a dataset and a run that was trained here."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "recsys.yaml").write_text(SETTINGS + f"paths: {{data: {tiny_dataset}, artifacts: {folder}/artifacts}}\n")
    (folder / "space.yaml").write_text(SPACE)
    ok(folder, "train")
    return folder


def ok(folder: Path, *arguments: str) -> None:
    assert run([*arguments, "-c", str(folder / "recsys.yaml"), "--quiet", "-o", str(folder / "told.json")]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def recommended(place: Path, target: Path, *options: str) -> None:
    asked = ["recommend", "--all", "-n", "5", "-c", str(place / "recsys.yaml"), "-q", "-o", str(target)]
    assert run([*asked, *options]) == 0


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_slates_in_one_file_are_the_same_to_the_byte(place, machines, tmp_path, kind):
    recommended(place, tmp_path / f"here.{kind}")
    recommended(place, tmp_path / f"there.{kind}", "--engine", "ray")
    assert (tmp_path / f"here.{kind}").read_bytes() == (tmp_path / f"there.{kind}").read_bytes()


def test_shards_are_the_same_though_a_machine_is_killed(place, killed, tmp_path):
    shards = ("--shards", "7", "--format", "parquet", "--explain")
    recommended(place, tmp_path / "here", *shards)
    recommended(place, tmp_path / "there", *shards, "--engine", "ray")
    assert killed
    assert contents(tmp_path / "here") == contents(tmp_path / "there") != {}


def test_named_users_are_served_there_too_and_unknown_ones_refused(place, machines, tmp_path, capfd):
    (tmp_path / "users").write_text("1003\n1001\n99999999\n")
    asked = ["recommend", "--users-file", str(tmp_path / "users"), "-c", str(place / "recsys.yaml"), "-q", "-o"]
    for engine in ("local", "ray"):
        assert run([*asked, str(tmp_path / f"{engine}.csv"), "--engine", engine]) == 0
    assert (tmp_path / "local.csv").read_bytes() == (tmp_path / "ray.csv").read_bytes()
    assert run([*asked, str(tmp_path / "none.csv"), "--engine", "ray", "--no-fallback"]) == 6
    assert not (tmp_path / "none.csv").exists()
    assert run(["recommend", "--user", "1001", "-c", str(place / "recsys.yaml"), "--engine", "ray"]) == 2
    assert "csv, parquet or jsonl" in capfd.readouterr().err


def test_machines_that_do_not_see_the_run_are_sent_it(place, machines, tmp_path, monkeypatch):
    recommended(place, tmp_path / "here.csv")
    asked = []

    class Elsewhere(Parcel):
        """A folder that is at another place on the other machines."""

        def __getstate__(self):
            asked.append(len(self._chunks))
            return self.__dict__ | {"_root": Path("/nowhere")}

    monkeypatch.setattr(of_cluster, "Parcel", Elsewhere)
    recommended(place, tmp_path / "there.csv", "--engine", "ray")
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()
    assert asked[0] == 0 and asked[-1] > 1  # sent once a machine had said that it does not see it


def test_slates_go_to_a_bucket_whole(place, machines, tmp_path, bucket):
    recommended(place, tmp_path / "here", "--shards", "3", "--format", "csv")
    recommended(place, "s3://shop/slates", "--shards", "3", "--format", "csv", "--engine", "ray")
    read = lambda key: bucket.get_object(Bucket="shop", Key=key)["Body"].read()  # noqa: E731
    named = orjson.loads(read("slates/_export.json"))["files"]
    here = contents(tmp_path / "here")
    del here["_export.json"]
    assert [read(f"slates/{name}") for name in sorted(named)] == list(here.values())


def figures(document: object) -> object:
    """A report without what the clock tells."""
    if isinstance(document, dict):
        return {k: figures(v) for k, v in document.items() if not k.endswith(("seconds", "ms_per_user", "durations"))}
    return [figures(v) for v in document] if isinstance(document, list) else document


def test_an_evaluation_has_the_same_figures_though_a_machine_is_killed(place, killed):
    ok(place, "evaluate")
    here = orjson.loads((place / "told.json").read_bytes())
    ok(place, "evaluate", "--engine", "ray")
    assert killed
    assert figures(orjson.loads((place / "told.json").read_bytes())) == figures(here)


def bundle(artifacts: Path) -> dict[str, bytes]:
    run_id = (artifacts / "current").read_text().strip()
    return {
        f"{half}/{name}": content for half in ("bundle", "measured")
        for name, content in contents(artifacts / "runs" / run_id / half).items()
    }


def test_a_training_makes_the_same_bundles_though_a_machine_is_killed(place, killed, tmp_path):
    ok(place, "train", "--engine", "ray", "--artifacts-dir", str(tmp_path / "artifacts"))
    assert killed
    assert bundle(tmp_path / "artifacts") == bundle(place / "artifacts")


def test_a_study_has_the_same_trials_though_a_machine_is_killed(place, killed):
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    asked = ["tune", str(place / "space.yaml"), "--set", "windows.split=last"]
    ok(place, *asked)
    here = orjson.loads((place / "told.json").read_bytes())
    shutil.rmtree(place / "artifacts" / "studies")
    ok(place, *asked, "--engine", "ray", "--jobs", "2")
    assert killed
    there = orjson.loads((place / "told.json").read_bytes())
    assert [(t["settings"], t["figures"], t["state"]) for t in there["trials"]] == [
        (t["settings"], t["figures"], t["state"]) for t in here["trials"]
    ]
    assert there["default"] == here["default"] and len(there["trials"]) == 2


def lost(item: int) -> int:
    """A task whose worker dies each time."""
    os._exit(item)


def test_a_task_that_is_lost_every_time_is_told_with_what_to_do(machines):
    import test_on_ray

    from recsys_cli.cluster import RayConfig, tasks_of
    from recsys_cli.errors import RecsysError
    from recsys_cli.progress import Progress

    with (
        tasks_of("ray", RayConfig(retries=1), 1, Progress()) as tasks,
        pytest.raises(RecsysError, match=r"lost with its worker more often than ray\.retries"),
    ):
        list(tasks.map(test_on_ray.lost, [1]))
