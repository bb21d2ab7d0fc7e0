"""Texts as vectors: hashed n-grams without a download, or a model that lies in a folder of the user's."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from recsys_cli.errors import ConfigError, RecsysError
from recsys_cli.files import file_digest, write_bytes
from recsys_cli.retrieval.semantic.word_pieces import token_ids

TEXTS_AT_ONCE = 64
LONGEST = 256
"""Tokens of a text that a network reads."""
BUCKETS = 2**18
"""Into which n-grams are hashed before they are projected."""
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I8": np.int8}
"""Numbers of a safetensors file that numpy has."""


def encode(encoder: str, texts: Sequence[str | None], dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(float32[n, D] vectors, bool[n] whether a text has any) by `hashed` or by the model in the folder `encoder`.

    What a model gives is kept in the user's cache under the digest of its files and of the texts. Raises ConfigError
    where the folder is none, holds no model that can be read, or gives vectors that are not finite.
    """
    if encoder == "hashed":
        return _hashed(texts, dim, seed)
    folder = Path(encoder)
    if not folder.is_dir():
        raise ConfigError(f"encoder: {encoder} is no folder", "name tfidf, hashed, or a folder with a model")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in (".json", ".safetensors", ".onnx"))
    digest = hashlib.blake2b(digest_size=16)
    for path in files:
        digest.update(f"{path.relative_to(folder)}\0{file_digest(path)}\0".encode())
    for text in texts:
        digest.update(b"\0\1" if text is None else text.encode("utf-8", "surrogatepass") + b"\0")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys" / f"{digest.hexdigest()}.vectors"
    vectors = _kept(kept, len(texts))
    if vectors is None:
        vectors = _of_model(folder, ["" if text is None else text for text in texts])
        if not np.isfinite(vectors).all():
            row = int((~np.isfinite(vectors).all(axis=1)).argmax())
            raise ConfigError(f"encoder {encoder}: the vector of {texts[row]!r:.80} is not finite", "use another model")
        with contextlib.suppress(RecsysError):  # a home that cannot be written costs the encoding once more
            write_bytes(kept, np.int64(vectors.shape[1]).tobytes() + vectors.tobytes())
    return vectors, (vectors != 0).any(axis=1)


def _kept(path: Path, rows: int) -> np.ndarray | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    width = int(np.frombuffer(content, np.int64, 1)[0]) if len(content) >= 8 else 0
    if width < 1 or len(content) != 8 + 4 * rows * width:
        return None
    return np.frombuffer(content, np.float32, offset=8).reshape(rows, width)


