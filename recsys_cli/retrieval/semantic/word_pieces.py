"""The tokens of a text by a `tokenizer.json` of the kind that BERT has."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recsys_cli.errors import ConfigError

LONGEST = 100
"""Characters of a word from which on it is unknown."""


def token_ids(folder: Path, texts: Sequence[str], *, framed: bool = False) -> list[list[int]]:
    """Ids of each text's tokens, without special and unknown ones; with `framed` with both, as networks read them.

    With the package tokenizers (extra `encoders`) any `tokenizer.json` is read; without it those of BERT's kind
    (WordPiece, BertNormalizer, BertPreTokenizer). Raises ConfigError for others, and for a file that is none.
    """
    path = folder / "tokenizer.json"
    try:
        document = json.loads(path.read_text("utf-8"))
        unknown = _unknown(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} is no tokenizer: {error}", "name a folder of a model with its tokenizer") from None
    if find_spec("tokenizers") is not None:
        from tokenizers import Tokenizer

        reader = Tokenizer.from_file(str(path))
        reader.no_padding()
        reader.no_truncation()
        found = [e.ids for e in reader.encode_batch(list(texts), add_special_tokens=framed)]
        return found if framed else [[i for i in ids if i != unknown] for ids in found]
    kinds = tuple((document.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer"))
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer"):
        raise ConfigError(
            f"{path}: tokens are made by {', '.join(str(k) for k in kinds)}, which needs the package tokenizers",
            "run `pip install 'recsys-cli[encoders]'`",
        )
    pieces = WordPieces(document)
    if framed:
        before, after = ([pieces.first], [pieces.last]) if document.get("post_processor") else ([], [])
        return [[*before, *pieces(text), *after] for text in texts]
    return [[i for i in pieces(text) if i != unknown] for text in texts]


def _unknown(document: dict[str, Any]) -> int | None:
    model = document["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: [text, score] each, the unknown by its place
        return model.get("unk_id")
    return vocabulary.get(model.get("unk_token"))


class WordPieces:
    """Greedy longest matches of words within a vocabulary (Wu et al., 2016, as BERT does it)."""

    def __init__(self, document: dict[str, Any]):
        model, self._normal = document["model"], document["normalizer"]
        self._vocabulary: dict[str, int] = model["vocab"]
        self._inside = model.get("continuing_subword_prefix", "##")
        self._longest = model.get("max_input_chars_per_word", LONGEST)
        self._unknown = self._vocabulary.get(model.get("unk_token", "[UNK]"), -1)
        self.first, self.last = (self._vocabulary.get(mark, self._unknown) for mark in ("[CLS]", "[SEP]"))

    def __call__(self, text: str) -> list[int]:
        return [piece for word in self._words(self._normalised(text)) for piece in self._pieces(word)]

    def _normalised(self, text: str) -> str:
        settings = self._normal
        if settings.get("clean_text", True):
            text = "".join(" " if c.isspace() else c for c in text if c.isspace() or not _is_control(c))
        if settings.get("handle_chinese_chars", True):
            text = "".join(f" {c} " if _is_chinese(ord(c)) else c for c in text)
        lower = settings.get("lowercase", True)
        strip = settings.get("strip_accents")
        if lower if strip is None else strip:
            text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
        return text.lower() if lower else text

    @staticmethod
    def _words(text: str) -> list[str]:
        return "".join(f" {c} " if _is_punctuation(c) else c for c in text).split()

    def _pieces(self, word: str) -> list[int]:
        if len(word) > self._longest:
            return [self._unknown]
        out, start = [], 0
        while start < len(word):
            for stop in range(len(word), start, -1):
                piece = word[start:stop] if start == 0 else self._inside + word[start:stop]
                if piece in self._vocabulary:
                    out.append(self._vocabulary[piece])
                    start = stop
                    break
            else:
                return [self._unknown]
        return out


def _is_control(c: str) -> bool:
    return c in "\0\ufffd" or unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co")


def _is_punctuation(c: str) -> bool:
    ascii_marks = 33 <= ord(c) <= 47 or 58 <= ord(c) <= 64 or 91 <= ord(c) <= 96 or 123 <= ord(c) <= 126
    return ascii_marks or unicodedata.category(c).startswith("P")


def _is_chinese(code: int) -> bool:
    spans = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
             (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))  # fmt: skip
    return any(low <= code <= high for low, high in spans)
