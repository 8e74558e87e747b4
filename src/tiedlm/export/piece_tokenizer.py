"""Write the ``tokenizer_config.json`` that transformers needs for a run of pieces.

The ``tokenizer.json`` itself is copied from the run. In pieces that tiedlm trained, the newline is
``<eos>``. So a text of several lines gets the same ids as in tiedlm, and decoding the ids gives the
text back. A tokenizer that was given with ``--pieces FILE`` gives the same ids for single lines
only.
"""

from __future__ import annotations

from typing import Any

from tiedlm.data.pieces import PieceVocabulary


def tokenizer_config(vocabulary: PieceVocabulary) -> dict[str, Any]:
    """Return ``tokenizer_config.json``.

    If a text contains the name of a piece, such as ``<eos>``, it is spelled and not read as the
    piece.
    """
    end = vocabulary.token(vocabulary.eos_id)
    unk = None if vocabulary.unk_id is None else vocabulary.token(vocabulary.unk_id)
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": unk,
        "padding_side": "left",
        "split_special_tokens": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