def _hashed(texts: Sequence[str | None], dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Words and the 3 to 5 characters in a row within them, weighed by rarity and projected at random (Weinberger et
    al., ICML 2009; Achlioptas, JCSS 2003)."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    settings = {"n_features": BUCKETS, "norm": None, "alternate_sign": False, "dtype": np.float32}
    plain = ["" if text is None else text for text in texts]
    parts = [
        TfidfTransformer(sublinear_tf=True).fit_transform(HashingVectorizer(**kind, **settings).transform(plain))
        for kind in ({"analyzer": "word", "ngram_range": (1, 2)}, {"analyzer": "char_wb", "ngram_range": (3, 5)})
    ]
    rng = np.random.default_rng([seed, 5])
    vectors = np.zeros((len(plain), dim), np.float32)
    for part in parts:
        used = np.unique(part.indices)
        signs = rng.choice(np.array([-1, 1], np.int8), (BUCKETS, dim))[used].astype(np.float32)
        vectors += part[:, used] @ signs / np.float32(np.sqrt(dim))
    return vectors, (vectors != 0).any(axis=1)


def _of_model(folder: Path, texts: Sequence[str]) -> np.ndarray:
    """float32[n, D] by whichever kind of model the folder holds."""
    graph = next((p for p in (folder / "model.onnx", folder / "onnx" / "model.onnx") if p.is_file()), None)
    weights = folder / "model.safetensors"
    if graph is not None:
        return _by_graph(folder, graph, texts)
    tensors = read_safetensors(weights) if weights.is_file() else {}
    if "embeddings" in tensors:
        return _by_table(folder, tensors, texts)
    if tensors or (folder / "modules.json").is_file() or (folder / "pytorch_model.bin").is_file():
        raise ConfigError(
            f"encoder: {folder} holds a network without its ONNX form",
            "export it (sentence-transformers: backend=\"onnx\"), so that it has model.onnx and tokenizer.json",
        )
    raise ConfigError(
        f"encoder: {folder} holds no model",
        "it needs tokenizer.json beside model.safetensors with `embeddings` (model2vec) or model.onnx",
    )


def _by_table(folder: Path, tensors: dict[str, np.ndarray], texts: Sequence[str]) -> np.ndarray:
    """Mean of the tokens' rows, as model2vec does; normed where its `config.json` says so."""
    table = tensors["embeddings"].astype(np.float32)
    weights = tensors.get("weights", np.ones(len(table))).astype(np.float32)
    rows = tensors.get("mapping", np.arange(len(weights)))
    ids = token_ids(folder, texts)
    lengths = np.array([len(tokens) for tokens in ids])
    flat = np.fromiter((token for tokens in ids for token in tokens), np.int64, int(lengths.sum()))
    if len(flat) and flat.max() >= len(rows):
        raise ConfigError(
            f"encoder: {folder}: token {flat.max()} has no row among {len(rows):,}", "the tokenizer is of another model"
        )
    out = np.zeros((len(texts), table.shape[1]), np.float32)
    np.add.at(out, np.repeat(np.arange(len(texts)), lengths), table[rows[flat]] * weights[flat, None])
    out /= np.maximum(lengths, 1)[:, None]
    try:
        normed = json.loads((folder / "config.json").read_text()).get("normalize", False)
    except (OSError, ValueError, AttributeError):
        normed = False
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12) if normed else out


def _by_graph(folder: Path, graph: Path, texts: Sequence[str]) -> np.ndarray:
    """What the graph names `sentence_embedding`, else the mean of its first output over the tokens."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception as error:  # of many classes, of the runtime's own
        raise ConfigError(f"encoder: {graph} cannot be read: {str(error).splitlines()[0]}", "export it anew") from None
    named, ids = [i.name for i in session.get_inputs()], token_ids(folder, texts, framed=True)
    outputs = [o.name for o in session.get_outputs()]
    whole = "sentence_embedding" in outputs
    out = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        some = [tokens or [0] for tokens in ids[start : start + TEXTS_AT_ONCE]]
        part = [tokens if len(tokens) <= LONGEST else [*tokens[: LONGEST - 1], tokens[-1]] for tokens in some]
        length = max(map(len, part))
        mask = np.array([[1] * len(t) + [0] * (length - len(t)) for t in part], np.int64)
        tokens = np.array([t + [0] * (length - len(t)) for t in part], np.int64)
        feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        found = session.run(["sentence_embedding"] if whole else [outputs[0]], {n: feeds[n] for n in named})[0]
        if not whole:
            found = (found * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        out.append(found.astype(np.float32))
    vectors = np.concatenate(out) if out else np.zeros((0, 1), np.float32)
    vectors[[not text.strip() for text in texts]] = 0
    return vectors


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file (a header in JSON, then the numbers), of the types that numpy has; raises
    ConfigError where it is none."""
    try:
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        body, out = memoryview(content)[8 + length :], {}
        for name, told in header.items():
            if name != "__metadata__" and told["dtype"] in TYPES:
                start, stop = told["data_offsets"]
                out[name] = np.frombuffer(body[start:stop], TYPES[told["dtype"]]).reshape(told["shape"])
        return out
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ConfigError(f"{path} is no safetensors file: {error}", "download the model again") from None
