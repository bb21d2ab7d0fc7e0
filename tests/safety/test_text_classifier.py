"""Text classifiers learn, say how sure they are, and are the same when served."""

import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from recsys_cli.errors import DataError
from recsys_cli.safety.classifier import fit_text_classifier, measure, thresholds
from recsys_cli.safety.models import FOLDER, SafetyModels


@pytest.fixture(scope="module")
def served(kept):
    return SafetyModels.load(kept / FOLDER).texts["toxicity"]


def test_it_tells_rude_texts_from_others_and_its_probabilities_are_calibrated(fitted, corpus):
    found = measure(corpus.truth, fitted.probabilities(corpus.later))
    assert found["roc_auc"] > 0.95 and found["ece"] < 0.1
    assert found["without_score"] == 0


def test_both_lives_give_the_same_scores(fitted, served, corpus):
    texts = [*corpus.later, corpus.later[0] * 200, "You IDIOT!!! http://x.y @you 123", "idiot"]
    np.testing.assert_allclose(served.scores(texts), fitted.probabilities(texts), atol=2e-6)


def test_a_text_scores_the_same_alone_and_in_a_batch(served, corpus):
    together = served.scores(corpus.later[:20])
    alone = [served.scores([text])[0] for text in corpus.later[:20]]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_texts_that_tell_nothing_have_no_score(served):
    assert np.isnan(served.scores(["", "   ", None, "零件"])).all()


def test_a_megabyte_costs_a_fraction_of_a_second(served):
    start = time.perf_counter()
    scores = served.scores(["the people " * 95_000, "x" * 1_000_000, "&" * 1_000_000])
    assert time.perf_counter() - start < 2.0
    assert np.isfinite(scores[0])


def test_the_same_seed_gives_the_same_classifier(fitted, corpus):
    again = fit_text_classifier(corpus.texts, corpus.labels, seed=3)
    np.testing.assert_array_equal(again.weights, fitted.weights)
    assert (again.scale, again.shift, again.choices) == (fitted.scale, fitted.shift, fitted.choices)


def test_serving_imports_neither_scikit_learn_nor_torch(kept):
    code = (
        "import sys\nfrom recsys_cli.safety.models import SafetyModels\n"
        f"model = SafetyModels.load({str(kept / FOLDER)!r}).texts['toxicity']\n"
        "assert model.scores(['you idiot'])[0] > 0.5\n"
        "print([m for m in ('sklearn', 'torch', 'scipy', 'polars') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_measures_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.3
    scores = np.clip(0.3 * labels + rng.normal(0.4, 0.2, 500), 0, 1)
    found = measure(labels, np.append(scores[:-1], np.nan))
    y, s = labels[:-1], scores[:-1]
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, s))
    assert found["pr_auc"] == pytest.approx(average_precision_score(y, s))
    precision, recall, _ = precision_recall_curve(y, s)
    assert found["precision_at_recall_0.9"] == pytest.approx(precision[recall >= 0.9].max())
    assert found["without_score"] == 1


def test_thresholds_are_those_that_keep_their_word():
    labels = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 0], bool)
    scores = np.linspace(0.99, 0.1, 14)
    by_name = {row["for"]: row for row in thresholds(labels, scores)}
    # the ten highest hold nine of the nine positives: nothing lower keeps a precision of nine in ten
    assert by_name["precision 0.9"]["threshold"] == pytest.approx(scores[9])
    assert by_name["precision 0.9"]["precision"] == pytest.approx(0.9)
    assert by_name["recall 0.9"]["recall"] == 1.0 and by_name["best F1"]["flagged_share"] == pytest.approx(10 / 14)


def test_too_few_texts_of_a_class_are_refused():
    with pytest.raises(DataError, match="3 positive"):
        fit_text_classifier(["a b"] * 3 + ["c d"] * 50, np.arange(53) < 3)


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("file", "options", "least"),
    [
        ("sms_spam.tsv", {"label": "Label", "positive": ("spam",), "text": ("SMS",)}, 0.995),
        (
            "liar_train.tsv",
            {"label": "2", "positive": ("false", "barely-true", "pants-fire"), "text": ("3",), "header": False},
            0.66,
        ),
    ],
)
def test_published_protocols(shared_data, tmp_path, file, options, least):
    from recsys_cli.safety.labels import LabelOptions
    from recsys_cli.safety.train import train_text_classifier

    folder = shared_data / "text"
    test = [folder / "liar_test.tsv"] if file.startswith("liar") else []
    done = train_text_classifier(
        tmp_path, "task", LabelOptions(**options), files=[folder / file], test_files=test, seed=0
    )
    assert done["metrics"]["test"]["roc_auc"] >= least


def test_a_text_that_stands_twice_is_on_one_side_of_every_split(corpus):
    from recsys_cli.safety.repeats import folds_of_texts, same_texts

    texts = [*corpus.texts, *(t.upper() + "  " for t in corpus.texts[:100]), *corpus.texts[:50]]
    labels = np.concatenate([corpus.labels, corpus.labels[:100], corpus.labels[:50]])
    groups = same_texts(texts)
    assert groups[400] == groups[0] == groups[500]
    for fit, rest in folds_of_texts(groups, labels, 4, 0):
        assert not set(groups[fit]) & set(groups[rest])
        assert sorted([*fit, *rest]) == list(range(550))
        assert 0.2 < labels[rest].mean() < 0.5


def test_labels_that_mean_nothing_score_nothing_though_every_text_stands_twice():
    # every text comes twice, under labels drawn at random: whoever sees one of the two knows the other
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}ing" for a in "bcdfgklmnprst" for b in ("al", "or", "en", "ip")])
    texts = [" ".join(rng.choice(words, 8)) for _ in range(150)]
    labels = rng.random(150) < 0.5
    model = fit_text_classifier([*texts, *texts], np.concatenate([labels, labels]), seed=0)
    assert measure(*model.validation)["roc_auc"] < 0.75
