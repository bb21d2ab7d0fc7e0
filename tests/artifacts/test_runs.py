"""Runs are published whole, verified when opened, and the pointer moves in one step."""

import pytest

from recsys_cli.artifacts.runs import RunStore
from recsys_cli.data.windows.windows import Windows
from recsys_cli.errors import ArtifactError

MANIFEST = {
    "settings": {"seed": 1},
    "seed": 1,
    "final": False,
    "dataset": {"path": "data/x", "name": "x", "digest": "00"},
    "windows": Windows(start=0, history_end=1, validation_start=2, test_start=3, end=4),
    "models_end": 3,
    "packages": {"python": "3"},
    "durations": {"total": 1.0},
    "metrics": {},
}


def publish(store, content="model"):
    work = store.folder / "work" / "x"
    (work / "bundle").mkdir(parents=True)
    (work / "checkpoints").mkdir()
    (work / "bundle" / "part.bin").write_text(content)
    (work / "checkpoints" / "a.pt").write_text(content)
    return store.publish(work, MANIFEST)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "artifacts")


def test_the_published_run_is_the_current_one(store):
    run = publish(store)
    assert store.current() == run.id == store.open().id
    assert set(run.manifest.files) == {"bundle/part.bin", "checkpoints/a.pt"}
    assert not (store.folder / "work" / "x").exists()


def test_two_runs_of_the_same_second_get_names_of_their_own(store):
    ids = [publish(store).id for _ in range(3)]
    assert len(set(ids)) == 3 and store.ids() == sorted(ids)


def test_use_moves_back_and_delete_refuses_the_current(store):
    first, second = publish(store), publish(store)
    store.use(first.id)
    assert store.current() == first.id
    with pytest.raises(ArtifactError, match="in use"):
        store.delete(first.id)
    store.delete(second.id)
    assert store.ids() == [first.id]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda p: p.unlink(), "part.bin is missing"),
        (lambda p: p.write_text("mudel"), "part.bin was altered"),
        (lambda p: p.write_text("longer than before"), "part.bin was altered"),
    ],
)
def test_a_harmed_bundle_is_refused(store, harm, words):
    run = publish(store)
    harm(run.bundle / "part.bin")
    with pytest.raises(ArtifactError, match=words):
        store.open()


def test_a_harmed_checkpoint_is_found_by_the_full_check_only(store):
    run = publish(store)
    (run.checkpoints / "a.pt").write_text("mudel")
    opened = store.open()
    with pytest.raises(ArtifactError, match=r"a\.pt was altered"):
        opened.verify(everything=True)


@pytest.mark.parametrize("content", ["", "{", '{"run_version": 99}', '{"run_version": 1}'])
def test_a_damaged_manifest_is_refused(store, content):
    run = publish(store)
    (run.folder / "manifest.json").write_text(content)
    with pytest.raises(ArtifactError):
        store.open()


def test_no_run_and_a_misspelt_run_say_what_to_do(store):
    with pytest.raises(ArtifactError, match="recsys train"):
        store.open()
    run = publish(store)
    with pytest.raises(ArtifactError, match=f"did you mean '{run.id}'"):
        store.open(run.id[:-1])


def test_failed_publishing_leaves_the_current_run(store, monkeypatch):
    run = publish(store)
    with pytest.raises(ValueError, match="settings"):
        (store.folder / "work" / "x").mkdir(parents=True)
        store.publish(store.folder / "work" / "x", {**MANIFEST, "settings": "no mapping"})
    assert store.current() == run.id and store.ids() == [run.id]
