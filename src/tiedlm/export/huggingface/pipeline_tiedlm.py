"""Text generation with a tiedlm model. This file is self-contained: it does not need tiedlm."""

from __future__ import annotations

from typing import Any

from transformers import TextGenerationPipeline
from transformers.pipelines.text_generation import ReturnType


class TiedLMTextGenerationPipeline(TextGenerationPipeline):
    """The pipeline of transformers, with a blank between a prompt and what follows it.

    Version 5 of transformers decodes the new words alone and puts them right behind the prompt, as
    if the first brought its blank. Here blanks stand between words, as ``decode`` writes them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers has put classes there, with which the configuration cannot be saved.
        for task in (getattr(self.model.config, "custom_pipelines", None) or {}).values():
            task["pt"] = [getattr(kind, "__name__", kind) for kind in task["pt"]]

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        return_type: ReturnType = ReturnType.FULL_TEXT,
        **kwargs: Any,
    ) -> Any:
        """Return the records of transformers; a full text is the prompt and then the new text."""
        prompt = model_outputs["prompt_text"]
        if return_type == ReturnType.TENSORS or not isinstance(prompt, str):
            return super().postprocess(model_outputs, return_type, **kwargs)
        kwargs.setdefault("clean_up_tokenization_spaces", False)  # version 4 would join "home ."
        records = super().postprocess(model_outputs, ReturnType.NEW_TEXT, **kwargs)
        for record in records:
            new = record["generated_text"].lstrip(" ")
            if new and prompt and not prompt[-1].isspace():
                new = " " + new
            is_full = return_type == ReturnType.FULL_TEXT
            record["generated_text"] = prompt + new if is_full else new
        return records
