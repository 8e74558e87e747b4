"""Encode a text as sub-word pieces, and count its words and bytes.

A line is a unit: its pieces, then ``<eos>``. The words are counted as a corpus of words has them,
so that a perplexity of pieces can be given per word of the same text.
"""

from __future__ import annotations

import hashlib
import shutil
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm import files
from tiedlm.data.facts import state_of
from tiedlm.data.piece_files import read_pieces
from tiedlm.data.pieces import (
    KINDS,
    PIECES,
    TOKENIZER,
    PieceVocabulary,
    check_pieces,
    count_words,
    train_pieces,
)
from tiedlm.data.source import PARTS, Source
from tiedlm.data.text import digest
from tiedlm.data.tokenizer import UNK
from tiedlm.errors import UserError
from tiedlm.progress import byte_progress

_LINES = 1000  # encoded at a time
_CHARACTERS = 1 << 20  # the same, if the lines are long


class Pieces(NamedTuple):
    """The pieces that a text is split into.

    Args:
        asked: ``bpe``, ``unigram`` or the file that the user gave.
        vocab_size: largest number of pieces to train.
        given: the pieces of a file or a run; None to train them.
    """

    asked: str
    vocab_size: int | None
    given: PieceVocabulary | None

    def identity(self) -> dict[str, Any]:
        """Return what tells these pieces from others in the name of a cached corpus."""
        if self.given is None:
            return {"kind": self.asked, "vocab_size": self.vocab_size}
        return {"kind": _kind(self.asked), "sha256": _sha256(self.given)}


def find_pieces(asked: str, vocab_size: int | None, saved: Path | None = None) -> Pieces:
    """Return the pieces that ``--pieces`` asks for.

    Args:
        asked: ``bpe``, ``unigram`` or a file.
        vocab_size: of ``--vocab-size``.
        saved: the ``vocabulary.txt`` of a run, whose pieces are taken instead.

    Raises:
        UserError: if the options do not go together or a file cannot be read.
    """
    given = None
    if saved is not None:
        given = PieceVocabulary.load(saved)
    elif asked not in KINDS:
        given = read_pieces(asked)
    check_pieces(asked, vocab_size)
    return Pieces(asked, vocab_size, given)


class Share(NamedTuple):
    """The share of the training text to keep, as in :func:`tiedlm.data.load_corpus`."""

    fraction: float
    skip: float


class Counts(NamedTuple):
    """Counts over a part of a text.

    Args:
        words: its words, ``<eos>`` included.
        bytes: its bytes in UTF-8, newlines included.
        lines: its lines.
        unk_words: how many of its words are ``<unk>`` as written.
    """

    words: int = 0
    bytes: int = 0
    lines: int = 0
    unk_words: int = 0

    def plus(self, line: str, words: int) -> Counts:
        """Return the counts with another line of so many words."""
        unk_words = line.split().count(UNK) if UNK in line else 0
        size = len(line.encode()) + 1
        return Counts(
            self.words + words, self.bytes + size, self.lines + 1, self.unk_words + unk_words
        )


def build_pieces(
    source: Source,
    folder: Path,
    pieces: Pieces,
    about: dict[str, Any],
    *,
    tokenized: bool,
    share: Share,
    from_whole: bool,
    progress: bool,
) -> None:
    """Train the pieces if they are not given, and write the files of a cached corpus.

    Args:
        source: the text.
        folder: receives the files.
        pieces: the pieces.
        about: facts about the text for ``info.json``.
        tokenized: how words are counted, as in :func:`tiedlm.data.pieces.count_words`.
        share: the share of the training text to keep, in whole lines. It is a share of its words,
            so that it keeps the same lines as for a corpus of words.
        from_whole: whether to train pieces on the whole training text.
        progress: whether to show progress on a terminal.

    Raises:
        UserError: if a part has no text, or no whole line is in the share.
    """
    counts, words_of_lines, documents = _count(source, tokenized, progress)
    everything = kept = range(counts["train"].lines)
    if share != Share(1.0, 0.0):
        kept = _kept_lines(words_of_lines, share)
        counts["train"] = _count_kept(source, kept, words_of_lines)
    vocabulary = pieces.given or train_pieces(
        _lines(source, "train", everything if from_whole else kept), pieces.asked, pieces.vocab_size
    )
    parts, starts = _write_parts(source, folder, vocabulary, kept, progress)
    begun = sorted({0, *(line - kept.start for line in documents if line in kept)})
    np.save(folder / "documents.npy", starts[begun])
    vocabulary.save(folder / "vocabulary.txt")
    info = {
        **about,
        "tokenizer": PIECES,
        "pieces": {
            "kind": _kind(pieces.asked),
            "sha256": _sha256(vocabulary),
            "words": None if tokenized else "tiedlm",
        },
        "vocabulary": {
            "types": len(vocabulary),
            "max_size": pieces.vocab_size,
            "min_count": None,
            **({"from": "whole"} if from_whole else {}),
        },
        "fraction": share.fraction,
        **({"skip": share.skip} if share.skip else {}),
        "parts": {part: parts[part] | counts[part]._asdict() for part in PARTS},
    }
    names = [*(f"{part}.npy" for part in (*PARTS, "documents")), "vocabulary.txt", TOKENIZER]
    hashes = {name: digest(folder / name) for name in names}
    states = {name: state_of(folder / name) for name in names}
    files.write_json(folder / "info.json", {"info": info, "sha256": hashes, "states": states})


