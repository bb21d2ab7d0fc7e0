"""Texts in which some words tell, and a classifier fitted on them."""

from types import SimpleNamespace

import numpy as np
import pytest

RUDE, KIND = "idiot trash pathetic losers awful".split(), "lovely sunny garden music friends".split()
COMMON = "the a of today we you it is was and people talk about".split()


def labelled_texts(n=400, seed=0):
    """Short texts, a third of them rude; one word in twelve is from the other side."""
    rng = np.random.default_rng(seed)
    labels = rng.random(n) < 1 / 3
    texts = []
    for rude in labels:
        telling = [rng.choice(RUDE if (rng.random() > 1 / 12) == rude else KIND) for _ in range(2)]
        words = [*telling, *rng.choice(COMMON, 6)]
        rng.shuffle(words)
        texts.append(" ".join(words))
    return texts, labels


@pytest.fixture(scope="session")
def corpus():
    texts, labels = labelled_texts()
    later, truth = labelled_texts(200, seed=1)
    return SimpleNamespace(texts=texts, labels=labels, later=later, truth=truth)


@pytest.fixture(scope="session")
def fitted(corpus):
    from recsys_cli.safety.classifier import fit_text_classifier

    return fit_text_classifier(corpus.texts, corpus.labels, seed=3)


@pytest.fixture(scope="session")
def kept(fitted, tmp_path_factory):
    """An artifacts folder in which the classifier is kept as "toxicity"."""
    from recsys_cli.safety.models import publish

    place = tmp_path_factory.mktemp("artifacts")
    manifest = {"labels": {"text": ("text",), "rows": 400}, "metrics": {"test": {"roc_auc": 1.0, "pr_auc": 1.0}}}
    publish(place, "toxicity", "texts", manifest, fitted.export)
    return place
