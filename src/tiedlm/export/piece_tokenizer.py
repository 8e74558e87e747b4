"""Write the ``tokenizer_config.json`` that transformers needs for a run of pieces.

The ``tokenizer.json`` itself is copied from the run. In pieces that tiedlm trained, the newline is
``<eos>``. So a text of several lines gets the same ids as in tiedlm, and decoding the ids gives the
text back. A tokenizer that was given with ``--pieces FILE`` gives the same ids for single lines
only. If it puts special tokens around a text, such as ``[CLS]``, this is removed, because the model
was trained without them.
"""

from __future__ import annotations

import json
from typing import Any

from tiedlm.data.pieces import PieceVocabulary

# Post-processors of the library that put special tokens around a text.
_AROUND = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")


def tokenizer_json(vocabulary: PieceVocabulary) -> dict[str, Any]:
    """Return ``tokenizer.json`` without special tokens around a text."""
    content: dict[str, Any] = json.loads(vocabulary.tokenizer_json)
    return content | {"post_processor": _without_special_tokens(content.get("post_processor"))}


def adds_special_tokens(vocabulary: PieceVocabulary) -> bool:
    """Tell whether the run's ``tokenizer.json`` puts special tokens around a text."""
    return bool(tokenizer_json(vocabulary) != json.loads(vocabulary.tokenizer_json))


def _without_special_tokens(processor: dict[str, Any] | None) -> dict[str, Any] | None:
    if processor is None or processor["type"] in _AROUND:
        return None
    if processor["type"] != "Sequence":
        return processor
    kept = map(_without_special_tokens, processor["processors"])
    return processor | {"processors": [one for one in kept if one is not None]}


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
