"""Write what transformers needs beside the ``tokenizer.json`` of a run of pieces.

The file is the run's own. In pieces that tiedlm trained, the newline is ``<eos>``: a text has the
ids that its lines have in tiedlm, and decoding them gives the text. A tokenizer that was given with
``--pieces FILE`` has the same ids for each line alone.
"""

from __future__ import annotations

from typing import Any

from tiedlm.data.pieces import PieceVocabulary


def tokenizer_config(vocabulary: PieceVocabulary) -> dict[str, Any]:
    """Return ``tokenizer_config.json``.

    Names of pieces in a text, such as ``<eos>``, are spelled and never read as the piece.
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
