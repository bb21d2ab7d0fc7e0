"""Safety classifiers as they were trained: `classifier.pt` beside what is served, and the served form made again of it.

The checkpoint holds what a served graph no longer tells apart (weights before calibration, the calibration, how texts
are hashed), as tensors and plain values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recsys_cli.artifacts.checkpoint import load_checkpoint, save_checkpoint
from recsys_cli.errors import ArtifactError, RecsysError
from recsys_cli.safety.accounts import AccountClassifier
from recsys_cli.safety.classifier import TextClassifier
from recsys_cli.safety.config import AUTHOR
from recsys_cli.safety.models import CHECKPOINT_FILE, publish
from recsys_cli.safety.served import CLASSIFIER_VERSION, ServedClassifier
from recsys_cli.safety.text import BLOCKS, LONGEST, MAX_CHARACTERS, SHORTEST, Grams, grams

HINT = "train it again with `recsys train-safety`"
TOLERANCE = 1e-5
"""Probabilities of the checkpoint and of the served form differ by less."""
COMPARED = 256
"""Rows on which they are compared."""
_PROBE = "It's 12 naïve Ｗｏｒｄｓ, @someone: www.example.org &amp; soft\u00adhyphens"


def hashing() -> dict:
    """How this program takes n-grams from a text; under "probe" a digest of those of one text, which changes with
    whatever changes them."""
    (_, _, found), = grams([_PROBE])
    probe = hashlib.blake2b(found.keys.astype("<u4").tobytes(), digest_size=16).hexdigest()
    return {
        "blocks": list(BLOCKS), "words": [1, 2], "characters": [SHORTEST, LONGEST], "most_characters": MAX_CHARACTERS,
        "probe": probe,
    }


def checkpoint_of(model: TextClassifier | AccountClassifier) -> Callable[[Path, dict], None]:
    """What `publish` calls to write the checkpoint of a classifier."""
    return lambda path, manifest: save_classifier(path, model, manifest)


def save_classifier(path: Path, model: TextClassifier | AccountClassifier, manifest: dict) -> None:
    """Write the checkpoint of a classifier with its manifest."""
    import torch

    def tensor(values: np.ndarray) -> torch.Tensor:
        # torch computes little with uint32, and a checkpoint should be read by any version of it
        return torch.from_numpy(np.ascontiguousarray(values, np.int64 if values.dtype.kind == "u" else values.dtype))

    if isinstance(model, TextClassifier):
        content = {
            "of": "texts", "hashing": hashing(), "keys": tensor(model.keys), "idf": tensor(model.idf),
            "weights": tensor(model.weights), "bias": float(model.bias),
            "calibration": {"scale": float(model.scale), "shift": float(model.shift)},
        }
    else:
        content = {
            "of": "accounts", "features": list(model.names), "mean": tensor(model.mean), "spread": tensor(model.spread),
            "weights": tensor(model.weights), "bias": float(model.bias),
        }
    save_checkpoint(path, {"classifier_version": CLASSIFIER_VERSION, "manifest": _plain(manifest), **content})


def restore_classifier(path: Path) -> tuple[TextClassifier | AccountClassifier, dict]:
    """The classifier and the manifest of a checkpoint.

    Raises ArtifactError where it is missing or damaged, of another version, or trained with other n-grams than this
    program takes from a text.
    """
    content = load_checkpoint(path)
    try:
        if content["classifier_version"] != CLASSIFIER_VERSION:
            raise ArtifactError(
                f"{path} is of version {content['classifier_version']}, this program reads {CLASSIFIER_VERSION}", HINT
            )
        if content["of"] == "texts":
            if content["hashing"] != hashing():
                raise ArtifactError(f"{path} was trained with other n-grams than this program takes", HINT)
            model = TextClassifier(
                content["keys"].numpy().astype(np.uint32), content["idf"].numpy(), content["weights"].numpy(),
                content["bias"], content["calibration"]["scale"], content["calibration"]["shift"],
                content["manifest"]["choices"], (np.zeros(0, bool), np.zeros(0)),
            )
        else:
            arrays = (content[name].numpy() for name in ("mean", "spread", "weights"))
            model = AccountClassifier(content["features"], *arrays, content["bias"])
        return model, content["manifest"]
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a checkpoint of a safety classifier: {error}", HINT) from None


def export_again(folder: Path) -> dict:
    """Write the served form of a classifier anew from the checkpoint beside it, whole or not at all.

    folder: below `artifacts/safety`; what is served there may be damaged or missing. Returns name, of, version, and
    "difference": the largest of a probability between checkpoint and graph. Raises ArtifactError as
    `restore_classifier`, and RecsysError where both disagree, which leaves the folder as it was.
    """
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        raise ArtifactError(f"{folder.name} has no checkpoint: {path} is missing", HINT)
    model, manifest = restore_classifier(path)
    of = "texts" if isinstance(model, TextClassifier) else "accounts"
    name = manifest.get("task") if of == "texts" else f"{AUTHOR}{manifest.get('task')}"
    if name != folder.name:
        raise ArtifactError(f"{path} is of {str(name)[:80]!r}, not of {folder.name}", HINT)
    difference = 0.0

    def write(place: Path) -> None:
        nonlocal difference
        model.export(place)
        difference = _difference(model, place)
        if difference > TOLERANCE:
            raise RecsysError(f"{folder.name}: graph and checkpoint differ by {difference:.2g}", HINT)

    kept = {k: v for k, v in manifest.items() if k not in ("files", "packages", "classifier_version")}
    publish(folder.parent.parent, manifest["task"], of, kept, write, checkpoint_of(model))
    served = ServedClassifier.load(folder)
    return {"name": folder.name, "of": of, "version": served.version, "difference": difference}


def _difference(model: TextClassifier | AccountClassifier, folder: Path) -> float:
    """The largest difference of a probability over rows made up of what the model knows."""
    served, rng = ServedClassifier(folder, {}), np.random.default_rng(0)
    if isinstance(model, AccountClassifier):
        table = (model.mean + model.spread * rng.normal(0, 2, (COMPARED, len(model.mean)))).astype(np.float32)
        table[rng.random(table.shape) < 0.1] = np.nan
        return float(np.abs(served.probabilities(table) - model.probabilities(table)).max())
    rows = np.repeat(np.arange(COMPARED), 20)
    keys = np.unique(np.stack([rows, rng.choice(model.keys, len(rows))]), axis=1)
    found = Grams(keys[0], keys[1].astype(np.uint32), rng.integers(1, 4, keys.shape[1]))
    return float(np.abs(served.scores_of(found, COMPARED) - model.probabilities_of(found, COMPARED)).max())


def _plain(manifest: dict) -> dict:
    """As JSON gives it back: nothing but plain values."""
    import orjson

    return orjson.loads(orjson.dumps(manifest, option=orjson.OPT_SERIALIZE_NUMPY))
