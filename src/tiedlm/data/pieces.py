r"""Vocabularies of sub-word pieces, trained with the library ``tokenizers`` or given as a file.

Pieces that are trained here are made of bytes, so every text can be split, and nothing is unknown.
Every piece that begins a word includes the blank before that word, and each line gets a blank in
front for its first word. The newline is a piece of its own, and serves as ``<eos>``. So a text that
contains the characters ``<eos>`` is spelled like any other. Decoding the pieces of a text gives the
text back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tiedlm import files
from tiedlm.data.interruptible import interruptible
from tiedlm.data.piece_form import BLANKS, Form, shown
from tiedlm.data.tokenizer import EOS, sentences_of
from tiedlm.data.vocabulary import Ids, Vocabulary
from tiedlm.errors import UserError, require

KINDS = ("bpe", "unigram")
TOKENIZER = "tokenizer.json"  # beside vocabulary.txt
PIECES = "pieces"  # the tokenizer that config.json and info.json name
LEAST = 257  # pieces: the 256 bytes and one more
NEWLINE = "Ċ"  # the newline, as ByteLevel writes it

# After its blank, a piece has only letters with their marks, only numbers, only other signs or only
# white space.
_SPLIT = r"\n| ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|[^\S\n]+(?!\S)|[^\S\n]+"
_NEW_LINE_BLANK = r"(?<=\n)(?=[^\n])"
_OWN_BLANK = r"(?<![^\n]) "


class Encoding(NamedTuple):
    """The pieces of a line, without ``<eos>``.

    Args:
        ids: ``(N,)`` their ids.
        spans: the first character of each piece and the one after its last.
    """

    ids: Ids
    spans: list[tuple[int, int]]


class PieceVocabulary(Vocabulary):
    """The pieces of a model, and the tokenizer that splits text into them.

    Args:
        tokenizer_json: the content of a ``tokenizer.json``.
        eos_id: the id of the piece that ends a line.
        place: where the tokenizer comes from, for messages.

    Attributes:
        words: id -> piece, with ``▁`` for a blank, and ``<0x..>`` for what is not printable text.
        tokenizer_json: as given.
        begins: ``(V,)`` whether a piece begins a word: it begins with a blank, or is ``<eos>``.
        blank: ``(V,)`` whether a piece is nothing but blanks.

    Raises:
        UserError: if ``tokenizers`` is missing or cannot read the tokenizer.
    """

    def __init__(self, tokenizer_json: str, eos_id: int, place: str = TOKENIZER) -> None:
        self.tokenizer_json = tokenizer_json
        self._tokenizer = read_tokenizer(tokenizer_json, place)
        form = Form(json.loads(tokenizer_json))
        tokens = [self._tokenizer.id_to_token(n) for n in range(_size(self._tokenizer))]
        unk_id = None if form.unk is None else self._tokenizer.token_to_id(form.unk)
        super().__init__(shown(tokens, form, eos_id, unk_id))
        self.begins: npt.NDArray[np.bool_] = np.array(
            [n == eos_id or form.begins(token) for n, token in enumerate(tokens)]
        )
        self.blank: npt.NDArray[np.bool_] = np.array(
            [n != eos_id and form.is_blank(token) for n, token in enumerate(tokens)]
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PieceVocabulary):
            return NotImplemented
        ours, theirs = self.tokenizer_json, other.tokenizer_json
        return ours == theirs or _same(json.loads(ours), json.loads(theirs))

    __hash__ = Vocabulary.__hash__

    def __repr__(self) -> str:
        return f"PieceVocabulary({len(self)} pieces)"

    def __deepcopy__(self, memo: object) -> PieceVocabulary:
        return self

    def __reduce__(self) -> tuple[type[PieceVocabulary], tuple[str, int]]:
        return PieceVocabulary, (self.tokenizer_json, self.eos_id)

    def token(self, number: int) -> str:
        """Return a piece as the tokenizer writes it."""
        return str(self._tokenizer.id_to_token(number))

    def split(self, line: str) -> Encoding:
        """Return the pieces of a line of text, which has no newline.

        Raises:
            UserError: if the line is not valid Unicode, or a piece has no id.
        """
        try:
            encoded = self._tokenizer.encode(line, add_special_tokens=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise UserError(f"{line!r} is not valid Unicode text") from error
        except Exception as error:  # the library's own, without a class
            raise UserError(f"the pieces cannot spell {line[:80]!r}: {error}") from error
        return Encoding(np.array(encoded.ids, dtype=np.int32), encoded.offsets)

    def encode_lines(self, lines: Sequence[str]) -> Ids:
        """Return the ids of some lines, one after another, with ``<eos>`` after each.

        Raises:
            UserError: as :meth:`split`.
        """
        return np.fromiter(chain.from_iterable(self.ids_of_lines(lines)), dtype=np.int32)

    def ids_of_lines(self, lines: Sequence[str]) -> list[list[int]]:
        """Return the ids of each of some lines, with ``<eos>`` at its end.

        Raises:
            UserError: as :meth:`split`.
        """
        try:
            encoded = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        except Exception as error:
            raise UserError(f"the pieces cannot spell the text: {error}") from error
        return [[*one.ids, self.eos_id] for one in encoded]

    def context(self, text: str) -> Ids:
        """Return the ids of ``<eos>`` and the words so far; the last word counts as complete."""
        ids = [np.array([self.eos_id], dtype=np.int32)]
        for line in text.split("\n"):
            ids += [self.split(line.rstrip(BLANKS)).ids, ids[0]]
        return np.concatenate(ids[:-1])

    def text(self, ids: Iterable[int] | npt.NDArray[np.integer]) -> str:
        """Return the text of some pieces; ``<eos>`` is a newline.

        Bytes that are not UTF-8, as when a character is incomplete, become U+FFFD.
        """
        lines: list[list[int]] = [[]]
        for number in map(int, ids):
            if number == self.eos_id:
                lines.append([])
            else:
                lines[-1].append(number)
        return "\n".join(self._tokenizer.decode(line, skip_special_tokens=False) for line in lines)

    def save(self, path: Path | str) -> None:
        """Write one piece per line, and ``tokenizer.json`` beside them."""
        files.write_text(Path(path).with_name(TOKENIZER), self.tokenizer_json)
        super().save(path)

    @classmethod
    def load(cls, path: Path | str) -> PieceVocabulary:
        """Load a vocabulary of pieces that :meth:`save` wrote.

        Raises:
            UserError: if a file is missing or damaged, ``tokenizers`` is not installed, or the two
                files do not belong together.
        """
        written = Vocabulary.load(path)
        place = Path(path).with_name(TOKENIZER)
        text = read_json_text(place)
        size = _size(read_tokenizer(text, str(place)))
        found = cls(text, written.eos_id) if written.eos_id < size else None
        if found is None or found.words != written.words:
            raise UserError(
                f"{place} has other pieces than {path}: {size:,} and {len(written):,}; restore the "
                "one that belongs to the model"
            )
        return found


def load_vocabulary(path: Path, tokenizer: str | None) -> Vocabulary:
    """Load a vocabulary of words or of pieces.

    Args:
        path: ``vocabulary.txt``.
        tokenizer: what ``config.json`` or ``info.json`` names as the corpus's tokenizer.

    Raises:
        UserError: if a file is missing or damaged, or the extra for pieces is not installed.
    """
    return (PieceVocabulary if tokenizer == PIECES else Vocabulary).load(path)


def train_pieces(lines: Iterable[str], kind: str, vocab_size: int | None) -> PieceVocabulary:
    """Train pieces on the lines of a text.

    Byte-pair encoding gives the same pieces for the same text. The library's unigram training does
    not: a few of its pieces change from run to run. Ctrl-C ends the call at once.

    Args:
        lines: the lines, without newlines.
        kind: ``bpe`` or ``unigram``.
        vocab_size: largest number of pieces, at least 257. A short text yields fewer.

    Raises:
        UserError: if ``kind`` or ``vocab_size`` is out of range, ``tokenizers`` is missing, or the
            text is blank.
    """
    check_pieces(kind, vocab_size)
    library = _library()
    parts = library.pre_tokenizers
    tokenizer = library.Tokenizer(
        library.models.BPE() if kind == "bpe" else library.models.Unigram()
    )
    regex, normalizers = library.Regex, library.normalizers
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Prepend(" "),
            normalizers.Replace(regex(r"\A (?=\n)"), ""),
            normalizers.Replace(regex(_NEW_LINE_BLANK), " "),
        ]
    )
    tokenizer.pre_tokenizer = parts.Sequence(
        [
            parts.Split(regex(_SPLIT), "isolated"),
            parts.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    decoders = library.decoders
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace(regex(_OWN_BLANK), "")]
    )
    trainer = library.trainers.BpeTrainer if kind == "bpe" else library.trainers.UnigramTrainer
    options = {"initial_alphabet": parts.ByteLevel.alphabet(), "special_tokens": []}
    trained = trainer(vocab_size=vocab_size, show_progress=False, **options)
    has_words = False

    def watched() -> Iterator[str]:
        nonlocal has_words
        for line in lines:
            has_words = has_words or bool(line.strip())
            yield line

    interruptible(lambda read: tokenizer.train_from_iterator(read, trained), watched())
    if not has_words:
        raise UserError("the text to train the pieces on has no words: it is blank")
    return PieceVocabulary(tokenizer.to_str(pretty=True), tokenizer.token_to_id(NEWLINE))


def check_pieces(pieces: str, vocab_size: int | None) -> None:
    """Refuse a ``--vocab-size`` that does not go with ``--pieces``.

    Raises:
        UserError: if pieces are trained and their number is missing or too small, or if the pieces
            come from a file and their number is given.
    """
    if pieces not in KINDS:
        if vocab_size is not None:
            raise UserError(
                f"--vocab-size {vocab_size}: the file of --pieces decides the number of pieces; "
                "leave --vocab-size out"
            )
    elif vocab_size is None:
        raise UserError(f"--pieces {pieces} needs --vocab-size, such as --vocab-size 8000")
    elif vocab_size < LEAST:
        raise UserError(
            f"--vocab-size {vocab_size} is too small for --pieces {pieces}: the 256 bytes are "
            f"pieces themselves; give {LEAST} or more"
        )


def count_words(line: str, tokenized: bool) -> int:
    """Count the words of a line as a corpus of words does, ``<eos>`` included.

    Args:
        line: the line.
        tokenized: whether words are separated by blanks and the line has one ``<eos>``. Otherwise
            the line is tokenized, and every sentence in it has one.
    """
    return sum(
        len(words) + (not words or words[-1] != EOS) for words in sentences_of(line, tokenized)
    )


def read_json_text(path: Path) -> str:
    """Read a file of UTF-8 text that should hold a tokenizer.

    Raises:
        UserError: if it is missing or not UTF-8.
    """
    try:
        with files.reading(path, "; expected the pieces of a tokenizer"):
            return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a tokenizer.json: it is not UTF-8 text") from error


def read_tokenizer(tokenizer_json: str, place: str) -> Any:
    """Return a tokenizer of the library that reads reserved pieces in a text as characters.

    Unigram and WordPiece models do not, if such a piece is in their vocabulary. A dropout of
    merges, which would split a text in another way each time, is turned off.

    Args:
        tokenizer_json: its content.
        place: where it comes from, for messages.

    Raises:
        UserError: if the library is missing or cannot read the text.
    """
    library = _library()
    try:
        tokenizer = library.Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # the library's own, without a class
        raise UserError(f"{place} is not a tokenizer.json that can be read: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    if isinstance(tokenizer.model, library.models.BPE):
        tokenizer.model.dropout = None
    return tokenizer


def _library() -> Any:
    return require("tokenizers", "pieces", "a run of pieces")


def _size(tokenizer: Any) -> int:
    """Return the number of ids, up to the largest one."""
    return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)


def _same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, up to the rounding of saving numbers again."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)
