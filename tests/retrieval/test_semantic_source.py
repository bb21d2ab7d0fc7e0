"""Semantic vectors and ids: what items say, encoders in folders, vectors that people bring, codes that decode."""

import dataclasses
import json
import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import DAY, NOW, make_catalogue, make_log, make_window, planted_past_and_future, recall

from recsys_cli.errors import ConfigError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig
from recsys_cli.retrieval.semantic.encoders import encode, read_safetensors
from recsys_cli.retrieval.semantic.source import Semantic, SemanticConfig
from recsys_cli.retrieval.semantic.word_pieces import token_ids
from recsys_cli.semantic_ids import SemanticIds

WORDS = ["[UNK]", "[CLS]", "[SEP]", "cat", "dog", "##s", "un", "##happy", "cafe", "!", "猫", "run", "##ning"]


def tokenizer(folder, **normal):
    folder.mkdir(exist_ok=True)
    document = {
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {w: i for i, w in enumerate(WORDS)}},
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True, **normal},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "added_tokens": [],
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document))
    return folder


def safetensors(path, **tensors):
    header, body = {}, b""
    for name, array in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[str(array.dtype)]
        place = [len(body), len(body) + array.nbytes]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
        body += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def model2vec(folder, table, **config):
    safetensors(tokenizer(folder) / "model.safetensors", embeddings=table)
    (folder / "config.json").write_text(json.dumps({"normalize": False, **config}))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_words_become_pieces_as_bert_makes_them(tmp_path):
    folder = tokenizer(tmp_path / "m")
    texts = ["Cats", "unhappy dog!", "Café", "bird", "", "a猫b cat", "running\tdogs"]
    by_hand = [[3, 5], [6, 7, 4, 9], [8], [], [], [10, 3], [11, 12, 4, 5]]
    assert token_ids(folder, texts) == by_hand
    assert token_ids(folder, ["bird cats"], framed=True) == [[1, 0, 3, 5, 2]]


