"""Statistics of a corpus, and warnings about what makes its perplexity misleading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tiedlm.data.characters import CLOSERS, SENTENCE_ENDS
from tiedlm.data.compressed import plain_name
from tiedlm.data.corpus import Corpus
from tiedlm.data.marks import notes_on
from tiedlm.data.piece_corpus import notes_on_pieces
from tiedlm.data.source import PARTS
from tiedlm.data.streams import CHUNK, count_ids, release
from tiedlm.data.text import names_table
from tiedlm.data.vocabulary import Ids

_LONG_LINE = 8  # tokens: shorter lines repeat by chance ("thank you very much . <eos>")
_TINY = 5_000  # tokens: with fewer, a perplexity is uncertain by several per cent
_OVERLAP = 0.05
_UNKNOWN = 0.10
_UNENDED = 0.4
_NONE = np.empty(0, dtype=np.int64)
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
    seen_shares = _seen_shares(corpus)
    parts: dict[str, dict[str, Any]] = {}
    for part in PARTS:
        ids: Ids = getattr(corpus, part)
        counted = corpus.info["parts"][part]
        counts = count_ids(ids, len(corpus.vocabulary))
        parts[part] = {
            "lines": int(counts[corpus.vocabulary.eos_id]),
            "tokens": counted["tokens"],
            "types": int(np.count_nonzero(counts)),
            "unk": counted["unk"],
            "unk_share": counted["unk"] / counted["tokens"],
        }
        if part != "train":
            parts[part]["seen_lines_share"] = seen_shares[part]
    kept = ("origin", "split", "verified", "sha256", "tokenizer", "vocabulary", "fraction")
    return {
        "corpus": corpus.name,
        **{key: corpus.info[key] for key in kept},
        "parts": parts,
        "warnings": _warnings(corpus, parts),
    }


def _seen_shares(corpus: Corpus) -> dict[str, float | None]:
    """Return the share of the long lines of valid and test that are in train.

    It is None if no line is long enough to be compared. Memory holds one number for each line of
    valid and test, and none for the lines of train.
    """
    eos = corpus.vocabulary.eos_id
    held_out = {}
    for part in ("valid", "test"):
        hashes = np.concatenate([_NONE, *_long_lines(getattr(corpus, part), eos)])
        held_out[part] = np.unique(hashes, return_counts=True)
    seen = {part: np.zeros(len(kinds), dtype=bool) for part, (kinds, _) in held_out.items()}
    for hashes in _long_lines(corpus.train, eos):
        for part, (kinds, _) in held_out.items():
            places = np.searchsorted(kinds, hashes)
            is_inside = places < len(kinds)
            places = places[is_inside]
            seen[part][places[kinds[places] == hashes[is_inside]]] = True
    return {
        part: int(times[seen[part]].sum()) / int(times.sum()) if len(times) else None
        for part, (_, times) in held_out.items()
    }


def _long_lines(ids: Ids, eos: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield 64-bit hashes of the lines that are too long to repeat by chance, many at a time."""
    rest = np.empty(0, dtype=ids.dtype)
    for start in range(0, len(ids), CHUNK):
        some = np.concatenate([rest, ids[start : start + CHUNK]])
        ends = np.flatnonzero(some == eos) + 1
        starts = np.append(0, ends[:-1])
        long = ends - starts >= _LONG_LINE
        spans = zip(starts[long].tolist(), ends[long].tolist(), strict=True)
        yield np.array([hash(some[first:end].tobytes()) for first, end in spans], dtype=np.int64)
        rest = some[ends[-1] if len(ends) else 0 :]
        release(ids)


def _unended_share(corpus: Corpus) -> float:
    """Return the share of training lines that end without end-of-sentence punctuation."""
    vocabulary, ids = corpus.vocabulary, corpus.train
    is_end = np.array([word in SENTENCE_ENDS or word in CLOSERS for word in vocabulary.words])
    lines = ended = 0
    for start in range(0, len(ids), CHUNK):
        some = ids[max(start - 1, 0) : start + CHUNK]
        last = some[:-1][some[1:] == vocabulary.eos_id]
        lines, ended = lines + len(last), ended + int(np.count_nonzero(is_end[last]))
        release(ids)
    return 1.0 - ended / lines if lines else 0.0


def _are_equal(first: Ids, second: Ids) -> bool:
    return len(first) == len(second) and all(
        np.array_equal(first[start : start + CHUNK], second[start : start + CHUNK])
        for start in range(0, len(first), CHUNK)
    )


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
    if _are_equal(corpus.valid, corpus.test):
        found.append("valid and test are the same text")
    return found + notes_on_text(corpus)


def notes_on_text(corpus: Corpus) -> list[str]:
    """Return one line for each property of the text that changes what its perplexity means."""
    names = corpus.info["sha256"]
    tables = [name for name in names if names_table(name)]
    json_files = [name for name in names if plain_name(name).lower().endswith(".json")]
    return [
        *(
            f"{name} is read as plain text, header and all columns included; put the column with "
            "the text into a file of its own"
            for name in tables
        ),
        *(
            f"{name} is read as plain text, braces and field names included; put each record on a "
            "line of its own, in a file called .jsonl"
            for name in json_files
        ),
        *([LACKS_BLANKS] if corpus.info.get("lacks_blanks") else []),
        *notes_on(corpus.info.get("marks", {})),
        *(notes_on_pieces(corpus.info) if "pieces" in corpus.info else []),
    ]
