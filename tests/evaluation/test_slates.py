"""Slates of any system: read, packed and judged as by hand and by ir-measures."""

from __future__ import annotations

import json
import math

import ir_measures
import numpy as np
import polars as pl
import pytest
from ir_measures import AP, RR, P, R, Rprec, Success, nDCG
from polars.testing import assert_frame_equal
from scipy.stats import ttest_ind, ttest_rel

import recsys_cli
from recsys_cli.errors import DataError, UsageError
from recsys_cli.evaluation import ranking_metrics as rm
from recsys_cli.evaluation.paired import compare, correct, holm, sentence
from recsys_cli.evaluation.slates.evaluate import evaluate
from recsys_cli.evaluation.slates.segments import by_segment, labels_of, worst

SLATES = pl.DataFrame({"user_id": [1, 1, 1, 2, 2], "item_id": [7, 8, 9, 7, 8], "rank": [1, 2, 3, 1, 2]})
TRUTH = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [8, 5, 7]})


def random_case(seed: int, users: int = 60, k: int = 20, graded: bool = True):
    rng = np.random.default_rng(seed)
    items = np.stack([rng.permutation(200)[:k] for _ in range(users)])
    scores = rng.permutation(users * k).reshape(users, k) / 7.0
    slates = pl.DataFrame(
        {"user_id": np.repeat(np.arange(users), k), "item_id": items.ravel(), "score": scores.ravel()}
    ).sample(fraction=1.0, shuffle=True, seed=seed)
    pairs = pl.DataFrame(
        {"user_id": rng.integers(0, users, users * 12), "item_id": rng.integers(0, 200, users * 12)}
    ).unique(maintain_order=True)
    grade = rng.integers(1, 5, pairs.height) if graded else np.ones(pairs.height, np.int64)
    return slates, pairs.with_columns(relevance=pl.Series(grade))