def test_pieces_equal_those_of_the_package_tokenizers(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    from recsys_cli.retrieval.semantic import word_pieces

    folder = tokenizer(tmp_path / "m")
    texts = ["Cats and dogs!", "Ünhappy\u00a0CAFÉ...", "x" * 200, "猫猫 cat\0s", "run-ning running"]
    theirs = token_ids(folder, texts)
    monkeypatch.setattr(word_pieces, "find_spec", lambda name: None)
    assert token_ids(folder, texts) == theirs


def test_a_model2vec_folder_gives_the_mean_of_the_tokens_rows_and_is_read_once(tmp_path):
    table = np.arange(len(WORDS) * 2, dtype=np.float32).reshape(-1, 2) + 1
    folder = model2vec(tmp_path / "m", table)
    vectors, known = encode(str(folder), ["cat dog", "bird", None, "cats"], 128, 0)
    np.testing.assert_allclose(vectors[[0, 3]], [(table[3] + table[4]) / 2, (table[3] + table[5]) / 2])
    assert known.tolist() == [True, False, False, True]
    (kept,) = (tmp_path / "cache/recsys").iterdir()
    before = kept.stat().st_mtime_ns
    again = encode(str(folder), ["cat dog", "bird", None, "cats"], 128, 0)[0]
    assert (again == vectors).all() and kept.stat().st_mtime_ns == before
    kept.write_bytes(kept.read_bytes()[:-4])  # torn: made anew
    assert (encode(str(folder), ["cat dog", "bird", None, "cats"], 128, 0)[0] == vectors).all()
    model2vec(tmp_path / "m", table * 2, normalize=True)  # other files, other vectors
    fresh = encode(str(folder), ["cat dog"], 128, 0)[0]
    np.testing.assert_allclose(np.linalg.norm(fresh, axis=1), 1, rtol=1e-6)


def test_an_onnx_folder_gives_the_mean_over_the_tokens(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)
    node = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph(
        [node], "g",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "t"])],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "t", 3])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tokenizer(tmp_path / "m") / "model.onnx")
    vectors, known = encode(str(tmp_path / "m"), ["cat", "cat dogs", "  "], 1, 0)
    np.testing.assert_allclose(vectors[0], table[[1, 3, 2]].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(vectors[1], table[[1, 3, 4, 5, 2]].mean(axis=0), rtol=1e-6)
    assert known.tolist() == [True, True, False]


def test_a_folder_that_is_no_encoder_is_refused_in_words(tmp_path):
    def refused(folder, words):
        with pytest.raises(ConfigError, match=words) as caught:
            encode(str(folder), ["cat"], 8, 0)
        return caught.value.hint

    refused(tmp_path / "none", "is no folder")
    (tmp_path / "empty").mkdir()
    assert "tokenizer.json" in refused(tmp_path / "empty", "holds no model")
    safetensors(tokenizer(tmp_path / "net") / "model.safetensors", weight=np.ones((2, 2), np.float32))
    assert "onnx" in refused(tmp_path / "net", "without its ONNX form")
    nan = np.full((len(WORDS), 2), np.nan, np.float32)
    refused(model2vec(tmp_path / "nan", nan), "not finite")
    refused(model2vec(tmp_path / "short", np.ones((2, 2), np.float32)), "has no row among 2")
    (model2vec(tmp_path / "torn", nan) / "model.safetensors").write_bytes(b"\xff" * 40)
    refused(tmp_path / "torn", "is no safetensors file")
    (model2vec(tmp_path / "words", np.ones((99, 2), np.float32)) / "tokenizer.json").write_text("{}")
    refused(tmp_path / "words", "is no tokenizer")


def test_a_tokenizer_of_another_kind_names_the_extra(tmp_path, monkeypatch):
    from recsys_cli.retrieval.semantic import word_pieces

    monkeypatch.setattr(word_pieces, "find_spec", lambda name: None)
    folder = model2vec(tmp_path / "m", np.ones((3, 2), np.float32))
    document = {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}}
    (folder / "tokenizer.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError) as refused:
        encode(str(folder), ["a"], 8, 0)
    assert "recsys-cli[encoders]" in refused.value.hint


def test_half_precision_and_unknown_types_of_a_file_are_read_past(tmp_path):
    safetensors(tmp_path / "a", x=np.array([[0.5, 2]], np.float16), y=np.array([3], np.int64))
    found = read_safetensors(tmp_path / "a")
    assert found["x"].astype(float).tolist() == [[0.5, 2]] and found["y"].tolist() == [3]


def test_hashed_texts_alike_are_near(tmp_path):
    texts = ["red wool winter jacket", "red wool jacket for winter", "quantum field theory lecture", None, ""]
    vectors, known = encode("hashed", texts, 256, 0)
    unit = vectors[:3] / np.linalg.norm(vectors[:3], axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.5 > abs(unit[0] @ unit[2]) + 0.2 and known.tolist() == [True] * 3 + [False] * 2
    assert (encode("hashed", texts, 256, 0)[0] == vectors).all()


# --- semantic ids -----------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 4), st.integers(1, 9))
@settings(max_examples=25)
def test_semantic_ids_decode_to_the_items_they_came_from(seed, n, levels, width):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # with repeats
    known = rng.random(n) < 0.8
    ids = SemanticIds.learn(vectors, known, levels, width, seed)
    items = np.flatnonzero(known)
    assert (ids.decode(ids.codes[items], ids.last[items]) == items).all()
    assert (ids.codes[~known] == -1).all() and ids.codes.shape == (n, levels)
    if len(items):
        assert (ids.encode(vectors[items]) == ids.codes[items]).all()
        nobody = ids.decode(ids.codes[items[:1]], ids.last[items[:1]] + n)
        assert nobody.tolist() == [-1]


def test_every_level_brings_the_codes_nearer_and_the_first_tells_groups_apart():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 8)) * 10
    group = rng.integers(0, 5, 300)
    vectors = (centres[group] + rng.normal(size=(300, 8))).astype(np.float32)
    everybody = np.ones(300, bool)
    errors = []
    for levels in (1, 2, 4):
        ids = SemanticIds.learn(vectors, everybody, levels, 5, 0)
        errors.append(((vectors - ids.vectors(ids.codes)) ** 2).sum())
    assert errors[0] > 1.1 * errors[1] > 1.1 * errors[2]
    first = SemanticIds.learn(vectors, everybody, 2, 5, 0).codes[:, 0]
    pairs = {(a, b) for a, b in zip(group, first, strict=True)}
    assert len(pairs) == 5  # one code a group
    assert ids.sharing(np.array([0]), 1)[0].sum() == (first == first[0]).sum()


