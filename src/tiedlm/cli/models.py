"""Helpers for commands that use a trained model; imported when such a command runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tiedlm.cli import note, temporary_cache, until_the_end
from tiedlm.data import EOS, Corpus, Vocabulary, tokenize
from tiedlm.data.check import LACKS_BLANKS
from tiedlm.data.find import is_missing
from tiedlm.data.pieces import PieceVocabulary
from tiedlm.data.text import lacks_blanks
from tiedlm.data.tokenizer import sentences_of
from tiedlm.errors import UserError
from tiedlm.model import LanguageModel
from tiedlm.training.hardware import choose_device, fast_arithmetic
from tiedlm.training.run import load
from tiedlm.training.run_files import CONFIG, corpus_info, has_changed
from tiedlm.training.settings import Settings

MOST_UNKNOWN = 0.5  # share of unknown words above which scores mean little


def note_unknown(model: str, share: float, text: str) -> None:
    """Warn that a model knows too few words of a text or a list for its scores to mean much."""
    if share > MOST_UNKNOWN:
        note(
            f"{model} does not know {share:.0%} of the words: does the {text} differ from it in "
            "language, in capitals, or in how words are split?"
        )


def looks_raw(name: str) -> str:
    """Return a note about raw text that is split at spaces only."""
    return (
        f"{name} looks like raw text, but this run splits words at spaces only; --tokenize "
        "separates punctuation too"
    )


def note_text(sample: Iterable[str], notes: list[str]) -> None:
    """Print the notes that `tiedlm data check` has for such a text.

    Args:
        sample: the first lines of the text.
        notes: the notes about its special tokens.
    """
    for line in [LACKS_BLANKS] * lacks_blanks(sample) + notes:
        note(line)


def check_order(command: str, run: Path, file: str) -> None:
    """Refuse a run and a file that were given in the wrong order.

    Args:
        command: the command, such as "pairs".
        run: its first argument.
        file: its second.

    Raises:
        UserError: with the command to type.
    """
    if run.is_file() and (Path(file) / CONFIG).is_file():
        raise UserError(
            f"{run} is a file and {file} is a run folder; the run comes first: "
            f"`tiedlm {command} {file} {run}`"
        )


def check_context(command: str, run: Path, context: str) -> None:
    """Refuse a run and a context that were given in the wrong order.

    Raises:
        UserError: with the command to type.
    """
    if context and _is_run(context) and not _is_run(run):
        raise UserError(
            f"{context} is a run folder; the run comes first: "
            f"`tiedlm {command} {context} {shlex.quote(str(run))}`"
        )


def _is_run(name: str | Path) -> bool:
    try:
        return (Path(name) / CONFIG).is_file()
    except (OSError, ValueError):  # the text is too long for a file name, or has a null byte
        return False


def load_model(run: Path, device: str = "cpu") -> tuple[LanguageModel, Vocabulary]:
    """Load a run's best model and its vocabulary, and set threads and arithmetic."""
    model = load(run, choose_device(device))
    assert model.vocabulary is not None
    until_the_end(fast_arithmetic())
    return model, model.vocabulary


def load_run_corpus(
    run: Path,
    settings: Settings,
    data: str | None,
    vocabulary: Vocabulary,
    *,
    advice: str = "give its new place as --data",
) -> Corpus:
    """Load the run's corpus from its old or a new place; print a note if the text has changed.

    Args:
        run: the run folder.
        settings: the run's settings.
        data: where the text is now; None for the place in the settings.
        vocabulary: the run's vocabulary.
        advice: what the user can do if the text is missing.

    Raises:
        UserError: if the text is missing, or its vocabulary is not the run's.
    """
    if data is not None:
        settings = settings.replace(data=data)
    elif is_missing(settings.data):
        raise UserError(f"{settings.data}, the text of {run}, does not exist; {advice}")
    corpus = settings.load_corpus(without_cache=temporary_cache, run=run)
    if corpus.vocabulary != vocabulary:
        raise UserError(
            f"the vocabulary of corpus {corpus.name!r} ({len(corpus.vocabulary)} words) differs "
            f"from {run}'s ({len(vocabulary)} words): has the text or its split changed since "
            "training? (`tiedlm score` takes any text)"
        )
    if has_changed(run, corpus.info):
        note(f"the text of {corpus.name!r} has changed since {run} was trained on it")
    return corpus


def splits_words(run: Path, vocabulary: Vocabulary, tokenize: bool | None) -> bool:
    """Return whether to tokenize a text for a run: as its corpus was, unless --tokenize decides.

    Raises:
        UserError: if a run of pieces should tokenize.
    """
    if tokenize and isinstance(vocabulary, PieceVocabulary):
        raise UserError(f"--tokenize: the pieces of {run} read text as it is; leave it out")
    return corpus_info(run)["tokenizer"] == "tiedlm" if tokenize is None else tokenize


def context_ids(
    run: Path, vocabulary: Vocabulary, context: str, is_raw: bool | None = None
) -> npt.NDArray[np.int32]:
    """Encode a context the way the run's corpus was encoded, after an ``<eos>``.

    An ``<eos>`` stands between its lines, and between the sentences of raw text.

    Args:
        run: the run folder.
        vocabulary: the vocabulary that gives the ids.
        context: the words so far.
        is_raw: whether to tokenize it. None treats it like the run's corpus.
    """
    is_raw = splits_words(run, vocabulary, is_raw)
    if isinstance(vocabulary, PieceVocabulary):
        return vocabulary.context(context)
    sentences = _sentences_of(context, is_raw)
    words = [word for sentence in sentences for word in sentence]
    unknown = [word for word in words if word not in vocabulary]
    if unknown and vocabulary.unk_id is not None:
        advice = ""
        if not is_raw and sum(word not in vocabulary for word in tokenize(context)) < len(unknown):
            advice = " (--tokenize splits raw text into words)"
        print(f"read as <unk>: {', '.join(dict.fromkeys(unknown))}{advice}", file=sys.stderr)
    ids = [np.array([vocabulary.eos_id], dtype=np.int32)]
    for number, sentence in enumerate(sentences):
        if number > 0 and sentences[number - 1][-1:] != [EOS]:
            ids.append(ids[0])
        ids.append(vocabulary.encode(sentence))
    return np.concatenate(ids)


def _sentences_of(context: str, is_raw: bool) -> list[list[str]]:
    """Return the sentences of a context; the last one may be about to begin."""
    lines = context.split("\n")
    found = [sentence for line in lines for sentence in sentences_of(line, not is_raw)]
    return [*found, []] if is_raw and found and not lines[-1].strip() else found
