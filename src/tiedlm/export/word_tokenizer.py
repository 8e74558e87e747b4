"""Write ``tokenizer.json``: a run's vocabulary and the tokenizer of its text.

The file is for the ``tokenizers`` library, which need not be installed to write it. A line end
becomes ``<eos>``, and nothing else is added. A corpus has an ``<eos>`` after every sentence, so
text should have one sentence per line.

If tiedlm tokenized the corpus, the file contains the patterns of :mod:`tiedlm.data.tokenizer` and
cuts any text into the same words. The one exception is characters that are newer than the Unicode
version of one of the two libraries, because each lower-cases only the letters that it knows.

The offsets of a word are the positions of its characters in the text. A number has only the offset
of its first character, and a run of dots or dashes only the offset of its last. The reason: in the
library, each character of a token stands for one character of the original text, and ``N`` has one
character. A longer token would have the offsets of the whole number, but it would have to replace
``N`` in the vocabulary, and looking up ``N`` would give ``<unk>``. docs/export.md has a function
that widens the offsets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tiedlm.data import Vocabulary
from tiedlm.data import tokenizer as rules
from tiedlm.data.characters import PLAIN

_END_OF_LINE = {"type": "Replace", "pattern": {"String": "\n"}, "content": f" {rules.EOS} "}


def tokenizer_files(vocabulary: Vocabulary, raw_text: bool) -> dict[str, dict[str, Any]]:
    """Return ``tokenizer.json`` and ``tokenizer_config.json``.

    Args:
        vocabulary: the vocabulary.
        raw_text: whether the tokenizer reads raw text and applies tiedlm's rules; otherwise it
            splits at whitespace.
    """
    ids = {word: number for number, word in enumerate(vocabulary.words)}
    special = [rules.EOS, *([rules.UNK] if vocabulary.unk_id is not None else [])]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": ids[word],
                "content": word,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": True,  # matched after the replacements, as in tiedlm
                "special": True,
            }
            for word in special
        ],
        "normalizer": _tiedlm_normalizer() if raw_text else _END_OF_LINE,
        "pre_tokenizer": _tiedlm_pre_tokenizer() if raw_text else {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": ids, "unk_token": rules.UNK},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": rules.EOS,
        "eos_token": rules.EOS,
        "pad_token": rules.EOS,
        "unk_token": rules.UNK if vocabulary.unk_id is not None else None,
        "padding_side": "left",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def _replace(pattern: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _replacements(steps: Iterable[rules.Rule]) -> list[dict[str, Any]]:
    return [_replace(rule.pattern.pattern, rule.content) for rule in steps]


def _tiedlm_normalizer() -> dict[str, Any]:
    plain: dict[str, list[str]] = {}
    for character, content in PLAIN.items():
        plain.setdefault(content, []).append(character)
    return {
        "type": "Sequence",
        "normalizers": [
            *_replacements([rules.UNSEEN_BLANK]),
            *(_replace(f"[{''.join(found)}]", content) for content, found in plain.items()),
            {"type": "NFC"},
            *_replacements(rules.NOT_ASCII + rules.ARMENIAN_MARKS + rules.WRITTEN),
            {"type": "Lowercase"},
            {"type": "NFC"},
            *_replacements(rules.LOWERED),
            _END_OF_LINE,
        ],
    }


def _tiedlm_pre_tokenizer() -> dict[str, Any]:
    return {
        "type": "Sequence",
        "pretokenizers": [
            {
                "type": "Split",
                "pattern": {"Regex": rules.TOKEN.pattern},
                "behavior": "Removed",
                "invert": True,
            },
            {
                "type": "Split",
                "pattern": {"Regex": rules.CLITIC.pattern},
                "behavior": "Isolated",
                "invert": False,
            },
        ],
    }
