"""Encode a text as sub-word pieces, and count its words and bytes.

A line becomes its pieces and one ``<eos>``. Its words are counted as in a corpus of words, so that
a perplexity of pieces can be converted to a perplexity per word.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tiedlm.data import encode
from tiedlm.data.deal import Batch
from tiedlm.data.encoder import Block, Counts, WordEncoder
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
from tiedlm.data.place import write_info
from tiedlm.data.source import PARTS, Source
from tiedlm.data.tokenizer import UNK
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.errors import UserError

_LINES = 1000  # encoded at a time
_CHARACTERS = 1 << 20  # the same, if the lines are long
_LINES_OF_FILE = 1 << 18  # lines whose lengths are read at a time


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
        """Return the values that identify these pieces in the name of a cached corpus."""
        if self.given is None:
            return {"kind": self.asked, "vocab_size": self.vocab_size}
        return {"kind": _kind(self.asked), "sha256": _sha256(self.given)}


def find_pieces(asked: str, vocab_size: int | None, saved: Path | None = None) -> Pieces:
    """Return the pieces that ``--pieces`` names, or what is needed to train them.

    Args:
        asked: ``bpe``, ``unigram`` or a file.
        vocab_size: of ``--vocab-size``.
        saved: the ``vocabulary.txt`` of a run, whose pieces are used instead of those of ``asked``.

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


class PieceEncoder:
    """Split lines into pieces, and count their words and bytes.

    Args:
        vocabulary: the pieces.
        tokenized: how words are counted, as in :func:`tiedlm.data.pieces.count_words`.
    """

    tokenizer: str | None = PIECES

    def __init__(self, vocabulary: PieceVocabulary, tokenized: bool) -> None:
        self.vocabulary: Vocabulary | None = vocabulary
        self._pieces = vocabulary
        self._tokenized = tokenized

    def encode_lines(self, lines: Sequence[str]) -> Block:
        """Return the ids of some lines, with the id of ``<eos>`` after each."""
        ids: list[Ids] = []
        lengths: list[int] = []
        for batch in _batches(lines):
            found = self._pieces.ids_of_lines(batch)
            ids.append(np.fromiter(chain.from_iterable(found), dtype=np.int32))
            lengths += map(len, found)
        counts = Counts(
            words=sum(count_words(line, self._tokenized) for line in lines),
            bytes=sum(len(line.encode()) + 1 for line in lines),
            lines=len(lines),
            unk_words=sum(line.split().count(UNK) for line in lines if UNK in line),
        )
        return Block(np.concatenate(ids), np.array(lengths, dtype=np.int64), counts=counts)


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
        share: the share of the training text to keep, in whole lines. It is measured in words, so
            that the same text is kept as in a corpus of words, where raw text may also be cut
            between two sentences of a line.
        from_whole: whether to train pieces on the whole training text.
        progress: whether to show progress on a terminal.

    Raises:
        UserError: if a part has no text, or no whole line is in the share.
    """
    whole_text = source
    if share != Share(1.0, 0.0):
        source = _keep(source, share, WordEncoder(tokenized), folder / "lines", progress)
    vocabulary = pieces.given or train_pieces(
        _train_lines(whole_text if from_whole else source), pieces.asked, pieces.vocab_size
    )
    encoded = encode.encode(source, PieceEncoder(vocabulary, tokenized), folder, progress)
    parts = {}
    for part, stored in encoded.parts.items():
        counted = encode.write_npy(stored, encode.whole(stored), vocabulary, folder / f"{part}.npy")
        if counted.tokens == stored.counts.lines:
            raise UserError(f"the {part} text of {source.origin} has no words: it is blank")
        parts[part] = {
            "tokens": counted.tokens, "unk": counted.unknown, **stored.counts._asdict()
        }  # fmt: skip
    train = encoded.parts["train"]
    np.save(folder / "documents.npy", encode.document_starts(train, encode.whole(train)))
    encoded.remove()
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
        "parts": parts,
    }
    names = [f"{part}.npy" for part in (*PARTS, "documents")]
    write_info(folder, info, [*names, "vocabulary.txt", TOKENIZER])


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


def _keep(
    source: Source, share: Share, encoder: WordEncoder, place: Path, progress: bool
) -> Source:
    """Return the source with a share of the training text only, in whole lines.

    Args:
        source: the text.
        share: the share of its words to keep.
        encoder: counts the words of a line.
        place: a file for the lengths of the training lines, which is removed.
        progress: whether to show progress on a terminal.
    """
    total = 0
    with place.open("wb") as file:
        what = f"counting {source.name}"
        for about, block in encode.encoded_blocks(source, encoder, what, progress):
            if about.part == "train":
                file.write(block.lengths.astype(np.int32).data)
                total += len(block.ids)
    stop = min(share.skip + share.fraction, 1.0)
    first, last = (
        _lines_within(place, encode.ids_within(part, total)) for part in (share.skip, stop)
    )
    place.unlink()
    if first == last:
        raise UserError(
            f"--fraction {share.fraction} keeps no whole line of {total} training tokens; give a "
            "larger one"
        )

    def batches() -> Iterator[Batch]:
        seen = 0
        for part, lines, begins in source.batches():
            start, stop = 0, len(lines)
            if part == "train":
                start, stop = (min(max(end - seen, 0), len(lines)) for end in (first, last))
                seen += len(lines)
            inside = [line - start for line in begins if start <= line < stop]
            yield Batch(part, lines[start:stop], inside)

    return replace(source, batches=batches)


def _lines_within(place: Path, words: int) -> int:
    """Return how many lines have at most ``words`` words together, from a file of their lengths."""
    lines = 0
    with place.open("rb") as file:
        while len(lengths := np.fromfile(file, np.int32, _LINES_OF_FILE)):
            ends = np.cumsum(lengths, dtype=np.int64)
            fit = int(np.searchsorted(ends, words, side="right"))
            lines += fit
            if fit < len(ends):
                break
            words -= int(ends[-1])
    return lines


def _train_lines(source: Source) -> Iterator[str]:
    return chain.from_iterable(lines for part, lines, _ in source.batches() if part == "train")


def _batches(lines: Sequence[str]) -> Iterator[list[str]]:
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
