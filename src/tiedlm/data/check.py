"""Statistics of a corpus, and warnings about what makes its perplexity misleading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tiedlm.data.characters import CLOSERS, SENTENCE_ENDS
from tiedlm.data.corpus import Corpus
from tiedlm.data.marks import notes_on
from tiedlm.data.piece_corpus import notes_on_pieces
from tiedlm.data.source import PARTS
from tiedlm.data.text import names_table
from tiedlm.data.vocabulary import Ids

_LONG_LINE = 8  # tokens: shorter lines repeat by chance ("thank you very much . <eos>")
_TINY = 5_000  # tokens: with fewer, a perplexity is uncertain by several per cent
_OVERLAP = 0.05
_UNKNOWN = 0.10
_UNENDED = 0.4
LACKS_BLANKS = (
    "the text has no spaces between words, as in Chinese, Japanese or Thai, so whatever stands "
    "between spaces or punctuation counts as one word; split the text into words first"
)


def check_corpus(corpus: Corpus) -> dict[str, Any]:
    """Return statistics of a corpus and warnings about what makes its perplexity misleading.

    Returns:
        A JSON-able dict with ``corpus``, ``origin``, ``split``, ``verified``, ``sha256``,
        ``tokenizer``, ``vocabulary``, ``fraction``, ``parts`` and ``warnings``. ``verified`` tells
        whether the files have their published hashes; it is None where none are published. Each
        part has ``lines``, ``tokens``, ``types``, ``unk`` and ``unk_share``. Valid and test also
        have ``seen_lines_share``: the share of their lines of 8 tokens or more that are in train.
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
            # None where no line is long enough to be compared.
            parts[part]["seen_lines_share"] = known / len(lines) if lines else None
    kept = ("origin", "split", "verified", "sha256", "tokenizer", "vocabulary", "fraction")
    return {
        "corpus": corpus.name,
        **{key: corpus.info[key] for key in kept},
        "parts": parts,
        "warnings": _warnings(corpus, parts),
    }


def _long_lines(ids: Ids, eos: int) -> Iterator[int]:
    """Yield a 64-bit hash of every line that is too long to repeat by chance."""
    start = 0
    for end in (np.flatnonzero(ids == eos) + 1).tolist():
        if end - start >= _LONG_LINE:
            yield hash(ids[start:end].tobytes())
        start = end


def _unended_share(corpus: Corpus) -> float:
    """Return the share of training lines that end without end-of-sentence punctuation."""
    ends = np.flatnonzero(corpus.train == corpus.vocabulary.eos_id)
    last = corpus.train[ends[ends > 0] - 1]
    ending = [word in SENTENCE_ENDS or word in CLOSERS for word in corpus.vocabulary.words]
    return 1.0 - float(np.asarray(ending)[last].mean()) if len(last) else 0.0


def _warnings(corpus: Corpus, parts: dict[str, dict[str, Any]]) -> list[str]:
    found = []
    if corpus.info["verified"] is False:
        found.append("the files differ from the published corpus, so counts may differ too")
    for part, counted in parts.items():
        if counted["tokens"] < _TINY:
            found.append(f"{part} is tiny: {counted['tokens']} tokens; perplexity will be noisy")
        if counted["unk_share"] > _UNKNOWN:
            limits = corpus.info["vocabulary"]
            is_cut = limits["max_size"] is not None or (limits["min_count"] or 1) > 1
            advice = "allow a larger vocabulary" if is_cut else "train lacks many of its words"
            if corpus.info.get("lacks_blanks"):
                advice = "its words cannot be told apart"
            found.append(
                f"{counted['unk_share']:.0%} of {part} is <unk>: perplexity will look too good; "
                f"{advice}"
            )
        if (counted.get("seen_lines_share") or 0.0) > _OVERLAP:
            found.append(
                f"{counted['seen_lines_share']:.0%} of the longer lines of {part} are also in "
                "train; remove duplicates before you split"
            )
        if counted["unk"] and not parts["train"]["unk"]:
            found.append(
                f"{part} has <unk> but train has none, so <unk> is never learnt; see --min-count"
            )
    if corpus.info["tokenizer"] == "tiedlm":
        unended = _unended_share(corpus)
        if unended > _UNENDED:
            found.append(
                f"{unended:.0%} of the lines of train end in mid-sentence, as in wrapped text, and "
                "each line end becomes an <eos>; put a whole paragraph on each line"
            )
    if np.array_equal(corpus.valid, corpus.test):
        found.append("valid and test are the same text")
    return found + notes_on_text(corpus)


def notes_on_text(corpus: Corpus) -> list[str]:
    """Return one line for each property of the text that changes what its perplexity means."""
    tables = [name for name in corpus.info["sha256"] if names_table(name)]
    return [
        *(
            f"{name} is read as plain text, header and all columns included; put the column with "
            "the text into a file of its own"
            for name in tables
        ),
        *([LACKS_BLANKS] if corpus.info.get("lacks_blanks") else []),
        *notes_on(corpus.info.get("marks", {})),
        *(notes_on_pieces(corpus.info) if "pieces" in corpus.info else []),
    ]
