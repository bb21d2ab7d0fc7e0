"""Classifiers are kept whole, and score items that have no score of their own."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.errors import ArtifactError, RecsysError, UsageError
from recsys_cli.safety.models import FOLDER, SafetyModels, check_task, publish, texts_of


@pytest.fixture
def models(kept):
    return SafetyModels.load(kept / FOLDER)


@pytest.fixture(scope="module")
def catalogue(tiny_dataset):
    return Dataset.open(tiny_dataset).catalogue


def items_of(catalogue, texts):
    return pl.DataFrame({"text": (texts * catalogue.n_items)[: catalogue.n_items]})


def test_scores_of_the_dataset_come_first_and_unknown_ones_from_the_model(models, catalogue):
    toxicity = np.where(np.arange(catalogue.n_items) % 2, np.float32(0.25), np.float32(np.nan))
    given = replace(catalogue, item_safety={"toxicity": toxicity})
    filled, report = models.fill(given, items_of(catalogue, ["you idiot", "a garden", "", ""]))
    out = filled.item_safety["toxicity"]
    assert (out[1::2] == 0.25).all() and (out[0::4] > 0.5).all() and np.isnan(out[2::4]).all()
    n = catalogue.n_items
    version = models.versions["toxicity"]
    assert report == {
        "toxicity": {"items": n, "dataset": n // 2, "model": n // 4, "version": version, "unknown": n // 4}
    }
    assert np.isnan(toxicity[0])  # the catalogue that came in is as it was


def test_without_models_the_scores_stand_as_they_are(catalogue):
    filled, report = SafetyModels().fill(catalogue, items_of(catalogue, ["x"]))
    np.testing.assert_array_equal(filled.item_safety["nsfw"], catalogue.item_safety["nsfw"])
    assert report["nsfw"] == {"items": 120, "dataset": 120, "model": 0, "unknown": 0}


def test_items_that_arrive_are_scored_and_the_others_left_alone(models, catalogue):
    toxicity = np.full(catalogue.n_items, np.nan, np.float32)
    longer = replace(catalogue, item_safety={"toxicity": toxicity})
    filled, report = models.fill(longer, pl.DataFrame({"text": ["you idiot", "a garden"]}), first=118)
    out = filled.item_safety["toxicity"]
    assert np.isnan(out[:118]).all() and out[118] > 0.5 > out[119]
    assert report["toxicity"]["items"] == 2


def test_a_number_of_the_items_under_the_task_s_name_is_a_score(kept, catalogue):
    numbers = {**catalogue.item_numbers, "toxicity": np.linspace(-1, 2, catalogue.n_items, dtype=np.float32)}
    given = replace(catalogue, item_safety={}, item_numbers=numbers)
    _, report = SafetyModels.load(kept / FOLDER).fill(given, items_of(catalogue, [""]))
    assert report["toxicity"]["dataset"] == 40  # a third of them lies in [0, 1]


def test_the_text_of_an_item_is_its_text_else_its_title():
    frame = pl.DataFrame({"title": ["a", None], "topics": [["x", "y"], None]})
    assert texts_of(frame) == ["a", None]
    assert texts_of(frame, ("topics", "speaker")) == ["a topics__x topics__y", ""]
    assert texts_of(pl.DataFrame({"item_id": [1]})) == [None]


def test_a_copy_in_a_bundle_scores_alike(models, tmp_path):
    models.copy_to(tmp_path / "bundle")
    copy = SafetyModels.load(tmp_path / "bundle")
    items = pl.DataFrame({"text": ["you idiot trash", "friends"]})
    np.testing.assert_array_equal(copy.score(items)["toxicity"], models.score(items)["toxicity"])
    assert copy.versions == models.versions


def test_an_altered_or_missing_part_is_refused_by_name(models, tmp_path):
    models.copy_to(tmp_path)
    graph = tmp_path / "toxicity" / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"model\.onnx was altered"):
        SafetyModels.load(tmp_path)
    graph.unlink()
    with pytest.raises(ArtifactError, match=r"model\.onnx is missing"):
        SafetyModels.load(tmp_path)
    with pytest.raises(ArtifactError, match="toxcity") as error:
        SafetyModels.load(tmp_path, ["toxcity"])
    assert "did you mean 'toxicity'" in error.value.hint
    assert SafetyModels.load(tmp_path / "nothing").classifiers == {}


def test_a_failed_training_leaves_the_earlier_classifier(models, kept):
    def fails(folder):
        (folder / "model.onnx").write_bytes(b"half")
        raise RecsysError("stopped")

    with pytest.raises(RecsysError, match="stopped"):
        publish(kept, "toxicity", "texts", {}, fails)
    assert SafetyModels.load(kept / FOLDER).versions == models.versions
    assert [p.name for p in (kept / FOLDER).iterdir()] == ["toxicity"]


@pytest.mark.parametrize("task", ["combined", "author_spam", "Nsfw", "a/b", ""])
def test_names_that_cannot_be_tasks_are_refused(task):
    with pytest.raises(UsageError):
        check_task(task)
