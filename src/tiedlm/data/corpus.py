"""Load a corpus as token ids, encoding it once and caching the result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tiedlm import files
from tiedlm.data import encode
from tiedlm.data.counts import choose_vocabulary
from tiedlm.data.documents import FIELD
from tiedlm.data.encoder import WordEncoder
from tiedlm.data.facts import LONG, state_of, when_written
from tiedlm.data.find import find_source
from tiedlm.data.piece_corpus import Pieces, Share, build_pieces, find_pieces
from tiedlm.data.pieces import load_vocabulary
from tiedlm.data.place import (
    INFO,
    CacheError,
    alone,
    remove_unfinished,
    whole_folder,
    write_info,
)
from tiedlm.data.source import PARTS, Source
from tiedlm.data.text import digest
from tiedlm.data.tokenizer import UNK
from tiedlm.data.vocabulary import Ids, Vocabulary, check_limits
from tiedlm.errors import UserError

_FORMAT = 7  # raised when the tokenizer or the cached files change, to invalidate old caches
MOST_BYTES = 80  # bytes of a text's name that are kept in a folder's name
VocabFrom = Literal["part", "whole"]
_VOCABULARY, _DOCUMENTS = "vocabulary.txt", "documents.npy"


@dataclass(frozen=True)
class Corpus:
    """A text in three parts, as token ids.

    Attributes:
        name: name of the corpus, file or folder.
        vocabulary: words of the training part.
        train: token ids, with an ``<eos>`` after every line. Shape: (N,), int32, read-only.
        valid: the same for the validation part.
        test: the same for the test part.
        info: JSON-able facts: origin, split, hashes, tokenizer (None for text that was already
            tokenized), vocabulary rule, fraction, and the tokens and ``<unk>`` tokens of each part.
            The key ``lacks_blanks`` is present if the text has no spaces between words, and
            ``marks`` if it has special tokens of other tools.
        documents: where the documents of the training part begin, the first at 0. Shape: (D,),
            int64.
        files: the files that the text comes from.
    """

    name: str
    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    info: dict[str, Any]
    documents: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    files: tuple[Path, ...] = ()


def load_corpus(
    name_or_path: str,
    *,
    vocab_size: int | None = None,
    min_count: int | None = None,
    fraction: float = 1.0,
    skip: float = 0.0,
    vocab_from: VocabFrom = "part",
    tokenize: bool | None = None,
    pieces: str | None = None,
    saved: Path | None = None,
    field: str = FIELD,
    data_root: Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    progress: bool = True,
    without_cache: Callable[[UserError], Path] | None = None,
) -> Corpus:
    """Load a corpus as token ids, from the cache if it was encoded before.

    Args:
        name_or_path: ``sotu``, ``sotu-modern``, ``sotu-short``, ``ptb``, ``wikitext-2``, a folder
            with train.txt, valid.txt and test.txt, or a text, which is split: a file, a folder of
            files, a pattern such as ``texts/*.jsonl``, or several of these with commas between.
        vocab_size: maximum size of the vocabulary, ``<eos>`` and ``<unk>`` included.
        min_count: how often a word must occur in the training part to be kept. The default is 1 if
            that part contains ``<unk>``, else 2, so that ``<unk>`` is always trained.
        fraction: share of the training tokens to keep, in whole lines; less if the text ends first.
        skip: share of the training tokens to leave out before that.
        vocab_from: whether the vocabulary comes from the "part" that is kept or from the "whole"
            training text.
        tokenize: whether to split the text into words; by default only if it looks raw.
        pieces: split the text into sub-word pieces instead of words: ``bpe`` or ``unigram`` trains
            ``vocab_size`` of them on the kept part of the training text; any other value is a file
            with trained pieces.
        saved: the ``vocabulary.txt`` of a run with these ``pieces``, if that run's pieces are to be
            used again.
        field: the field of JSON lines or of Parquet that holds the text.
        data_root: folder with ptb/ and wikitext-2/; default ``$TIEDLM_DATA``.
        cache: cache folder; default ``$TIEDLM_CACHE``, else ``tiedlm`` in the user's cache folder.
        download: whether a missing corpus may be downloaded.
        progress: whether to show progress on a terminal.
        without_cache: called with the error if the cache cannot be written, unless its disk is
            full; returns a folder to use in its place. By default the error is raised.

    Raises:
        UserError: if an argument is invalid, the text cannot be used or the cache cannot be
            written.
    """
    if not 0.0 < fraction <= 1.0:
        raise UserError(f"fraction must be above 0 and at most 1, not {fraction}")
    if not 0.0 <= skip < 1.0:
        raise UserError(f"skip must be at least 0 and below 1, not {skip}")
    if vocab_from not in ("part", "whole"):
        raise UserError(f"vocab_from must be 'part' or 'whole', not {vocab_from!r}")
    found_pieces = None
    if pieces is None:
        check_limits(vocab_size, min_count)
    else:
        if min_count is not None:
            raise UserError("--min-count: pieces are not chosen by count; leave it out")
        found_pieces = find_pieces(pieces, vocab_size, saved)
    try:
        folder = files.cache_folder(cache)
    except UserError as error:
        if without_cache is None:
            raise
        folder = without_cache(error)
    source = find_source(
        name_or_path,
        field=field,
        data_root=data_root,
        cache=folder,
        download=download,
        progress=progress,
    )
    tokenized = source.tokenized if tokenize is None else not tokenize
    encoder = WordEncoder(tokenized)
    choice = _Choice(encoder.key, vocab_size, min_count, fraction, skip, vocab_from, found_pieces)
    name = _folder_name(source, choice)
    if found_pieces is not None and saved is not None:
        # If the run trained its pieces on this text, the text is already encoded.
        trained = replace(choice, pieces=found_pieces._replace(given=None))
        corpus = _read(source, folder / "corpora" / _folder_name(source, trained))
        if corpus is not None and corpus.vocabulary == found_pieces.given:
            return corpus
    place, lock = folder / "corpora" / name, folder / "locks" / f"{name}.lock"
    corpus = _read(source, place)
    if corpus is not None:
        return corpus
    try:
        with alone(lock, source.name, progress) as is_alone:
            if is_alone:
                remove_unfinished(place)
            return _encode_once(source, encoder, place, choice, progress)
    except CacheError as error:
        if without_cache is None:
            raise
        place = without_cache(error) / name
        return _encode_once(source, encoder, place, choice, progress)


def _folder_name(source: Source, choice: _Choice) -> str:
    """Return the name of the folder in the cache of a text encoded in a certain way."""
    identity = [_FORMAT, source.name, source.origin, source.split, source.sha256, choice.identity()]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    return f"{files.cut_name(source.name, MOST_BYTES)}-{key}"


def _encode_once(
    source: Source,
    encoder: WordEncoder,
    place: Path,
    choice: _Choice,
    progress: bool,
) -> Corpus:
    """Return the corpus in the folder ``place``, encoded there if it is not there yet.

    Raises:
        UserError: if a file of the source has changed since it was hashed.
    """
    corpus = _read(source, place)
    if corpus is None:
        with whole_folder(place, lambda: _read(source, place) is not None) as unfinished:
            _build(source, encoder, unfinished, choice, progress)
            now = when_written(source.files)
            for path, old, new in zip(source.files, source.written, now, strict=True):
                if old != new:
                    raise UserError(f"{path} was changed while it was read; try again")
        corpus = _read(source, place)
        if corpus is None:
            raise UserError(f"{place} was damaged while it was written; check the disk")
    return corpus


@dataclass(frozen=True)
class _Choice:
    """The options that decide how a text is encoded."""

    encoder: str
    vocab_size: int | None
    min_count: int | None
    fraction: float
    skip: float
    vocab_from: VocabFrom
    pieces: Pieces | None = None

    def identity(self) -> dict[str, Any]:
        """Return the values that identify this choice in the name of a cached corpus."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        del found["pieces"]
        return found if self.pieces is None else found | {"pieces": self.pieces.identity()}


def _build(
    source: Source, encoder: WordEncoder, folder: Path, choice: _Choice, progress: bool
) -> None:
    """Encode a source and write the result into ``folder``."""
    if choice.pieces is not None:
        build_pieces(
            source,
            folder,
            choice.pieces,
            _about(source),
            tokenized=encoder.tokenizer is None,
            share=Share(choice.fraction, choice.skip),
            from_whole=choice.vocab_from == "whole",
            progress=progress,
        )
        return
    encoded = encode.encode(source, encoder, folder, progress)
    train = encoded.parts["train"]
    kept = encode.whole_lines(train, choice.fraction, choice.skip)
    text_of_words = kept if choice.vocab_from == "part" else encode.whole(train)
    counts = encode.count_words(train, text_of_words, folder)
    vocabulary, least = choose_vocabulary(
        counts, max_size=choice.vocab_size, min_count=choice.min_count
    )
    counts.close()
    parts = {}
    for part, stored in encoded.parts.items():
        span = kept if part == "train" else encode.whole(stored)
        counted = encode.write_npy(stored, span, vocabulary, folder / f"{part}.npy")
        _require_words(part, source, counted, least)
        parts[part] = {"tokens": counted.tokens, "unk": counted.unknown}
    np.save(folder / _DOCUMENTS, encode.document_starts(train, kept))
    encoded.remove()
    vocabulary.save(folder / _VOCABULARY)
    info = {
        **_about(source),
        "tokenizer": encoder.tokenizer,
        **({"lacks_blanks": True} if source.lacks_blanks else {}),
        "vocabulary": {
            "types": len(vocabulary),
            "max_size": choice.vocab_size,
            "min_count": least,
            **({"from": "whole"} if choice.vocab_from == "whole" else {}),
        },
        "fraction": choice.fraction,
        **({"skip": choice.skip} if choice.skip else {}),
        "parts": parts,
        **({"marks": encoded.marks} if encoded.marks else {}),
    }
    write_info(folder, info, [*(f"{part}.npy" for part in PARTS), _DOCUMENTS, _VOCABULARY])


def _about(source: Source) -> dict[str, Any]:
    """Return the facts about where a text comes from."""
    names = ("name", "origin", "split", "sha256", "verified")
    return {name: getattr(source, name) for name in names}


def _require_words(part: str, source: Source, counted: encode.Counted, min_count: int) -> None:
    """Check that a part has words other than ``<eos>`` and ``<unk>``.

    Raises:
        UserError: if it has none.
    """
    if counted.known:
        return
    text = f"the {part} text of {source.origin}"
    if not counted.unknown:
        raise UserError(f"{text} has no words: every line is blank")
    if part != "train":
        raise UserError(
            f"{text} has no word of the vocabulary: every word is {UNK}; give text in the same "
            "language, split into words in the same way"
        )
    if min_count == 1:
        raise UserError(f"{text} has no words: every word is {UNK}")
    raise UserError(
        f"{text} has no words to learn: no word occurs {min_count} times, so every word is {UNK}; "
        "use --min-count 1"
    )


def _read(source: Source, folder: Path) -> Corpus | None:
    """Return the corpus cached in ``folder``, or None if it is missing or damaged."""
    try:
        saved = files.read_json(folder / INFO)
        for file, sha256 in saved["sha256"].items():
            state = state_of(folder / file)
            is_same = state is not None and state[0] >= LONG and state == saved["states"][file]
            if not is_same and digest(folder / file) != sha256:
                return None
        train, valid, test, documents = (
            np.load(folder / file, mmap_mode="r", allow_pickle=False)
            for file in (*(f"{part}.npy" for part in PARTS), _DOCUMENTS)
        )
        vocabulary = load_vocabulary(folder / _VOCABULARY, saved["info"]["tokenizer"])
        return Corpus(
            source.name, vocabulary, train, valid, test, saved["info"], documents, source.files
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