def _write_parts(
    source: Source, folder: Path, vocabulary: PieceVocabulary, kept: range, progress: bool
) -> tuple[dict[str, dict[str, int]], npt.NDArray[np.int64]]:
    """Write each part as ``<folder>/<part>.npy``.

    Returns:
        How many pieces each part has, and where the lines of the training part begin.
    """
    parts = {}
    starts = array("q")
    with byte_progress(f"splitting {source.name}", source.size, show=progress) as advance:
        for part in PARTS:
            tokens = unknown = lines = 0
            place = folder / f"{part}.ids"
            with place.open("wb") as file:
                for batch in _batches(_lines(source, part, kept if part == "train" else None)):
                    ids = vocabulary.encode_lines(batch)
                    file.write(ids.astype("<i4", copy=False).data)
                    if part == "train":
                        ends = np.flatnonzero(ids == vocabulary.eos_id)
                        starts.extend((tokens + np.append(0, ends[:-1] + 1)).tolist())
                    tokens, lines = tokens + len(ids), lines + len(batch)
                    if vocabulary.unk_id is not None:
                        unknown += int(np.count_nonzero(ids == vocabulary.unk_id))
                    advance(sum(map(len, batch)) + len(batch))
            if tokens == lines:
                raise UserError(f"the {part} text of {source.origin} has no words: it is blank")
            _as_npy(place, place.with_suffix(".npy"), tokens)
            parts[part] = {"tokens": tokens, "unk": unknown}
    return parts, np.array(starts, dtype=np.int64)


def notes_on_pieces(info: dict[str, Any]) -> list[str]:
    """Return a line for each property of a corpus of pieces that a user may not expect.

    Args:
        info: the facts of the corpus.
    """
    found = []
    asked, made = info["vocabulary"]["max_size"], info["vocabulary"]["types"]
    if asked is not None and made < asked:
        found.append(f"--vocab-size {asked}: the text yields only {made} pieces")
    if unk_words := info["parts"]["train"]["unk_words"]:
        found.append(
            f"--pieces: the text has {unk_words:,} words {UNK}, so its vocabulary is fixed; pieces "
            f"spell {UNK} like any word, and cannot bring the words back"
        )
    return found


def _kind(asked: str) -> str:
    return asked if asked in KINDS else "file"


def _sha256(vocabulary: PieceVocabulary) -> str:
    return hashlib.sha256(vocabulary.tokenizer_json.encode()).hexdigest()


def _count(
    source: Source, tokenized: bool, progress: bool
) -> tuple[dict[str, Counts], array[int], array[int]]:
    """Count each part.

    Returns:
        The counts, the words of each training line, and the lines with which its documents begin.
    """
    documents = array("q")
    found = dict.fromkeys(PARTS, Counts())
    words_of_lines = array("i")
    with byte_progress(f"counting {source.name}", source.size, show=progress) as advance:
        for part, line in source.lines():
            if line is None:
                if part == "train":
                    documents.append(len(words_of_lines))
                continue
            words = count_words(line, tokenized)
            before = found[part]
            found[part] = before.plus(line, words)
            advance(found[part].bytes - before.bytes)
            if part == "train":
                words_of_lines.append(words)
    return found, words_of_lines, documents


def _kept_lines(words_of_lines: array[int], share: Share) -> range:
    """Return the numbers of the lines that lie in a share of the words."""
    ends = np.cumsum(np.array(words_of_lines, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    stop = min(share.skip + share.fraction, 1.0)
    first, last = (
        int(np.searchsorted(ends, int(part * total), side="right")) for part in (share.skip, stop)
    )
    if first == last:
        raise UserError(
            f"a fraction of {share.fraction} keeps no whole line of {total} training tokens; use "
            "a larger fraction"
        )
    return range(first, last)


def _count_kept(source: Source, kept: range, words_of_lines: array[int]) -> Counts:
    found = Counts()
    for number, line in zip(kept, _lines(source, "train", kept), strict=True):
        found = found.plus(line, words_of_lines[number])
    return found


def _lines(source: Source, part: str, kept: range | None) -> Iterator[str]:
    """Yield the lines of a part, or those with the numbers ``kept``."""
    lines = (line for of_part, line in source.lines() if of_part == part and line is not None)
    return lines if kept is None else islice(lines, kept.start, kept.stop)


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for line in lines:
        batch.append(line)
        characters += len(line)
        if len(batch) == _LINES or characters >= _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _as_npy(source: Path, target: Path, length: int) -> None:
    """Turn a file of int32 ids into a .npy file."""
    with source.open("rb") as ids, target.open("wb") as file:
        header = {"descr": "<i4", "fortran_order": False, "shape": (length,)}
        np.lib.format.write_array_header_1_0(file, header)
        shutil.copyfileobj(ids, file)
    source.unlink()
