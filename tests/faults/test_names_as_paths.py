"""A name that comes from a person or a file is one part of a path, and leads nowhere else."""

import json
import shutil
import subprocess
import sys

import orjson
import pytest

from recsys_cli import files
from recsys_cli.artifacts.runs import RunStore
from recsys_cli.benchmark.config import BenchmarkConfig
from recsys_cli.cli.common import run as main
from recsys_cli.config import resolve
from recsys_cli.data.dataset import read_manifest
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import ArtifactError, ConfigError, DataError
from recsys_cli.files import _HERE, inside, is_name
from recsys_cli.pipeline.bundle import BUNDLE_VERSION, read_bundle
from recsys_cli.safety.served import CLASSIFIER_VERSION, ServedClassifier
from recsys_cli.settings import Settings

HOSTILE = ["../../../victim", "..", ".", "", "/etc", "a/b", "a\\b", ".hidden", "a\0b", "a\n", "n" * 300, "a b", "-rf"]
MANIFEST = {
    "settings": {}, "seed": 1, "final": False, "dataset": {"path": "d", "name": "x", "digest": "00"},
    "windows": Windows(start=0, history_end=1, validation_start=2, test_start=3, end=4), "models_end": 3,
    "packages": {}, "durations": {}, "metrics": {},
}


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "artifacts")


def publish(store):
    (store.folder / "work" / "x" / "bundle").mkdir(parents=True)
    (store.folder / "work" / "x" / "bundle" / "part.bin").write_text("model")
    return store.publish(store.folder / "work" / "x", MANIFEST)


def rewrite(run, **changes):
    path = run.folder / "manifest.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | changes))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_no_name(name):
    assert not is_name(name)


@pytest.mark.parametrize("name", ["two_tower", "20260101-120000-2", "v1.2", "größe", "_x"])
def test_names_of_every_day_are_names(name):
    assert is_name(name)


def test_a_path_below_a_folder_stays_there_links_followed(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to("/etc")
    (tmp_path / "in" / "here").symlink_to("there")
    assert inside(tmp_path / "in", "a/b.bin") == tmp_path / "in" / "a" / "b.bin"
    assert inside(tmp_path / "in", "here/b") is not None
    for name in ("../x", "a/../../x", "/etc/passwd", "out/passwd", "a//b", "./a", "", "a\0"):
        assert inside(tmp_path / "in", name) is None, name


@pytest.mark.parametrize("name", HOSTILE)
def test_no_run_is_opened_used_or_deleted_outside_the_runs(store, tmp_path, name):
    publish(store)
    victim = shutil.copytree(publish(store).folder, tmp_path / "victim")
    before = sorted(p for p in tmp_path.rglob("*"))
    for do in (store.open, store.use, store.delete):
        with pytest.raises(ArtifactError, match="no run"):
            do(name)
    assert sorted(p for p in tmp_path.rglob("*")) == before and (victim / "manifest.json").is_file()


def test_the_command_refuses_with_the_code_of_a_missing_artifact(store, tmp_path, capsys):
    publish(store)
    shutil.copytree(publish(store).folder, tmp_path / "victim")
    for word in ("delete", "use", "show"):
        assert main(["runs", word, "../../victim", "--artifacts-dir", str(store.folder)]) == 5
    assert "no run" in capsys.readouterr().err and (tmp_path / "victim" / "manifest.json").is_file()


def test_the_pointer_leads_to_no_folder_outside_the_runs(store, tmp_path):
    shutil.copytree(publish(store).folder, tmp_path / "victim")
    (store.folder / "current").write_text("../../victim\n")
    with pytest.raises(ArtifactError, match="no run"):
        store.open()


def test_a_run_that_is_a_link_to_elsewhere_is_none(store, tmp_path):
    run = publish(store)
    shutil.move(run.folder, tmp_path / run.id)
    run.folder.symlink_to(tmp_path / run.id)
    with pytest.raises(ArtifactError, match="no run"):
        store.delete(run.id)
    assert (tmp_path / run.id / "manifest.json").is_file()


@pytest.mark.parametrize("claimed", ["../../evil", "20000101-000000", ""])
def test_a_manifest_of_another_name_than_its_folder_is_refused(store, claimed):
    run, second = publish(store), publish(store)
    rewrite(run, id=claimed)
    with pytest.raises(ArtifactError, match="not of"):
        store.use(run.id)
    assert (store.folder / "current").read_text() == f"{second.id}\n"


@pytest.mark.parametrize("name", ["bundle/../../../../secret", "/etc/passwd", "bundle/link", "../x"])
def test_a_manifest_names_no_file_outside_its_run(store, tmp_path, name):
    run = publish(store)
    (tmp_path / "secret").write_text("s")
    (run.bundle / "link").symlink_to(tmp_path / "secret")
    rewrite(run, files={name: {"bytes": 1, "digest": "00"}})
    with pytest.raises(ArtifactError, match="names a file elsewhere"):
        store.open(verify=False).verify(everything=True)


def test_an_interrupted_deletion_is_no_run(store):
    run, _ = publish(store), publish(store)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    aside = run.folder.with_name(f".{run.id}.{_HERE}-{dead.pid}-00000000.tmp")
    run.folder.rename(aside)
    assert run.id not in store.ids() and len(store.ids()) == 1
    files._swept.clear()
    publish(store)
    assert not aside.exists() and len(store.ids()) == 2


@pytest.mark.parametrize("name", [n for n in HOSTILE if n and "\0" not in n])
def test_a_source_of_a_hostile_name_is_refused_with_its_line(tmp_path, name):
    file = tmp_path / "c.yaml"
    file.write_text(f"seed: 1\nretrieval:\n  {json.dumps(name)}: {{kind: als}}\n")
    with pytest.raises(ConfigError, match=r"c\.yaml line 3: retrieval: '.*cannot be a name"):
        resolve(Settings, file=file)


def test_a_benchmark_of_a_hostile_name_is_refused():
    with pytest.raises(ValueError, match="cannot be a name"):
        BenchmarkConfig.model_validate({"name": "../../evil", "title": "t", "protocol": {"kind": "rating_folds"}})


def test_a_bundle_names_no_source_outside_itself(tmp_path, monkeypatch):
    from recsys_cli.pipeline import bundle

    monkeypatch.setattr(bundle, "load_arrays", lambda path: ({}, {}))
    monkeypatch.setattr(bundle.Catalogue, "from_arrays", lambda *_: None)
    monkeypatch.setattr(bundle.FeatureSpec, "from_json", lambda _: None)
    document = {"version": BUNDLE_VERSION, "features": {}, "sources": {"../../evil": {"kind": "als"}}}
    (tmp_path / "bundle.json").write_bytes(orjson.dumps(document))
    with pytest.raises(ArtifactError, match="evil"):
        read_bundle(tmp_path)


def test_a_dataset_names_no_table_outside_itself(tmp_path):
    table = {"rows": 1, "digest": "", "columns": {}}
    manifest = {"schema_version": 1, "name": "x", "tables": {"../../evil": table}, "actions": {}}
    (tmp_path / "dataset.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(DataError, match="evil"):
        read_manifest(tmp_path)


def test_a_classifier_names_no_file_outside_itself(tmp_path):
    (tmp_path / "spam").mkdir()
    (tmp_path / "secret").write_text("s")
    manifest = {"classifier_version": CLASSIFIER_VERSION, "files": {"../secret": "00"}}
    (tmp_path / "spam" / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactError, match="names a file elsewhere"):
        ServedClassifier.load(tmp_path / "spam")
