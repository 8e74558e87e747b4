"""``tokenizer.json``: a run's vocabulary, and the way its text was cut into words.

The file is that of the ``tokenizers`` library, which need not be installed to write it. A line end
becomes ``<eos>``; nothing else is added. A corpus has one after every sentence: what is read should
have one sentence a line.

Where a corpus was tokenized by tiedlm, so is what this tokenizer reads: the rules of
:mod:`tiedlm.data.tokenizer` are restated as replacements and two regular expressions. They differ
in rare cases: a number that follows a contraction and a dot, stroke or hyphen without a blank
(``it's-5``), or several dots after letters with dots that are no abbreviation (``ab.c..``).
"""

from __future__ import annotations

import re
from typing import Any

from tiedlm.data import Vocabulary
from tiedlm.data import tokenizer as rules

_CLITICS = r"(?:n't|'(?:s|re|ve|m|ll|d))"
_END_OF_LINE = {"type": "Replace", "pattern": {"String": "\n"}, "content": f" {rules.EOS} "}


def tokenizer_files(vocabulary: Vocabulary, raw_text: bool) -> dict[str, dict[str, Any]]:
    """Return ``tokenizer.json`` and ``tokenizer_config.json``.

    Args:
        vocabulary: the words.
        raw_text: whether what it reads is raw text, to be tokenized by tiedlm's rules; otherwise
            blanks separate words.
    """
    special = [rules.EOS, *([rules.UNK] if vocabulary.unk_id is not None else [])]
    ids = {word: number for number, word in enumerate(vocabulary.words)}
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
                "normalized": False,
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


def _tiedlm_normalizer() -> dict[str, Any]:
    char, joiner = rules._CHAR, r"[-/&.']"
    replaced: dict[str, list[str]] = {}
    for code, content in rules._REPLACED.items():
        replaced.setdefault(content, []).append(f"\\x{{{code:x}}}")
    number_starts = rf"(?<!{char})(?<!{char}{joiner})(?<!\d[,:])"
    number_ends = rf"(?={_CLITICS}*(?!{char}|{joiner}{char}|(?<=\d)[,:]\d))"
    abbreviations = "|".join(
        rf"[\s(\[`]{word}|\A{word}" for word in [r"[^\W\d_iN]", *rules.ABBREVIATIONS.split("|")]
    )
    dotted = rf"\.{rules._LETTER}|{abbreviations}"
    return {
        "type": "Sequence",
        "normalizers": [
            *(_replace(f"[{''.join(codes)}]", content) for content, codes in replaced.items()),
            _replace(rules._LOST_BLANK.pattern, " "),
            _replace(rules._DASHES.pattern, " -- "),
            _replace(rules._OPENING_QUOTE.pattern.replace("^", r"\A"), "``"),
            _replace('"', "''"),
            _replace(rules._LEADING_DOT.pattern, "0."),
            _replace(rules._PLACEHOLDER.pattern, "0"),
            {"type": "Lowercase"},
            {"type": "NFC"},
            _replace(rf"{number_starts}{rules._NUMBER.pattern}{number_ends}", rules.NUMBER),
            _replace(rf"(?<={dotted})\.\.\.+", "...."),  # the first one is the abbreviation's
            _replace(rf"(?<!{dotted})\.\.+", "..."),
            _END_OF_LINE,
        ],
    }


def _tiedlm_pre_tokenizer() -> dict[str, Any]:
    token = re.sub(r"\(\?P<\w+>", "(?:", re.sub(r"\s+", "", rules._TOKEN.pattern))
    # All else is lower case now: a capital N is a whole number, perhaps with contractions.
    word = f"{rules.NUMBER}{_CLITICS}*|{token}"
    clitic = rf"(?<={rules._CHAR}){_CLITICS}(?={_CLITICS}*\z)"
    return {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": word}, "behavior": "Removed", "invert": True},
            {
                "type": "Split",
                "pattern": {"Regex": clitic},
                "behavior": "Isolated",
                "invert": False,
            },
        ],
    }
