"""``tiedlm generate``: generate text with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiedlm.cli import shown
from tiedlm.cli.numbers import Seed, Whole, keeps_logits_finite
from tiedlm.errors import UserError


def generate(
    run: Path,
    context: str = "",
    /,
    *,
    words: Whole = 100,
    temperature: float = 1.0,
    seed: Seed = 1,
    unk: bool = False,
    tokenize: bool | None = None,
) -> None:
    """Sample text from a model.

    Parameters
    ----------
    run
        Run folder.
    context
        Words to start from, in quotes. By default a new line begins.
    words
        Number of words to generate.
    temperature
        Below 1 probable words are preferred, above 1 rare words come more often. 0 always takes the
        most probable word.
    seed
        Seed for the sampling.
    unk
        Allow <unk> in the text.
    tokenize
        Split the context into words and sentences; by default only if tiedlm tokenized the run's
        corpus.
    """
    from tiedlm.analysis.piece_words import generate_words
    from tiedlm.analysis.predictions import generate as sample
    from tiedlm.cli.models import check_context, context_ids, load_model
    from tiedlm.data import EOS
    from tiedlm.data.pieces import PieceVocabulary

    if words < 1:
        raise UserError(f"--words: expected at least 1, got {words}")
    if temperature != 0 and not keeps_logits_finite(temperature):
        raise UserError(f"--temperature: expected 0, or from 0.001 to 1e6, got {temperature}")
    check_context("generate", run, context)
    model, vocabulary = load_model(run)
    banned = () if unk or vocabulary.unk_id is None else (vocabulary.unk_id,)
    context_N = context_ids(run, vocabulary, context, tokenize)  # prints unknown words first
    print(context, end="", flush=True)
    starts_line = not context or context.endswith("\n")
    options: dict[str, Any] = {"temperature": temperature, "seed": seed, "banned": banned}
    if isinstance(vocabulary, PieceVocabulary):
        texts = generate_words(model, context_N, words, **options)
    else:
        ids = sample(model, context_N, words, **options)
        texts = (vocabulary.words[word_id] for word_id in ids)
    for text in texts:
        if text == EOS:
            print(flush=True)
        else:
            print("" if starts_line else " ", shown(text), sep="", end="", flush=True)
        starts_line = text == EOS
    print()
