"""The checkpoint of a safety classifier and what is served of it say the same, and the one makes the other again."""

import numpy as np
import pytest
import torch

from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.safety import checkpoints
from recsys_cli.safety.accounts import AccountClassifier, fit_account_classifier
from recsys_cli.safety.checkpoints import checkpoint_of, export_again, restore_classifier
from recsys_cli.safety.models import FOLDER, SafetyModels, publish

MANIFEST = {"labels": {"text": ("text",), "rows": 400}, "metrics": {}, "choices": {"C": {"tfidf": 1.0}}}


@pytest.fixture
def place(fitted, tmp_path):
    publish(tmp_path, "toxicity", "texts", MANIFEST, fitted.export, checkpoint_of(fitted))
    return tmp_path / FOLDER / "toxicity"


def test_both_forms_give_the_same_scores(place, corpus):
    model, manifest = restore_classifier(place / "classifier.pt")
    served = SafetyModels.load(place.parent).texts["toxicity"]
    np.testing.assert_allclose(served.scores(corpus.later), model.probabilities(corpus.later), atol=2e-6)
    assert manifest == served.manifest


def test_it_holds_tensors_and_plain_values_that_tell_all_there_is(place, fitted):
    content = torch.load(place / "classifier.pt", weights_only=True)["content"]
    np.testing.assert_array_equal(content["weights"].numpy(), fitted.weights)
    np.testing.assert_array_equal(content["keys"].numpy(), fitted.keys)
    assert content["calibration"] == {"scale": fitted.scale, "shift": fitted.shift}
    assert content["hashing"]["characters"] == [2, 5] and content["manifest"]["task"] == "toxicity"


def test_a_damaged_or_missing_served_form_is_written_again_byte_by_byte(place):
    before = {p.name: p.read_bytes() for p in place.iterdir()}
    (place / "model.onnx").write_bytes(b"damaged")
    (place / "ngrams.bin").unlink()
    (place / "manifest.json").unlink()
    with pytest.raises(ArtifactError):
        SafetyModels.load(place.parent)
    row = export_again(place)
    after = {p.name: p.read_bytes() for p in place.iterdir()}
    assert before.keys() == after.keys() and all(after[n] == before[n] for n in ("model.onnx", "ngrams.bin"))
    assert row["version"] == SafetyModels.load(place.parent).versions["toxicity"] and row["difference"] < 1e-6
    assert SafetyModels.load(place.parent).texts["toxicity"].manifest["labels"]["rows"] == 400


def test_a_graph_that_says_something_else_is_not_put_in_place(place, monkeypatch):
    before = (place / "model.onnx").read_bytes()
    real = checkpoints.TextClassifier.export

    def other(self, folder):
        weights, self.weights[:] = self.weights.copy(), -self.weights
        real(self, folder)
        self.weights[:] = weights

    monkeypatch.setattr(checkpoints.TextClassifier, "export", other)
    with pytest.raises(RecsysError, match="toxicity: graph and checkpoint differ by 0"):
        export_again(place)
    assert (place / "model.onnx").read_bytes() == before


def test_texts_taken_apart_otherwise_are_refused(place, monkeypatch):
    monkeypatch.setattr("recsys_cli.safety.text._SEEDS", {"words": np.uint64(1), "characters": np.uint64(3)})
    with pytest.raises(ArtifactError, match="other n-grams"):
        export_again(place)


def test_a_bundle_goes_without_and_a_classifier_without_cannot_be_made_again(place, tmp_path):
    SafetyModels.load(place.parent).copy_to(tmp_path / "bundle")
    assert not (tmp_path / "bundle/toxicity/classifier.pt").exists()
    SafetyModels.load(tmp_path / "bundle")  # whole all the same
    with pytest.raises(ArtifactError, match=r"toxicity has no checkpoint: .*classifier\.pt is missing"):
        export_again(tmp_path / "bundle" / "toxicity")
    (place / "classifier.pt").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match="not a checkpoint"):
        export_again(place)
    torch.save({"checkpoint_version": 1, "content": {"weights": torch.zeros(3)}}, place / "classifier.pt")
    with pytest.raises(ArtifactError, match="not a checkpoint of a safety classifier"):
        export_again(place)


def test_a_classifier_of_accounts_comes_back_too(tmp_path):
    rng = np.random.default_rng(0)
    features = {"items": rng.normal(2, 1, 60).astype(np.float32), "rate_hide": rng.random(60).astype(np.float32)}
    features["items"][::9] = np.nan
    model, _ = fit_account_classifier(features, np.arange(60), features["rate_hide"] > 0.5)
    manifest = {"features": list(features), "labels": {}, "metrics": {}, "choices": {}}
    folder = publish(tmp_path, "spam", "accounts", manifest, model.export, checkpoint_of(model))
    table = np.stack(list(features.values()), axis=1)
    expected = model.probabilities(table)
    back, _ = restore_classifier(folder / "classifier.pt")
    assert isinstance(back, AccountClassifier) and back.names == list(features)
    np.testing.assert_array_equal(back.probabilities(table), expected)
    (folder / "model.onnx").unlink()
    assert export_again(folder)["name"] == "author_spam"
    served = SafetyModels.load(tmp_path / FOLDER).accounts["spam"]
    np.testing.assert_allclose(served.probabilities(table), expected, atol=1e-5)
