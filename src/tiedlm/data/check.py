"""What is to be known about a corpus before a model is trained on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tiedlm.data.characters import CLOSERS, SENTENCE_ENDS
from tiedlm.data.corpus import Corpus
from tiedlm.data.marks import notes_on
from tiedlm.data.source import PARTS
from tiedlm.data.text import names_table
from tiedlm.data.vocabulary import Ids

_LONG_LINE = 8  # tokens: shorter lines are equal by chance ("thank you very much . <eos>")
_TINY = 5_000  # tokens: the perplexity of fewer is uncertain by several per cent
_OVERLAP = 0.05
_UNKNOWN = 0.10
_UNENDED = 0.4
_LACKS_BLANKS = (
    "the text has no blanks between its words, as in Chinese, Japanese or Thai, so tiedlm does not "
    "find them: what stands between blanks or marks counts as one word; split the text into words "
    "first"
)


def check_corpus(corpus: Corpus) -> dict[str, Any]:
    """Count a corpus and look for what would make its perplexity misleading.

    Returns:
        A dict that can be written as JSON: ``corpus``, ``origin``, ``split``, ``verified``
        (whether the files have their published hashes; None where none are published),
        ``sha256``, ``tokenizer``, ``vocabulary``, ``fraction``, ``parts`` (for each: ``lines``,
        ``tokens``, ``types``, ``unk``, ``unk_share`` and, but for train, ``seen_lines_share``:
        the share of lines of 8 tokens or more that are also in train) and ``warnings``.
    """
    seen = set(_long_lines(corpus.train, corpus.vocabulary.eos_id))
    parts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        ids: Ids = getattr(corpus, part)
        counted = corpus.info["parts"][part]
        parts[part] = {
            "lines": int(np.count_nonzero(ids == corpus.vocabulary.eos_id)),
            "tokens": counted["tokens"],
            "types": int(np.count_nonzero(np.bincount(ids, minlength=len(corpus.vocabulary)))),
            "unk": counted["unk"],
            "unk_share": counted["unk"] / counted["tokens"],
        }
        if part != "train":
            lines = list(_long_lines(ids, corpus.vocabulary.eos_id))
            known = sum(line in seen for line in lines)
            parts[part]["seen_lines_share"] = known / len(lines) if lines else 0.0
    kept = ("origin", "split", "verified", "sha256", "tokenizer", "vocabulary", "fraction")
    return {
        "corpus": corpus.name,
        **{key: corpus.info[key] for key in kept},
        "parts": parts,
        "warnings": _warnings(corpus, parts),
    }


def _long_lines(ids: Ids, eos: int) -> Iterator[int]:
    """Yield a 64-bit hash of every line that is long enough to be told from others."""
    start = 0
    for end in (np.flatnonzero(ids == eos) + 1).tolist():
        if end - start >= _LONG_LINE:
            yield hash(ids[start:end].tobytes())
        start = end


def _unended_share(corpus: Corpus) -> float:
    """Return the share of lines and sentences after whose last word nothing ends a sentence."""
    ends = np.flatnonzero(corpus.train == corpus.vocabulary.eos_id)
    last = corpus.train[ends[ends > 0] - 1]
    ending = [word in SENTENCE_ENDS or word in CLOSERS for word in corpus.vocabulary.words]
    return 1.0 - float(np.asarray(ending)[last].mean()) if len(last) else 0.0


def _warnings(corpus: Corpus, parts: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    if corpus.info["verified"] is False:
        found.append("the files are not those of the published corpus: counts may differ")
    for part, counted in parts.items():
        if counted["tokens"] < _TINY:
            found.append(f"{part} is tiny: {counted['tokens']} tokens; perplexity will be noisy")
        if counted["unk_share"] > _UNKNOWN:
            limits = corpus.info["vocabulary"]
            is_cut = limits["max_size"] is not None or (limits["min_count"] or 1) > 1
            advice = "allow a larger vocabulary" if is_cut else "train has too few of its words"
            if corpus.info.get("lacks_blanks"):
                advice = "its words are not found"
            found.append(
                f"{counted['unk_share']:.0%} of {part} is <unk>: perplexity will look too good; "
                f"{advice}"
            )
        if counted.get("seen_lines_share", 0.0) > _OVERLAP:
            found.append(
                f"{counted['seen_lines_share']:.0%} of the longer lines of {part} are also in "
                "train; remove duplicates before you split"
            )
        if counted["unk"] and not parts["train"]["unk"]:
            found.append(f"{part} has <unk> but train has none: it is never learnt; see min_count")
    if corpus.info["tokenizer"] == "tiedlm":
        unended = _unended_share(corpus)
        if unended > _UNENDED:
            found.append(
                f"{unended:.0%} of the lines of train end within a sentence, as in a text that is "
                "wrapped: each line's end is an <eos>; put a paragraph on each line"
            )
    if np.array_equal(corpus.valid, corpus.test):
        found.append("valid and test are the same text")
    return found + notes_on_text(corpus)


def notes_on_text(corpus: Corpus) -> list[str]:
    """Return a line for each thing in the text that changes what a perplexity means."""
    tables = [name for name in corpus.info["sha256"] if names_table(name)]
    return [
        *(
            f"{name} is read as plain text, its header and every column too; put the text of one "
            "column into a file of its own"
            for name in tables
        ),
        *([_LACKS_BLANKS] if corpus.info.get("lacks_blanks") else []),
        *notes_on(corpus.info.get("marks", {})),
    ]