def test_by_hand():
    figures = {m: f["value"] for m, f in evaluate(SLATES, TRUTH, k=[2]).document["systems"][0]["metrics"].items()}
    gain = 1 / math.log2(3)
    assert figures["ndcg@2"] == pytest.approx((gain / (1 + gain) + 1) / 2)
    assert figures["recall@2"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["precision@2"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert figures["map@2"] == pytest.approx((1 / 4 + 1) / 2) and figures["mrr@2"] == pytest.approx(0.75)
    assert figures["r_precision@2"] == pytest.approx((1 / 2 + 1) / 2)
    # items 5, 7, 8, 9: user 1 has 8 behind 7, and 5 beside 9 at the end; user 2 has 7 before all others
    assert figures["auc@2"] == pytest.approx(((1 + 0 + 0.5 + 0) / 4 + 1) / 2)
    assert figures["coverage@2"] == pytest.approx(2 / 4)


@pytest.mark.parametrize("seed", range(4))
def test_every_user_s_figures_agree_with_ir_measures(seed):
    slates, truth = random_case(seed)
    report = evaluate(slates, truth, k=[5, 20])
    names = {"user_id": "query_id", "item_id": "doc_id"}
    run, qrels = (f.rename(names).with_columns(pl.col("query_id", "doc_id").cast(str)) for f in (slates, truth))
    pairs = {
        nDCG @ 5: "graded_ndcg@5", nDCG @ 20: "graded_ndcg@20", P @ 5: "precision@5", R @ 20: "recall@20",
        RR @ 20: "mrr@20", Success @ 5: "hit_rate@5", Rprec: "r_precision@20",
    }
    found = ir_measures.iter_calc(list(pairs), qrels.to_pandas(), run.to_pandas())
    ours = {str(row["user"]): row for row in report.per_user.to_dicts()}
    compared = 0
    for row in found:
        if (count := int((truth["user_id"] == int(row.query_id)).sum())) > 20:
            continue  # R-precision beyond the list
        assert ours[row.query_id][pairs[row.measure]] == pytest.approx(row.value, abs=1e-9), (row, count)
        compared += 1
    assert compared > 300


def test_average_precision_agrees_where_the_list_can_hold_everything():
    slates, truth = random_case(9, graded=False)
    names = {"user_id": "query_id", "item_id": "doc_id"}
    run, qrels = (f.rename(names).with_columns(pl.col("query_id", "doc_id").cast(str)).to_pandas()
                  for f in (slates, truth))  # fmt: skip
    value = ir_measures.calc_aggregate([AP @ 20], qrels, run)[AP @ 20]
    assert truth.group_by("user_id").len()["len"].max() <= 20
    assert evaluate(slates, truth, ["map@20"])["map@20"] == pytest.approx(value, abs=1e-9)


def test_random_rankings_give_what_theory_says():
    rng, users, items, k = np.random.default_rng(2), 3000, 50, 10
    slates = pl.DataFrame(
        {"user_id": np.repeat(np.arange(users), items),
         "item_id": np.concatenate([rng.permutation(items) for _ in range(users)])}
    )  # fmt: skip
    truth = pl.DataFrame({"user_id": np.repeat(np.arange(users), 5), "item_id": np.tile(np.arange(5), users)})
    report = evaluate(slates, truth, k=[k, items])
    discount = 1 / np.log2(np.arange(2, k + 2))
    assert report["recall@10"] == pytest.approx(k / items, abs=0.006)
    assert report["precision@10"] == pytest.approx(5 / items, abs=0.003)
    assert report["ndcg@10"] == pytest.approx(5 / items * discount.sum() / discount[:5].sum(), abs=0.006)
    assert report["auc@50"] == pytest.approx(0.5, abs=0.01)
    assert report["hit_rate@10"] == pytest.approx(1 - math.comb(45, 10) / math.comb(50, 10), abs=0.025)


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "run", "pandas"])
def test_every_kind_of_file_says_the_same(tmp_path, kind):
    slates, truth = random_case(1)
    expected = evaluate(slates, truth, k=[10]).figures
    if kind == "pandas":
        sources = slates.to_pandas(), truth.to_pandas()
    elif kind == "run":
        run, qrels = tmp_path / "a.run", tmp_path / "qrels.txt"
        run.write_text("".join(f"{u} Q0 {i} 1 {s} tag\n" for u, i, s in slates.iter_rows()))
        qrels.write_text("".join(f"{u} 0\t{i} {r}\n" for u, i, r in truth.iter_rows()))
        sources = run, qrels
    else:
        sources = tmp_path / f"slates.{kind}", tmp_path / f"truth.{kind}"
        for frame, path in zip((slates, truth), sources, strict=True):
            if kind == "parquet":
                frame.write_parquet(path)
            else:
                frame.write_csv(path, separator="," if kind == "csv" else "\t")
    found = evaluate(*sources, k=[10]).figures
    # ids of text files are text, whose order is another one: sums differ in their last digits
    assert_frame_equal(found.drop("low", "high"), expected.drop("low", "high"))


def test_what_is_wrong_with_rows_is_counted_and_told():
    bad = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 9, None, 2, 2],
            "item_id": [7, 7, 8, 99, 7, 7, None, 7],
            "score": [0.9, 0.8, float("nan"), None, 1.0, 1.0, 1.0, 0.5],
        }
    )
    truth = pl.DataFrame({"user_id": [1, 2, 3, 4, 1], "item_id": [8, 7, 7, 7, 8], "relevance": [1.0, 2, 1, 0, 1]})
    document = evaluate(bad, truth, k=[3], items=pl.DataFrame({"item_id": [7, 8]})).document
    rows = document["systems"][0]["rows"]
    assert rows["rows without user or item"] == 2 and rows["users without anything to find"] == 1
    assert rows["users without a list"] == 1 and rows["rows without rank or score"] == 2
    assert rows["rows of an item that the list has"] == 1 and rows["items that the catalogue does not know"] == 1
    assert document["truth"]["users with nothing relevant"] == 1
    assert document["truth"]["rows of the truth that repeat another"] == 1
    assert document["users"] == 3
    # 7 once, then what has no score: 8 and the unknown item, in the order of the rows
    assert document["systems"][0]["metrics"]["mrr@3"]["value"] == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_ties_keep_the_order_of_the_rows_and_are_told():
    slates = pl.DataFrame({"user_id": [1, 1, 1], "item_id": ["c", "a", "b"], "score": [1.0, 1.0, 1.0]})
    report = evaluate(slates, pl.DataFrame({"user_id": [1], "item_id": ["a"]}), k=[3])
    assert report["mrr@3"] == 0.5 and report.document["systems"][0]["rows"] == {"ties": 2}


