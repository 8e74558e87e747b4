"""Read the pieces as a tokenizer writes them, and write them as ``vocabulary.txt`` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from tiedlm.data.tokenizer import EOS, UNK

BLANK = "\u2581"  # "▁": the blank before a word, as sentencepiece writes it
BLANKS = " \t\v\f\r"  # what separates words; the newline separates lines


class Form:
    """How a tokenizer writes pieces: as bytes, with ``▁`` for a blank, or with ``##`` inside words.

    Args:
        content: the parsed ``tokenizer.json``.

    Attributes:
        is_bytes: whether every character of a piece stands for a byte.
        unk: the unknown piece, or None if there is none.
        spells_bytes: whether there is a piece for each byte, so that nothing is unknown.
        drops: whether characters that no piece spells are left out, which the library does in BPE.
    """

    def __init__(self, content: dict[str, Any]) -> None:
        model = content["model"]
        outside = [content.get("pre_tokenizer"), content.get("decoder"), content.get("normalizer")]
        self.is_bytes = '"ByteLevel"' in json.dumps(outside)
        self._inside = (
            model.get("continuing_subword_prefix", "##") if model["type"] == "WordPiece" else None
        )
        self.spells_bytes = self._spells_bytes(model)
        self.unk = None if self.spells_bytes else self._unk(model)
        self.drops = model["type"] == "BPE" and not self.spells_bytes and self.unk is None

    def _spells_bytes(self, model: dict[str, Any]) -> bool:
        vocab = model["vocab"]
        known = vocab.keys() if isinstance(vocab, dict) else {token for token, _ in vocab}
        spelled = self._to_byte if self.is_bytes else [f"<0x{byte:02X}>" for byte in range(256)]
        return bool(self.is_bytes or model.get("byte_fallback")) and known >= set(spelled)

    def _unk(self, model: dict[str, Any]) -> str | None:
        vocab = model["vocab"]
        if isinstance(vocab, list):
            number = model.get("unk_id")
            return None if number is None else str(vocab[number][0])
        return model.get("unk_token") or None

    @cached_property
    def _to_byte(self) -> dict[str, int]:
        """Return character -> byte, as ByteLevel writes bytes: printable ones as they are."""
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in plain]
        shifted = zip((chr(256 + n) for n in range(len(others))), others, strict=True)
        return {chr(byte): byte for byte in plain} | dict(shifted)

    def is_spelled_byte(self, token: str) -> bool:
        """Return whether a token is one byte written as ``<0xE2>``."""
        return len(token) == 6 and token.startswith("<0x") and token.endswith(">")

    def bytes_of(self, token: str) -> bytes:
        """Return the bytes that a token stands for, with the blank before a word."""
        if self.is_bytes and all(char in self._to_byte for char in token):
            return bytes(self._to_byte[char] for char in token)
        if self._inside is not None:
            inside = token.startswith(self._inside)
            return (token.removeprefix(self._inside) if inside else " " + token).encode()
        return token.replace(BLANK, " ").encode()

    def is_blank(self, token: str | None) -> bool:
        """Return whether a token is nothing but blanks."""
        return token is not None and not self.bytes_of(token).strip(BLANKS.encode())

    def begins(self, token: str | None) -> bool:
        """Return whether a token begins a word."""
        return token is not None and self.bytes_of(token).decode("utf-8", "replace").startswith(
            tuple(BLANKS)
        )


def shown(
    tokens: Sequence[str | None], form: Form, eos_id: int, unk_id: int | None
) -> Iterator[str]:
    """Yield each token as a word of vocabulary.txt: unique and without white space."""
    seen = {EOS, UNK}
    for number, token in enumerate(tokens):
        if number == eos_id:
            yield EOS
        elif number == unk_id:
            yield UNK
        else:
            word = f"<unused-{number}>" if token is None else _readable(token, form)
            if word in seen:
                word = f"<piece-{number}>"
            seen.add(word)
            yield word


def _readable(token: str, form: Form) -> str:
    """Return a token as text, or its bytes as ``<0xE2><0x82>`` if it is not printable text."""
    if form.is_spelled_byte(token):
        return token
    data = form.bytes_of(token)
    text = data.decode("utf-8", "replace")
    shown = text.replace(" ", BLANK)
    is_text = "\ufffd" not in text and BLANK not in text and "<0x" not in text
    if is_text and shown not in (EOS, UNK) and shown.isprintable() and shown.split() == [shown]:
        return shown
    return "".join(f"<0x{byte:02X}>" for byte in data) or "<0x>"
