"""Shares and rates by semantic codes: as plain arithmetic counts them, off unless asked, alike items together."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.features.config import FeatureConfig, SemanticCodesConfig
from recsys_cli.features.define import spec_of
from recsys_cli.features.families import FAMILIES, semantic_codes
from recsys_cli.features.families.semantic_codes import SemanticCodes
from recsys_cli.testing import check_feature_family
from recsys_cli.testing.small_world import CONFIG, bare_world, small_world

ON = CONFIG.model_copy(update={"semantic": SemanticCodesConfig(code_levels=2, codes_per_level=3)})
WORLDS = [replace(small_world(seed), config=ON) for seed in (3, 11)]


def replayed(world, spec, feature, row):
    log, now = world.log, world.log.time[row]
    codes = semantic_codes.semantic_codes(world.catalogue, feature.argument, 2, 3)[:, : feature.span]
    mine = [r for r in range(len(log)) if log.user[r] == log.user[row] and log.time[r] < now]
    code = codes[log.item[row]]
    same = [r for r in mine if code[0] >= 0 and (codes[log.item[r]] == code).all()]

    def rate(rows, prior, strength):
        p = (sum(log.positive[r] for r in rows) + strength * prior) / (len(rows) + strength)
        return min(max(p, 1e-5), 1 - 1e-5)

    if feature.measure == "share":
        return sum(log.positive[r] for r in same) / max(sum(log.positive[r] for r in mine), 1)
    everything = rate([r for r in range(len(log)) if log.time[r] < now], 0.05, 1)
    p = rate(same, rate(mine, everything, 10), 10)
    return math.log(p / (1 - p))


def test_as_of_served_and_counted_by_hand_are_the_same():
    check_feature_family(SemanticCodes(), WORLDS, replayed=replayed, rows=6)


def test_it_is_off_unless_asked_for_and_where_no_item_has_text_or_vectors():
    def names(world, config):
        return [f.name for f in spec_of(replace(world, config=config).facts, FAMILIES).of_family("semantic_codes")]

    assert names(small_world(3), CONFIG) == []
    assert names(bare_world(3), FeatureConfig(semantic={"code_levels": 2})) == []
    assert names(small_world(3), ON) == [
        f"{column}_code_{level}_{what}" for column in ("text", "look") for level in (1, 2) for what in ("share", "rate")
    ]
    without_text = {"semantic": {"code_levels": 1}, "columns": {"item": {"text": "nothing"}}}
    assert names(small_world(3), FeatureConfig(**without_text)) == ["look_code_1_share", "look_code_1_rate"]


def three_subjects(catalogue, n=90):
    """n items with six words of one of three subjects each, and one without a word."""
    rng = np.random.default_rng(5)
    words = [rng.choice(np.arange(7), 6, replace=False) + 100 * (i % 3) for i in range(n)]
    rows = np.repeat(np.arange(n), 6)
    return replace(catalogue, item_text=Ragged.group(rows, np.concatenate(words).astype(np.int32), n + 1).sorted_rows())


@pytest.mark.parametrize("sample", [20_000, 30])
def test_items_of_one_subject_share_their_first_code(monkeypatch, sample):
    monkeypatch.setattr(semantic_codes, "LEARNED_FROM", sample)
    codes = semantic_codes.semantic_codes(three_subjects(small_world(3).catalogue), "item.text", 2, 3)
    assert (codes[-1] == -1).all()
    assert [len(set(codes[start:90:3, 0])) for start in range(3)] == [1, 1, 1]
    assert len(set(codes[:90, 0])) == 3


def test_codes_are_the_same_again_and_anew_for_another_catalogue():
    first, other = three_subjects(small_world(3).catalogue), three_subjects(small_world(3).catalogue, 60)
    codes = semantic_codes.semantic_codes(first, "item.text", 2, 3)
    assert len(semantic_codes.semantic_codes(other, "item.text", 2, 3)) == 61
    assert (semantic_codes.semantic_codes(first, "item.text", 2, 3) == codes).all()
