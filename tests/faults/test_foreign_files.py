"""A folder that a command writes loses nothing but what an earlier output of the same kind put there."""


import polars as pl
import pytest

from recsys_cli.answers import export
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.derive import sample_dataset, split_dataset
from recsys_cli.data.importer.append import append_dataset
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.errors import UsageError
from recsys_cli.files import atomic_dir
from recsys_cli.progress import Progress
from recsys_cli.safety.models import publish
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate

COLUMNS = {"user_id": "u", "item_id": "i", "timestamp": {"column": "t", "unit": "s"}}
MAPPING = Mapping.model_validate(
    {"name": "x", "impressions": {"files": "log.csv", "columns": COLUMNS, "actions": {"click": {"value": True}}}}
)
WORLD = WorldConfig(users=20, items=60, days=3, impressions_per_user=10, horizon_days=1)


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "from"
    folder.mkdir()
    rows = "".join(f"{n % 5},{n % 7},{1_600_000_000 + 86_400 * n}\n" for n in range(60))
    (folder / "log.csv").write_text("u,i,t\n" + rows)
    return folder


def slates(target, shards):
    """An export of no slates, which makes the same files as one of many."""

    def write(stream, start, stop, advance):
        return export.write_rows(stream, iter(()), "csv")

    return export.write_slates(write, 4, target, "csv", shards=shards, progress=Progress())


def writers(source, tmp_path):
    imported = tmp_path / "imported"
    import_dataset(MAPPING, source, imported)
    dataset = Dataset.open(imported)
    later = tmp_path / "later"
    later.mkdir()
    (later / "log.csv").write_text("u,i,t\n1,2,1700000000\n")
    return {
        "export": lambda to: slates(to, 2),
        "import": lambda to: import_dataset(MAPPING, source, to),
        "append": lambda to: append_dataset(MAPPING, later if to.exists() else source, to),
        "sample": lambda to: sample_dataset(dataset, to, 3),
        "split": lambda to: split_dataset(dataset, to, WindowsConfig()),
        "apart": lambda to: split_dataset(dataset, to, WindowsConfig(), apart=True),
        "generate": lambda to: generate(WORLD, 1, to),
    }


@pytest.mark.parametrize("kind", ["export", "import", "append", "sample", "split", "apart", "generate"])
def test_a_command_replaces_its_own_output_and_refuses_to_lose_anything_else(source, tmp_path, kind):
    write = writers(source, tmp_path)[kind]
    target = tmp_path / "out"
    write(target)
    write(target)  # its own output is in nobody's way
    for place in ("thesis.txt", "notes/deep/plan.txt", "part-99999.csv"):
        file = target / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("precious")
        before = content(target)
        with pytest.raises(UsageError, match=place):
            write(target)
        assert content(target) == before
        file.unlink()
    write(target)


@pytest.mark.parametrize("kind", ["export", "import", "sample", "split", "apart", "generate"])
def test_a_folder_without_our_manifest_is_left_alone(source, tmp_path, kind):
    write = writers(source, tmp_path)[kind]
    target = tmp_path / "out"
    target.mkdir()
    write(target)
    for manifest in list(target.rglob("*.json")):
        manifest.write_text('{"files": ["mine"], "tables": []}')
    before = content(target)
    with pytest.raises(UsageError):
        write(target)
    assert content(target) == before


def test_parts_of_an_export_that_were_altered_are_no_longer_its_own(tmp_path):
    slates(tmp_path / "out", 2)
    (tmp_path / "out" / "part-00001.csv").write_text("what I found")
    with pytest.raises(UsageError, match="part-00001"):
        slates(tmp_path / "out", 2)


def test_forced_generation_goes_beside_foreign_files_and_over_none(tmp_path):
    target = tmp_path / "out"
    (target / "notes").mkdir(parents=True)
    (target / "notes" / "plan.txt").write_text("precious")
    (target / "link").symlink_to("/etc")
    inode = (target / "notes" / "plan.txt").stat().st_ino
    for seed in (1, 2):
        generate(WORLD, seed, target, keep=True)
        assert (target / "notes" / "plan.txt").stat().st_ino == inode and (target / "link").is_symlink()
        assert Dataset.open(target).manifest.origin["seed"] == seed
    (target / "users.parquet").unlink()
    (target / "users.parquet").symlink_to(target / "items.parquet")
    before = content(target)
    with pytest.raises(UsageError, match=r"users\.parquet"):
        generate(WORLD, 3, target, keep=True)
    assert content(target) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_that_came_while_the_output_was_made_stays(tmp_path):
    target = tmp_path / "out"
    with pytest.raises(UsageError, match=r"late\.txt"), atomic_dir(target, ours=lambda folder: {"a"}) as folder:
        (folder / "a").write_text("new")
        target.mkdir()
        (target / "late.txt").write_text("precious")
    assert content(target) == {"late.txt": b"precious"}


def test_splitting_apart_never_takes_the_place_of_another_dataset(source, tmp_path):
    write = writers(source, tmp_path)
    write["import"](tmp_path / "out" / "train")
    before = content(tmp_path / "out")
    with pytest.raises(UsageError, match="train/"):
        write["apart"](tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_a_placeholder_of_a_repository_is_in_nobodys_way_and_stays(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".gitkeep").touch()
    import_dataset(MAPPING, source, tmp_path / "out")
    assert (tmp_path / "out" / ".gitkeep").is_file() and Dataset.open(tmp_path / "out").log is not None


def test_a_link_to_a_folder_is_followed(source, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    for _ in range(2):
        import_dataset(MAPPING, source, tmp_path / "out")
    assert (tmp_path / "out").is_symlink() and pl.read_parquet(tmp_path / "disk" / "users.parquet").height == 5
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_notes_beside_a_classifier_outlive_its_next_training(tmp_path):
    for version in (b"one", b"two"):
        folder = publish(tmp_path, "spam", "texts", {}, lambda place, v=version: (place / "model.onnx").write_bytes(v))
        (folder / "notes.txt").write_text("precious")
    folder = publish(tmp_path, "spam", "texts", {}, lambda place: (place / "model.onnx").write_bytes(b"three"))
    assert (folder / "notes.txt").read_text() == "precious" and (folder / "model.onnx").read_bytes() == b"three"