def test_a_k_beyond_every_slate_is_told():
    assert "longest list holds 3 items" in evaluate(SLATES, TRUTH, k=[10]).document["remarks"][0]
    assert evaluate(SLATES, TRUTH).document["k"] == [3]


def test_ids_of_csv_are_text_and_007_is_not_7(tmp_path):
    (tmp_path / "s.csv").write_text("user_id,item_id\n007,1\n7,2\n")
    (tmp_path / "t.csv").write_text("user_id,item_id\n007,1\n7,1\n")
    report = evaluate(tmp_path / "s.csv", tmp_path / "t.csv", k=[1])
    assert report["recall@1"] == 0.5 and report.document["users"] == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user,thing\n1,2\n", "no column item_id"),
        ("user_id,item_id,score\n1,2,x\n", "row 1, column score: 'x' is no number"),
        ("1 Q0 2 1 0.5 tag\n1 Q0 2 1\n", "line 2: 4 fields, not the 6 of TREC"),
        ("", "cannot be read"),
    ],
    ids=["column", "number", "trec", "empty"],
)
def test_a_file_that_cannot_be_read_is_refused_by_name_and_place(tmp_path, text, words):
    path = tmp_path / "slates.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        evaluate(path, TRUTH)
    assert "slates.csv" in str(caught.value)


def test_what_is_not_known_is_offered():
    with pytest.raises(UsageError, match="did you mean 'ndcg'"):
        evaluate(SLATES, TRUTH, ["ndgc@5"])
    with pytest.raises(UsageError, match="no attributes of users are known"):
        evaluate(SLATES, TRUTH, segments=["age"])
    with pytest.raises(DataError, match="no relevant item"):
        evaluate(SLATES, TRUTH.with_columns(relevance=pl.lit(0)))


def test_the_package_offers_it_to_programs():
    assert recsys_cli.evaluate(SLATES, TRUTH, metrics=["recall@1"])["recall@1"] == pytest.approx(0.5)


def test_beyond_accuracy_by_hand():
    items = pl.DataFrame(
        {"item_id": [5, 7, 8, 9], "topics": ["a", "a;b", "b", None], "author_id": ["x", "x", "y", "y"]}
    )
    history = pl.DataFrame({"user_id": [1, 2, 3, 4, 1], "item_id": [7, 7, 7, 7, 8]})
    report = evaluate(SLATES, TRUTH, k=[2], items=items, history=history)
    assert report["diversity@2"] == pytest.approx(1 - 1 / math.sqrt(2))
    assert report["authors@2"] == 1.0 and report["novelty@2"] == pytest.approx((0 + 2) / 2)
    assert report["popularity@2"] == pytest.approx(np.mean([3.5 / 4, 2.5 / 4]))
    # the two most popular are 7 and 8: nothing that is found is unexpected
    assert report["serendipity@2"] == 0 and "vector_diversity" in report.document["left_out"]
    # user 1 had 7 (4 people) and 8 (1); user 2 had 7: both are given 7 and 8
    assert report["popularity_lift@2"] == pytest.approx(np.mean([2.5 / 2.5 - 1, 2.5 / 4 - 1]))
    provider = report.document["systems"][0]["metrics"]
    first = 1 / (1 + 1 / math.log2(3))  # x has the first place of both lists, and two of the three relevant pairs
    assert provider["provider_gap@2"]["value"] == pytest.approx(abs(first - 2 / 3))
    assert provider["coverage@2"]["value"] == 0.5


def test_vector_diversity_is_the_mean_distance_of_pairs():
    vectors = np.array([[1, 0], [0, 2], [1, 1], [np.nan, np.nan]], np.float32)
    got = rm.vector_diversity(np.array([[0, 1, 2], [0, 3, -1]], np.int32), 3, vectors)
    assert got[0] == pytest.approx(1 - (0 + 2 / math.sqrt(2)) / 3, abs=1e-6) and np.isnan(got[1])


