"""Read pieces that were trained elsewhere: a ``tokenizer.json`` or a sentencepiece model."""

from __future__ import annotations

import json
import os

from tiedlm import files
from tiedlm.data.piece_form import Form
from tiedlm.data.pieces import KINDS, NEWLINE, PieceVocabulary, read_json_text, read_tokenizer
from tiedlm.data.sentencepiece_model import HIDDEN, read_model
from tiedlm.data.tokenizer import EOS
from tiedlm.errors import UserError, did_you_mean

_MODELS = ("BPE", "Unigram", "WordPiece")
# The pieces that end a text, in the order of preference.
_ENDS = (EOS, "</s>", "<|endoftext|>", "<|end_of_text|>", "<|eos|>", "[EOS]", "[SEP]")


def place_of_pieces(pieces: str) -> str:
    """Return ``bpe`` or ``unigram`` unchanged, or the absolute path of an existing file."""
    path = files.expand(pieces)
    return pieces if pieces in KINDS or not path.exists() else os.path.abspath(path)


def read_pieces(place: str) -> PieceVocabulary:
    """Return the pieces of a file.

    The piece that ends a text in that file becomes ``<eos>``. In the file of another run this is
    the newline. If there is no such piece, ``<eos>`` is added.

    Args:
        place: a ``tokenizer.json``, or a sentencepiece model whose name ends in ``.model``.

    Raises:
        UserError: if the file is missing or is neither, or its pieces are whole words or leave out
            characters that they cannot spell.
    """
    path = files.expand(place)
    if not path.exists():
        raise UserError(
            f"--pieces {place}: no such file{did_you_mean(place, KINDS)}; give bpe, unigram, a "
            "tokenizer.json or a sentencepiece .model"
        )
    if path.is_dir():
        raise UserError(f"--pieces {place} is a folder; give the tokenizer.json in it")
    try:
        if path.suffix == ".model":
            text = read_model(path.read_bytes(), f"--pieces {place}")
        else:
            text = read_json_text(path)
        json.loads(text)["model"]
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--pieces {place} is not a tokenizer.json") from error
    tokenizer = read_tokenizer(text, f"--pieces {place}")
    content = json.loads(tokenizer.to_str())  # names the kind of model, which old files do not
    model = content["model"]["type"]
    if model not in _MODELS:
        raise UserError(
            f"--pieces {place} splits text into whole words ({model}); pieces need one of "
            f"{', '.join(_MODELS)}"
        )
    if Form(content).drops:
        raise UserError(
            f"--pieces {place}: characters that it has no piece for would be left out without a "
            "word; train it with all bytes (initial_alphabet or byte_fallback) or an unk_token"
        )
    known = tokenizer.get_vocab(with_added_tokens=True)
    ends = (name for end in _ENDS for name in (HIDDEN + end, end))
    end = next((token for token in ends if token in known), None)
    if end is None and NEWLINE in known:  # perhaps pieces that another run trained
        is_newline = tokenizer.encode("\n", add_special_tokens=False).tokens == [NEWLINE]
        end = NEWLINE if is_newline else None
    if end is None:
        tokenizer.add_special_tokens([EOS])
        end = EOS
    return PieceVocabulary(tokenizer.to_str(pretty=True), tokenizer.token_to_id(end))
