"""Have an exported tokenizer put ``<eos>`` in front of every text.

In training the network read an ``<eos>`` before each sentence. So the first word of a text has a
probability only if ``<eos>`` precedes it. Programs that do not add it themselves, such as BabyLM's
evaluation pipeline, would not score the first word.
"""

from __future__ import annotations

from typing import Any


def start_with(word: str, number: int, tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return ``tokenizer.json`` with a special token before a text, and between two texts.

    ``add_special_tokens=False`` leaves it out.

    Args:
        word: the special token.
        number: its id.
        tokenizer: contents of ``tokenizer.json``.
    """
    mark = {"SpecialToken": {"id": word, "type_id": 0}}
    texts = [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"]
    template = {
        "type": "TemplateProcessing",
        "single": [mark, texts[0]],
        "pair": [mark, texts[0], mark, texts[1]],
        "special_tokens": {word: {"id": word, "ids": [number], "tokens": [word]}},
    }
    own = tokenizer["post_processor"]
    processors = {"type": "Sequence", "processors": [own, template]}
    return tokenizer | {"post_processor": template if own is None else processors}