def test_auc_against_all_pairs():
    rng = np.random.default_rng(4)
    for _ in range(20):
        order, relevant = rng.permutation(30)[:12], rng.choice(30, 6, replace=False)
        place = np.full(30, 99)
        place[order] = np.arange(12)
        others = np.setdiff1d(np.arange(30), relevant)
        wins = (place[relevant][:, None] < place[others]) + 0.5 * (place[relevant][:, None] == place[others])
        hit = np.isin(order, relevant)[None]
        assert rm.auc(hit, np.array([6]), np.array([12]), 30)[0] == pytest.approx(wins.mean())


def test_holm_by_hand_and_the_paired_test_of_scipy():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    rng = np.random.default_rng(0)
    first = rng.random((80, 2))
    second = first + rng.normal([0.1, 0], 0.2, (80, 2))
    tests = compare(first, second, ["a@1", "b@1"])
    for m, name in enumerate(tests):
        assert tests[name]["p"] == pytest.approx(ttest_rel(second[:, m], first[:, m]).pvalue)
    correct([tests], "a@1")
    assert tests["a@1"]["verdict"] == "higher" and tests["a@1"]["p_holm"] == tests["a@1"]["p"]
    error = np.std(second[:, 1] - first[:, 1], ddof=1) / math.sqrt(80)
    assert tests["b@1"]["detectable"] == pytest.approx(2.83 * error, rel=0.02)


def test_ties_and_too_few_are_said_in_words():
    same = np.full((40, 1), 0.5)
    tests = compare(same, same, ["ndcg@10"])
    correct([tests], "ndcg@10")
    assert "are the same by ndcg@10: no user of 40 differs" in sentence("ndcg@10", tests["ndcg@10"], "A", "B")
    few = same.copy()
    few[:4] = 1
    tests = compare(same, few, ["ndcg@10"])
    correct([tests], "ndcg@10")
    assert "4 of 40 users differ, too few to test" in sentence("ndcg@10", tests["ndcg@10"], "A", "B")
    rng = np.random.default_rng(1)
    tests = compare(rng.random((40, 1)), rng.random((40, 1)), ["ndcg@10"])
    correct([tests], "ndcg@10")
    told = sentence("ndcg@10", tests["ndcg@10"], "A", "B")
    assert "B ties with A" in told and "within noise" in told and "80 % chance" in told


def test_segments_of_numbers_are_cut_and_rare_values_put_together():
    labels, remark = labels_of(pl.Series("age", np.arange(1000)))
    assert len(set(labels)) == 5 and "cut into 5 ranges" in remark
    labels, remark = labels_of(pl.Series("city", [f"c{i % 50}" for i in range(500)] + [None]))
    assert len(set(labels)) == 12 and "others" in labels and "commonest" in remark
    assert set(labels_of(pl.Series("sex", ["f", None]))[0]) == {"f", "unknown"}


def test_a_segment_of_five_is_shown_and_gets_no_verdict_and_a_planted_gap_is_found():
    rng = np.random.default_rng(6)
    labels = np.array(["few"] * 5 + ["low"] * 200 + ["high"] * 200, object)
    values = np.concatenate([np.zeros(5), rng.random(200) * 0.4, rng.random(200)])[:, None]
    rows = by_segment(labels, values, ["ndcg@10"], np.array([True]), resamples=200, seed=0)
    few = next(r for r in rows if r["segment"] == "few")
    assert few["users"] == 5 and few["gap"]["ndcg@10"]["p"] is None and few["metrics"]["ndcg@10"]["high"] > 0.4
    lowest = worst(rows, "ndcg@10")
    low, others = values[labels == "low", 0], values[labels != "low", 0]
    test = ttest_ind(others, low, equal_var=False)
    assert (lowest["low"], lowest["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert lowest["p"] == pytest.approx(2 * test.pvalue)  # the lower of two by Holm
    assert lowest["segment"] == "low" and lowest["beyond_noise"] and 0.2 < lowest["low"] < lowest["high"] < 0.4


def test_a_report_is_json_through_and_through():
    slates, truth = random_case(3)
    report = evaluate({"a": slates, "b": slates.with_columns(score=-pl.col("score"))}, truth, k=[10])
    again = json.loads(json.dumps(report.document, default=str))
    assert again["comparisons"][0]["sentence"] and len(again["comparisons"][0]["items"]) <= 10
    assert set(report.figures["part"]) == {"metric", "difference"}
