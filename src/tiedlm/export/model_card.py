"""The ``README.md`` of an exported folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tiedlm
from tiedlm import files
from tiedlm.model import LanguageModel
from tiedlm.training.run_files import CONFIG, RESULT, read_result
from tiedlm.training.settings import IMPORTED, Settings

_CARD = """---
library_name: transformers
tags: [language-model, lstm, weight-tying, tiedlm]
---

# {title}

A word-level LSTM language model, {tying}, {origin}:
{words:,} words, {layers} layers of {width} units, {parameters:,} parameters.

{results}

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # this folder
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
inputs = tokenizer("<eos> {example}", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0]))
```

- {text}
- `<eos>` ends a sentence, and stands before the first one: begin a text with it. A line end in a
  text becomes `<eos>`, and nothing else does: give it one sentence a line, without blank lines.
  Words that the model does not know are read as `<unk>`.
- There is no longest input. The state of the network is `past_key_values`.
- Give `pipeline("text-generation", model=folder, trust_remote_code=True)` the folder, not a loaded
  model: the folder's own pipeline puts a blank between the prompt and the words after it. Where you
  join them yourself, write `prompt + " " + tokenizer.decode(new_ids)`.
- Padding has the id of `<eos>`: the model has a row for each word, and none for anything else.
  Collators that mask every padding id in the labels leave out each `<eos>` too. To train with
  padded batches, make the labels from the mask, with `padding_side="right"`:
  `input_ids.masked_fill(attention_mask == 0, -100)`.
- Vocabulary: `vocabulary.txt`, one word a line. `tiedlm.load` reads this folder as well.
"""
_RAW = "The tokenizer lower-cases and splits raw text as the training text was: give it raw text."
_BLANKS = "Blanks separate words: give it text that is tokenized as the training text was."


RECORDED = "result"  # in the configuration of an exported folder


def result_of(run: Path) -> dict[str, Any] | None:
    """Return what a run, or the run that was exported to this folder, came to, if that is known."""
    if (run / RESULT).is_file():
        result = read_result(run)
        return {name: result[name] for name in ("valid_ppl", "test_ppl", "epochs")}
    recorded: dict[str, Any] | None = files.read_json(run / CONFIG).get(RECORDED)
    return recorded


def model_card(
    title: str,
    model: LanguageModel,
    settings: Settings,
    result: dict[str, Any] | None,
    corpus: str,
    raw_text: bool,
) -> str:
    """Describe a model: what it is, how good it is, how to use it."""
    config = model.config
    origin = f"trained with tiedlm {tiedlm.__version__} on the corpus `{corpus}`"
    results = "Its perplexity is not recorded here."
    if settings.recipe == IMPORTED:
        origin = "imported into tiedlm from a checkpoint of another program, not trained by it"
        results = "Its perplexity was not measured."
    if result is not None:
        results = (
            f"Perplexity per word, `<eos>` and `<unk>` among the words: "
            f"{result['valid_ppl']:.2f} on validation, {result['test_ppl']:.2f} on test "
            f"({result['epochs']} epochs, 1 seed)."
        )
    vocabulary = model.vocabulary
    assert vocabulary is not None
    example = " ".join(word for word in vocabulary.words[:8] if word.isalpha()) or "the"
    return _CARD.format(
        title=title,
        tying=(
            f"embeddings {'tied' if config.tied else 'not tied'}, "
            f"{'a' if config.has_decoder_bias else 'no'} bias in the classifier"
        ),
        origin=origin,
        words=config.vocab_size,
        layers=config.n_layers,
        width=config.d_hidden,
        parameters=model.num_params(),
        results=results,
        example=example,
        text=_RAW if raw_text else _BLANKS,
    )
