"""``tiedlm predict``: show the most probable next words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tiedlm.cli import note, shown
from tiedlm.cli.numbers import Whole
from tiedlm.errors import UserError
from tiedlm.json_text import to_json


def predict(
    run: Path,
    context: str,
    /,
    *,
    top: Whole = 10,
    tokenize: bool | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Show the most probable next words after a context.

    Parameters
    ----------
    run
        Run folder.
    context
        The words so far, in quotes. Words that the model does not know are read as <unk>. The last
        word counts as complete.
    top
        Number of words to show.
    tokenize
        Split the context into words and sentences; by default only if tiedlm tokenized the run's
        corpus.
    json_
        Print JSON instead of text.
    """
    from tiedlm.analysis.piece_words import next_piece_words
    from tiedlm.analysis.predictions import next_words
    from tiedlm.cli.models import check_context, context_ids, load_model
    from tiedlm.data.pieces import PieceVocabulary

    if top < 1:
        raise UserError(f"--top: expected at least 1, got {top}")
    check_context("predict", run, context)
    model, vocabulary = load_model(run)
    ids = context_ids(run, vocabulary, context, tokenize)
    if isinstance(vocabulary, PieceVocabulary):
        found, is_complete = next_piece_words(model, ids, top)
        if not is_complete:
            note(
                "the search for words was long and was stopped: the probabilities are exact, but a "
                "word that is missing may be as probable as the last one shown"
            )
    else:
        found = next_words(model, ids, top)
    if json_:
        print(to_json([prediction._asdict() for prediction in found]))
        return
    for prediction in found:
        print(f"{prediction.probability:8.4f}  {shown(prediction.word)}")