# --- the source -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return planted_past_and_future()


def fitted(window, **settings):
    source = Semantic(SemanticConfig(max_age_days=None, **settings))
    source.fit(window, Progress())
    return source


@pytest.mark.parametrize("more", [{}, {"code_weight": 0.7, "codes_per_level": 16}, {"text_weight": 0}])
def test_semantic_vectors_find_more_than_popularity(world, more):
    popularity = recall(Popularity(PopularityConfig()), *world, 60)
    assert recall(fitted(world[0], dim=32, **more), *world, 60) > 1.2 * popularity


def test_an_item_published_after_training_has_the_vector_that_training_would_have_given(world):
    window, _ = world
    source = fitted(window, dim=24)
    catalogue, last = window.catalogue, window.catalogue.n_items - 1
    before = source.index.vectors[last].copy()
    # as if the last item had come later: its vector is made from its tokens alone
    source._arrays |= {name: source._arrays[name][:last] for name in ("vectors", "known")}
    source._place(source._arrays["vectors"], source._arrays["known"])
    source.adapt(catalogue)
    np.testing.assert_allclose(source.index.vectors[last], before, atol=1e-5)


def brought(vectors):
    n = len(vectors)
    catalogue = make_catalogue(2, [-1] * n, [NOW - 5 * DAY] * n)
    columns = dataclasses.replace(catalogue.item_columns, vectors={"picture": np.asarray(vectors, np.float32)})
    return dataclasses.replace(catalogue, item_columns=columns)


def test_vectors_that_somebody_brought_are_compared_by_their_angle_and_unknown_ones_are_left_out():
    vectors = [[1, 0], [0.9, 0.1], [-1, 0], [0, -1], [np.nan, np.nan], [0, 1]]
    window = make_window(brought(vectors), make_log([(0, 0, NOW - DAY)]))
    source = fitted(window, column="picture", exclude_seen=True)
    items, scores = source.retrieve(window.state, np.array([0, 1, -1]), 6)
    assert items[0, 0] == 1 and set(items[0].tolist()) == {1, 2, 3, 5, -1} and (items[1:] == -1).all()
    assert scores[0, 0] == pytest.approx(source.score(window.state, np.array([0]), np.array([[1]]))[0, 0])
    with pytest.raises(ConfigError, match="no such column") as refused:
        fitted(window, column="pictur")
    assert "picture" in refused.value.hint


def test_texts_of_the_dataset_are_read_by_the_encoder(tmp_path):
    class Items:
        items = pl.DataFrame({"item_id": [0, 1, 2], "text": ["cat", "cats", "dog"]})

    table = np.zeros((len(WORDS), 3), np.float32)
    table[3], table[5], table[4] = [1, 0, 0], [1, 0.2, 0], [0, 0, 1]
    folder = model2vec(tmp_path / "m", table)
    catalogue = make_catalogue(1, [-1] * 3, [NOW - 5 * DAY] * 3)
    window = dataclasses.replace(make_window(catalogue, make_log([(0, 0, NOW - DAY)])), dataset=Items())
    source = fitted(window, encoder=str(folder), exclude_seen=True)
    assert source.retrieve(window.state, np.array([0]), 2)[0].tolist() == [[1, 2]]
