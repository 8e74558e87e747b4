"""``tokenizer.json``: a run's vocabulary, and the way its text was cut into words.

The file is that of the ``tokenizers`` library, which need not be installed to write it. A line end
becomes ``<eos>``; nothing else is added. A corpus has one after every sentence: what is read should
have one sentence a line.

Where a corpus was tokenized by tiedlm, so is what this tokenizer reads. The patterns of
:mod:`tiedlm.data.tokenizer` are written here as they stand, and cut any text into the same words.
Only characters newer than the Unicode of one of the two libraries can differ: each lower-cases the
letters that it knows.

The offsets of a word are the place of its characters in the text. A number has the place of its
first character. A token's string and its offsets come from one stretch of the text after the
replacements, where each character has the place of one character of the text. A longer string
would cover the number, but it would no longer be the word ``N`` of the vocabulary. A run of dots or
dashes has the place of its last character for the same reason.
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
        vocabulary: the words.
        raw_text: whether what it reads is raw text, to be tokenized by tiedlm's rules; otherwise
            blanks separate words.
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
                "normalized": True,  # looked for after the replacements, as tiedlm does
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
            *_replacements(rules.NOT_ASCII + rules.WRITTEN),
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
