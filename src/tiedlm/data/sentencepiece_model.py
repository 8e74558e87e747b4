"""Read a sentencepiece model as a tokenizer of the library ``tokenizers``.

A model is a protocol buffer. Only the fields that decide the pieces of a text are read:

=====  =======================================================================
field  content
=====  =======================================================================
1      a piece: 1 its text, 2 its score, 3 its type
2      training: 3 kind of model, 24 blanks behind words, 35 byte fallback, 40 the id of the unknown
       piece
3      normalizer: 2 table of characters, 3 blank in front, 4 remove double blanks
=====  =======================================================================

Source: sentencepiece_model.proto of https://github.com/google/sentencepiece
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from tiedlm.data.piece_form import BLANK
from tiedlm.errors import UserError, require

UNIGRAM, BPE = 1, 2
_NORMAL, _USER, _BYTE = 1, 4, 6  # types of pieces
HIDDEN = " "  # in front of the name of a piece that no text has: blanks were replaced before


class _Piece(NamedTuple):
    text: str
    score: float
    type: int


def read_model(data: bytes, place: str) -> str:
    """Return the ``tokenizer.json`` of a sentencepiece model.

    Args:
        data: the content of the ``.model`` file.
        place: its name for messages.

    Raises:
        UserError: if it is no such model, splits into words or characters, or writes blanks behind
            words.
    """
    try:
        fields = list(_fields(data))
        pieces = [_piece(value) for number, value in fields if number == 1]
        training = dict(_fields(_last(fields, 2)))
        normalizer = dict(_fields(_last(fields, 3)))
    except (LookupError, ValueError, struct.error, TypeError, AttributeError) as error:
        raise UserError(f"{place} is not a sentencepiece model, or is damaged") from error
    kind = training.get(3, UNIGRAM)
    if not pieces or kind not in (UNIGRAM, BPE):
        raise UserError(f"{place} is not a unigram or BPE model of sentencepiece")
    if training.get(24):
        raise UserError(
            f"{place} writes blanks behind words; train it without treat_whitespace_as_suffix"
        )
    try:
        return str(_tokenizer(pieces, kind, training, normalizer).to_str(pretty=True))
    except UserError:
        raise
    except Exception as error:  # the library's own, without a class
        raise UserError(f"{place} is damaged: {error}") from error


def _tokenizer(
    pieces: list[_Piece], kind: int, training: dict[int, Any], normalizer: dict[int, Any]
) -> Any:
    library = require("tokenizers", "pieces", "a sentencepiece model")
    models, normalizers, decoders = library.models, library.normalizers, library.decoders
    fallback, unk_id = bool(training.get(35, 0)), int(training.get(40, 0))
    if kind == UNIGRAM:
        least = min((p.score for p in pieces if _is_in_text(p)), default=0.0)
        vocab = [(_name(p), p.score if _is_in_text(p) else least) for p in pieces]
        model = models.Unigram(vocab, unk_id, fallback)
    else:
        model = models.BPE(
            {_name(p): number for number, p in enumerate(pieces)},
            _merges(pieces),
            unk_token=_name(pieces[unk_id]),
            fuse_unk=True,
            byte_fallback=fallback,
        )
    tokenizer = library.Tokenizer(model)
    in_front, scheme = bool(normalizer.get(3, 1)), "never"
    steps = []
    if normalizer.get(2):
        steps.append(normalizers.Precompiled(normalizer[2]))
    if normalizer.get(4, 1):
        steps += [normalizers.Strip(), normalizers.Replace(library.Regex(" {2,}"), " ")]
        scheme = "always" if in_front else "never"
    elif in_front:
        steps.append(normalizers.Prepend(" "))  # also to a blank, which the scheme would not do
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    splitters = library.pre_tokenizers
    spans_words = any(BLANK in piece.text[1:] for piece in pieces if _is_in_text(piece))
    splitter = splitters.Metaspace(
        replacement=BLANK, prepend_scheme=scheme, split=kind == UNIGRAM and not spans_words
    )
    symbols = [piece.text for piece in pieces if piece.type == _USER]
    if kind == BPE and symbols:  # they are never split, and need no merges
        longest_first = sorted(symbols, key=len, reverse=True)
        pattern = library.Regex("|".join(map(re.escape, longest_first)))
        splitter = splitters.Sequence([splitter, splitters.Split(pattern, "isolated")])
        model.ignore_merges = True
    tokenizer.pre_tokenizer = splitter
    of_bytes = [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse()]
    added = [decoders.Strip(" ", 1, 0)] if in_front else []
    tokenizer.decoder = decoders.Sequence([*of_bytes, *added])
    return tokenizer


def _is_in_text(piece: _Piece) -> bool:
    return piece.type in (_NORMAL, _USER)


def _name(piece: _Piece) -> str:
    return piece.text if _is_in_text(piece) or piece.type == _BYTE else HIDDEN + piece.text


def _merges(pieces: list[_Piece]) -> list[tuple[str, str]]:
    """Return the pairs that make a longer piece, the best scores first."""
    ids = {piece.text: number for number, piece in enumerate(pieces) if _is_in_text(piece)}
    found = []
    for piece in filter(_is_in_text, pieces):
        pairs = [(piece.text[:n], piece.text[n:]) for n in range(1, len(piece.text))]
        known = [pair for pair in pairs if pair[0] in ids and pair[1] in ids]
        known.sort(key=lambda pair: (ids[pair[0]], ids[pair[1]]))
        found += [(piece.score, pair) for pair in known]
    found.sort(key=lambda item: -item[0])
    return [pair for _, pair in found]


def _piece(data: bytes) -> _Piece:
    fields = dict(_fields(data))
    return _Piece(fields[1].decode(), float(fields.get(2, 0.0)), int(fields.get(3, _NORMAL)))


def _last(fields: list[tuple[int, Any]], number: int) -> Any:
    return ([b""] + [value for found, value in fields if found == number])[-1]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: bytes, whole numbers and floats."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, wire = key >> 3, key & 7
        value: Any
        if wire == 0:
            value, place = _varint(data, place)
        elif wire == 2:
            size, place = _varint(data, place)
            value, place = data[place : place + size], place + size
            if place > len(data):
                raise ValueError("cut off")
        elif wire == 5:
            (value,), place = struct.unpack_from("<f", data, place), place + 4
        elif wire == 1:
            (value,), place = struct.unpack_from("<d", data, place), place + 8
        else:
            raise ValueError(f"wire type {wire}")
        yield number, value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a whole number and the place behind it."""
    value = shift = 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 0x7F) << shift, shift + 7, place + 1
        if byte < 0x80:
            return value, place
