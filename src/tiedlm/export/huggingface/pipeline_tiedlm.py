"""Text generation with a tiedlm model. This file is self-contained and does not need tiedlm."""

from __future__ import annotations

from typing import Any

from transformers import TextGenerationPipeline
from transformers.pipelines.text_generation import ReturnType


class TiedLMTextGenerationPipeline(TextGenerationPipeline):
    """The transformers pipeline, with a space between the prompt and the new text.

    Version 5 of transformers decodes the new words alone and appends them to the prompt without a
    space. It expects tokens that begin with their own space, but the words here have none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # transformers puts classes here, which cannot be saved with the configuration.
        for task in (getattr(self.model.config, "custom_pipelines", None) or {}).values():
            task["pt"] = [getattr(kind, "__name__", kind) for kind in task["pt"]]

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        return_type: ReturnType = ReturnType.FULL_TEXT,
        **kwargs: Any,
    ) -> Any:
        """Return the generated records, joining prompt and new text with a space."""
        prompt = model_outputs["prompt_text"]
        if return_type == ReturnType.TENSORS or not isinstance(prompt, str):
            return super().postprocess(model_outputs, return_type, **kwargs)
        kwargs.setdefault("clean_up_tokenization_spaces", False)  # version 4 would join "home ."
        records = super().postprocess(model_outputs, ReturnType.NEW_TEXT, **kwargs)
        decoder = self.tokenizer.backend_tokenizer.decoder
        for index, record in enumerate(records):
            if decoder is not None:  # pieces have their own blanks
                new = self._behind(index, model_outputs)
                is_full = return_type == ReturnType.FULL_TEXT
                record["generated_text"] = prompt + new if is_full else new
                continue
            new = record["generated_text"].lstrip(" ")
            if new and prompt and not prompt[-1].isspace():
                new = " " + new
            is_full = return_type == ReturnType.FULL_TEXT
            record["generated_text"] = prompt + new if is_full else new
        return records

    def _behind(self, index: int, model_outputs: dict[str, Any]) -> str:
        """Return the text of new pieces, decoded with the prompt: they may go on with its word."""
        prompt = model_outputs["input_ids"][0].tolist()
        whole = model_outputs["generated_sequence"][0][index].tolist()
        return str(self.tokenizer.decode(whole)[len(self.tokenizer.decode(prompt)) :])
