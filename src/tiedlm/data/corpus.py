"""Load a corpus as token ids, encoding it once and caching the result."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tiedlm import files
from tiedlm.data import encode
from tiedlm.data.counts import choose_vocabulary
from tiedlm.data.encoder import Encoder, WordEncoder
from tiedlm.data.piece_corpus import Pieces, Share, build_pieces, find_pieces
from tiedlm.data.pieces import load_vocabulary
from tiedlm.data.sotu import FIRST_YEAR, sotu_source
from tiedlm.data.source import PARTS, Source, from_folder, from_one_file
from tiedlm.data.standard import STANDARD, standard_source
from tiedlm.data.text import digest
from tiedlm.data.tokenizer import UNK
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.environment_variables import CACHE
from tiedlm.errors import UserError, did_you_mean

_FORMAT = 6  # raised when the tokenizer or the cached files change, to invalidate old caches
MOST_BYTES = 80  # bytes of a text's name that are kept in a folder's name
VocabFrom = Literal["part", "whole"]
_VOCABULARY, _INFO = "vocabulary.txt", "info.json"


class CacheError(UserError):
    """The cache cannot be written, for another reason than a full disk."""


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
            ``lacks_blanks`` is there if the text has no spaces between words, and ``marks`` if it
            has special tokens of other tools.
    """

    name: str
    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    info: dict[str, Any]


def has_name(corpus: str) -> bool:
    """Return whether a corpus is known by name."""
    return corpus in FIRST_YEAR or corpus in STANDARD


def find_source(
    name_or_path: str,
    *,
    data_root: Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    progress: bool = True,
) -> Source:
    """Return the source of a corpus, given by name or path.

    Raises:
        UserError: if it is neither a known name nor a readable file or folder.
    """
    if name_or_path in FIRST_YEAR:
        return sotu_source(name_or_path)
    if name_or_path in STANDARD:
        return standard_source(
            name_or_path, data_root, files.cache_folder(cache), download, progress
        )
    path = files.expand(name_or_path)
    if path.exists():
        files.check_utf8(path, "info.json of the cache cannot hold such a name")
    if path.is_dir():
        return from_folder(path)
    if path.is_file():
        return from_one_file(path)
    if path.exists():
        raise UserError(f"{name_or_path} is a pipe or a device; save the text as a file")
    if os.sep in name_or_path or path.suffix:
        raise UserError(f"{name_or_path} does not exist; give a text file, a folder or a corpus")
    known = [*FIRST_YEAR, *STANDARD]
    raise UserError(
        f"there is no corpus {name_or_path!r}{did_you_mean(name_or_path, known)}; give one of "
        f"{', '.join(known)}, or a file or folder of your own"
    )


def place_of(name_or_path: str) -> str:
    """Return a corpus's name unchanged, or the absolute path of an existing text.

    What is recorded this way can be found from any working directory.
    """
    path = files.expand(name_or_path)
    if has_name(name_or_path) or not path.exists():
        return name_or_path
    return os.path.abspath(path)


