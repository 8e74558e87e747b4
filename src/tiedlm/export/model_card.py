"""The model card of an exported folder: its ``README.md``.

The text is in the Jinja template ``model_card.md``. Above the text, ``huggingface_hub`` writes the
metadata: licence, language, corpus, and the perplexities as a ``model-index``.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import tiedlm
from tiedlm import files
from tiedlm.data import Vocabulary
from tiedlm.data.pieces import NEWLINE, PieceVocabulary
from tiedlm.errors import require
from tiedlm.model import LanguageModel
from tiedlm.training.run_files import CONFIG, RESULT, perplexity_of_result, read_result
from tiedlm.training.settings import IMPORTED, Settings

RECORDED = "result"  # in the configuration of an exported folder
_SPLITS = {"valid_ppl": "validation", "test_ppl": "test"}
_NEWLINE = "The newline"
_FIRST = {"": "<eos> ", _NEWLINE: "\\n"}  # what ends a line of pieces -> what begins a text
_PUT_IN_FRONT = "put `tokenizer.eos_token_id` in front of the ids of a text"
_RAW = "The tokenizer lower-cases and splits raw text as the training text was: give it raw text."
_ALL_KNOWN = "The model has no `<unk>`. A text with a word that it does not know is an error."
_BLANKS = "Blanks separate words: give it text that is tokenized as the training text was."


def card_library() -> Any:
    """Import the library that writes model cards.

    Raises:
        UserError: naming the extra, if it is not installed.
    """
    return require("huggingface_hub", "hf", "export --to hf")


def result_of(run: Path) -> dict[str, Any] | None:
    """Return the perplexities of a run or of an exported folder, None where they are not known.

    They are per word, also for a run of pieces.
    """
    if (run / RESULT).is_file():
        result = read_result(run)
        per_word = {f"{part}_ppl": perplexity_of_result(result, part) for part in ("valid", "test")}
        return per_word | {"epochs": result["epochs"]}
    recorded: dict[str, Any] | None = files.read_json(run / CONFIG).get(RECORDED)
    return recorded


def model_card(
    title: str,
    model: LanguageModel,
    settings: Settings,
    result: dict[str, Any] | None,
    corpus: str,
    raw_text: bool,
    licence: str | None = None,
    language: str | None = None,
    start: str = "none",
    version: str = tiedlm.__version__,
) -> str:
    """Describe a model: what it is, how good it is, how to use it.

    Args:
        title: name of the model.
        model: gives shape, tying, bias and vocabulary.
        settings: of its training.
        result: its perplexities, if they are known.
        corpus: name of the training text.
        raw_text: whether the tokenizer splits raw text.
        licence: of the weights, as the Hub names it, such as "apache-2.0".
        language: of the text, as ISO 639 names it, such as "en".
        start: "eos" if the tokenizer puts ``<eos>`` in front of every text, else "none".
        version: of the tiedlm that trained it.

    Raises:
        UserError: if huggingface_hub is not installed.
    """
    hub = card_library()
    data = hub.ModelCardData(
        language=language,
        license=licence,
        library_name="transformers",
        tags=["language-model", model.config.network, "weight-tying", "tiedlm"],
        datasets=[corpus],
        model_name=title,
        eval_results=_results(hub, result, corpus) or None,
    )
    facts = _facts(model, settings, result, corpus, version)
    first = _FIRST.get(facts["end"], "")
    begin = "begin a text with it" if first else _PUT_IN_FRONT
    if start == "eos":
        first, begin = "", "the tokenizer begins a text with it"
    template = resources.files("tiedlm.export").joinpath("model_card.md")
    return str(
        hub.ModelCard.from_template(
            data,
            template_str=template.read_text(encoding="utf-8"),
            title=title,
            **facts,
            text=_RAW if raw_text else _BLANKS,
            first=first,
            begin=begin,
            pieces=isinstance(model.vocabulary, PieceVocabulary),
        )
    )


def _results(hub: Any, result: dict[str, Any] | None, corpus: str) -> list[Any]:
    """Return the perplexities as entries of a ``model-index``."""
    return [
        hub.EvalResult(
            task_type="text-generation",
            dataset_type=corpus,
            dataset_name=corpus,
            dataset_split=split,
            metric_type="perplexity",
            metric_name="word_perplexity",
            metric_value=round(result[name], 4),
        )
        for name, split in _SPLITS.items()
        if result is not None
    ]


def _facts(
    model: LanguageModel,
    settings: Settings,
    result: dict[str, Any] | None,
    corpus: str,
    version: str,
) -> dict[str, str]:
    """Return the values for the template of the card."""
    config, vocabulary = model.config, model.vocabulary
    assert vocabulary is not None
    pieces = isinstance(vocabulary, PieceVocabulary)
    among = "`<eos>`" if pieces else "`<eos>` and `<unk>`"
    end = _end_of(vocabulary) if isinstance(vocabulary, PieceVocabulary) else ""
    if vocabulary.unk_id is None:
        unknown = "Any text has pieces, so nothing is unknown." if pieces else _ALL_KNOWN
    elif pieces:
        unknown = "What has no piece is unknown to the model."
    else:
        unknown = "Words that the model does not know are read as `<unk>`."
    origin = f"trained with tiedlm {version} on the corpus `{corpus}`"
    if settings.alpha > 0:
        origin += (
            f" with the augmented loss (alpha {settings.alpha:g}, "
            f"temperature {settings.temperature:g})"
        )
    results = "Its perplexity is not recorded here."
    if settings.recipe == IMPORTED:
        origin = "imported into tiedlm from a checkpoint of another program, not trained by it"
        results = "Its perplexity was not measured."
    if result is not None:
        results = (
            f"Perplexity per word, {among} among the words: "
            f"{result['valid_ppl']:.2f} on validation, {result['test_ppl']:.2f} on test "
            f"({result['epochs']} epochs, 1 seed)."
        )
    return {
        "network": config.network.upper(),
        "tying": (
            f"embeddings {'tied' if config.tied else 'not tied'}, "
            f"{'a' if config.has_decoder_bias else 'no'} bias in the classifier"
        ),
        "origin": origin,
        "words": f"{config.vocab_size:,}",
        "layers": f"{config.n_layers}",
        "width": f"{config.d_hidden}",
        "parameters": f"{model.num_params():,}",
        "results": results,
        "end": end,
        "unknown": unknown,
        "example": "The" if pieces else _some_words(vocabulary),
    }


def _end_of(vocabulary: PieceVocabulary) -> str:
    """Return the name of the piece that ends a line."""
    token = vocabulary.token(vocabulary.eos_id)
    return _NEWLINE if token == NEWLINE else f"`{token.strip()}`"


def _some_words(vocabulary: Vocabulary) -> str:
    return " ".join(word for word in vocabulary.words[:8] if word.isalpha()) or "the"
