"""What the light ranker's cut costs, by hand; what of the frontier is refused, and how it is drawn and told."""

import json
import math

import numpy as np
import pytest

from recsys_cli import charts
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import UsageError
from recsys_cli.evaluation.frontier import check_kinds, cut_figures
from recsys_cli.evaluation.frontier_report import cut_in_words, frontier_section
from recsys_cli.evaluation.truth import Truth
from recsys_cli.pipeline.candidates import Candidates


def candidates(items, utility):
    items = np.array(items, np.int32)
    return Candidates(items, np.zeros(items.shape, np.uint32), {"utility": np.array(utility, np.float32)})


def test_regret_by_hand():
    whole = candidates([[1, 2, 3, 4], [1, 2, 3, 4]], [[0.9, 0.7, 0.3, 0.1], [0.9, 0.7, 0.3, 0.1]])
    cut = candidates([[1, 3, 4, -1], [1, 2, 3, 4]], [[0.9, 0.3, 0.1, 0], [0.9, 0.7, 0.3, 0.1]])
    truth = Truth(np.array([0, 1], np.int32), Ragged(np.array([0, 1, 2]), np.array([2, 2], np.int32)), {})
    got = cut_figures(whole, cut, truth, 2)
    # the least useful candidate is worth 0.1: of 0.8 + 0.6 the cut leaves 0.8 + 0.2
    assert got[0] == pytest.approx([1 / 2, 1 - 1.0 / 1.4, 1 / math.log2(3)], abs=1e-6)
    assert got[1] == pytest.approx([1, 0, 0])


def test_nobody_s_candidates_cost_nothing():
    empty = candidates([[-1, -1]], [[0, 0]])
    truth = Truth(np.array([0], np.int32), Ragged(np.array([0, 1]), np.array([2], np.int32)), {})
    assert cut_figures(empty, empty, truth, 2)[0, 1:] == pytest.approx([0, 0])


def test_a_stage_without_a_weight_is_refused():
    check_kinds(["mmr", "dpp", "calibration"])
    with pytest.raises(UsageError, match="did you mean 'mmr'"):
        check_kinds(["mrm"])


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def row(kind, weight, ndcg, topics):
    metrics = {"ndcg": figure(ndcg), "diversity": figure(topics), "authors": figure(0.5), "coverage": figure(0.1)}
    return {"kind": kind, "weight": weight, "metrics": metrics, "change": figure(ndcg - 0.2, -0.1, 0.1), "best": True}


def test_the_frontier_is_drawn_as_a_line_from_relevance_alone_in_order_of_weight():
    rows = [row("relevance alone", None, 0.2, 0.5), row("as served", None, 0.15, 0.9), row("mmr", 0.1, 0.19, 0.6),
            row("mmr", 0.5, 0.16, 0.8)]  # fmt: skip
    page = frontier_section({"frontier": {"k": 10, "users": 50, "rows": rows, "notes": ["no vectors"]}})
    assert "no vectors" in page and "mmr 0.5" in page and page.count("class=\"chart\"") == 1
    spec = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])
    mmr = [v["name"] for v in spec["data"]["values"] if v["series"] == "mmr"]
    assert mmr == ["mmr 0.1", "mmr 0.5"]
    assert frontier_section({"frontier": None}) == ""


def test_a_chart_of_paths_leaves_out_what_is_unknown():
    rows = [{"series": "a", "name": "a 1", "x": 1, "y": float("nan")}]
    assert charts.path_chart(rows, title="t", x_label="x", y_label="y") == ""


def test_the_cut_in_words():
    cut = {"users": 200, "k": 10, "keep": 500, "candidates": 1135.0, "kept": figure(0.992), "utility": figure(0.0017),
           "ndcg": figure(-0.0006, float("nan"), float("nan"))}  # fmt: skip
    told = cut_in_words({"cut": cut})
    assert "from 1,135 to 500" in told and "99.2%" in told and "nan" not in told and cut_in_words({"cut": None}) == ""