def load_corpus(
    name_or_path: str,
    *,
    vocab_size: int | None = None,
    min_count: int | None = None,
    fraction: float = 1.0,
    skip: float = 0.0,
    vocab_from: VocabFrom = "part",
    tokenize: bool | None = None,
    encoder: Encoder | None = None,
    pieces: str | None = None,
    saved: Path | None = None,
    data_root: Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    progress: bool = True,
    without_cache: Callable[[UserError], Path] | None = None,
) -> Corpus:
    """Load a corpus as token ids, from the cache if it was encoded before.

    Args:
        name_or_path: ``sotu``, ``sotu-modern``, ``sotu-short``, ``ptb``, ``wikitext-2``, a folder
            with train.txt, valid.txt and test.txt, or one text file, which is split.
        vocab_size: maximum size of the vocabulary, ``<eos>`` and ``<unk>`` included.
        min_count: how often a word must occur in the training part to be kept. The default is 1 if
            that part contains ``<unk>``, else 2, so that ``<unk>`` is always trained.
        fraction: share of the training tokens to keep, in whole lines; less if the text ends first.
        skip: share of the training tokens to leave out before that.
        vocab_from: whether the vocabulary comes from the "part" that is kept or from the "whole"
            training text.
        tokenize: whether to split the text into words; by default only if it looks raw.
        encoder: what maps lines to ids, in place of words; it has a vocabulary of its own.
        pieces: split the text into sub-word pieces instead of words: ``bpe`` or ``unigram`` trains
            ``vocab_size`` of them on the kept part of the training text; a file has them.
        saved: the ``vocabulary.txt`` of a run with these ``pieces``, to take its own again.
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
    if pieces is not None:
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
        name_or_path, data_root=data_root, cache=folder, download=download, progress=progress
    )
    tokenized = source.tokenized if tokenize is None else not tokenize
    encoder = encoder or WordEncoder(tokenized)
    choice = _Choice(encoder.key, vocab_size, min_count, fraction, skip, vocab_from, found_pieces)
    name = _folder_name(source, choice)
    if found_pieces is not None and saved is not None:
        # The run may have trained its pieces on this text: then the text is encoded already.
        trained = replace(choice, pieces=found_pieces._replace(given=None))
        corpus = _read(source.name, folder / "corpora" / _folder_name(source, trained))
        if corpus is not None and corpus.vocabulary == found_pieces.given:
            return corpus
    try:
        return _encode_once(source, encoder, folder / "corpora" / name, choice, progress)
    except CacheError as error:
        if without_cache is None:
            raise
        return _encode_once(source, encoder, without_cache(error) / name, choice, progress)


def _folder_name(source: Source, choice: _Choice) -> str:
    """Return the name of the folder in the cache of a text encoded in a certain way."""
    identity = [_FORMAT, source.name, source.origin, source.split, source.sha256, choice.identity()]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:20]
    return f"{files.cut_name(source.name, MOST_BYTES)}-{key}"


def _encode_once(
    source: Source, encoder: Encoder, place: Path, choice: _Choice, progress: bool
) -> Corpus:
    """Return the corpus in the folder ``place``, encoded there if it is not there yet."""
    corpus = _read(source.name, place)
    if corpus is None:
        with _whole_folder(place, lambda: _read(source.name, place) is not None) as unfinished:
            _build(source, encoder, unfinished, choice, progress)
        corpus = _read(source.name, place)
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
        """Return what tells this choice from others in the name of a cached corpus."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        del found["pieces"]
        return found if self.pieces is None else found | {"pieces": self.pieces.identity()}


def _build(source: Source, encoder: Encoder, folder: Path, choice: _Choice, progress: bool) -> None:
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
    if encoder.vocabulary is None:
        text_of_words = kept if choice.vocab_from == "part" else encode.whole(train)
        counts = encode.count_words(train, text_of_words, folder)
        vocabulary, least = choose_vocabulary(
            counts, max_size=choice.vocab_size, min_count=choice.min_count
        )
        counts.close()
    else:
        vocabulary, least = encoder.vocabulary, 1
    parts, hashes = {}, {}
    for part, stored in encoded.parts.items():
        span = kept if part == "train" else encode.whole(stored)
        target = folder / f"{part}.npy"
        counted = encode.write_npy(stored, span, vocabulary, target)
        _require_words(part, source, counted, least)
        parts[part] = {"tokens": counted.tokens, "unk": counted.unknown}
        hashes[target.name] = digest(target).sha256
    encoded.remove()
    vocabulary.save(folder / _VOCABULARY)
    hashes[_VOCABULARY] = digest(folder / _VOCABULARY).sha256
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
    files.write_json(folder / _INFO, {"info": info, "sha256": hashes})


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


def _read(name: str, folder: Path) -> Corpus | None:
    """Return the corpus cached in ``folder``, or None if it is missing or damaged."""
    try:
        saved = files.read_json(folder / _INFO)
        for file, sha256 in saved["sha256"].items():
            if digest(folder / file).sha256 != sha256:
                return None
        ids = {
            part: np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
            for part in PARTS
        }
        vocabulary = load_vocabulary(folder / _VOCABULARY, saved["info"]["tokenizer"])
        return Corpus(name, vocabulary, ids["train"], ids["valid"], ids["test"], saved["info"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


@contextmanager
def _whole_folder(place: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``place`` on success and is deleted on failure.

    Args:
        place: the folder to create. If another process creates it first, that one is kept.
        is_whole: returns whether ``place`` is complete; a damaged folder is replaced.
    """
    unfinished = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Only the user can read a folder made by tempfile, but a cache can be shared.
        unfinished = files.temporary_name(place)
        unfinished.mkdir()
        yield unfinished
        if not is_whole():
            shutil.rmtree(place, ignore_errors=True)
            try:
                unfinished.rename(place)
            except OSError:
                if not is_whole():
                    raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"cannot write {place.parent}: {reason}; make room there or set {CACHE} to another "
                "folder"
            ) from error
        raise CacheError(
            f"cannot write {place.parent}: {reason}; set {CACHE} to another folder"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
