"""``tiedlm score``: surprisal, entropy and rank of every word of a text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiedlm.cli import note
from tiedlm.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from tiedlm.model import LanguageModel
    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.surprisal import Scored
    from tiedlm.scoring.table import Summary
    from tiedlm.scoring.text import Sentence

DEFAULT_ADAPT_LR = 2.0


def score(
    run: Path,
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    column: str | None = None,
    unit: Literal["sentence", "line", "document"] = "sentence",
    base: Literal["2", "e", "10"] = "2",
    start: Literal["eos", "none"] | None = None,
    eos: bool = True,
    adapt: Annotated[bool, Parameter(negative="")] = False,
    adapt_lr: float | None = None,
    tokenize: bool | None = None,
    sum_pieces: bool | None = None,
    out: Path | None = None,
    precision: Literal["fp64", "fp32"] = "fp64",
    device: str = "cpu",
) -> None:
    """Write a table with a row per word: surprisal, entropy, entropy reduction, rank.

    Tab-separated with a header; docs/scoring.md describes the columns. A summary goes to
    standard error.

    Parameters
    ----------
    run
        Run folder, trained or imported.
    file
        UTF-8 text; .gz is unpacked; - is standard input.
    column
        The file is a table (CSV, or separated by tabs) with a header: score the text in this
        column, and give each word the other cells of its row.
    unit
        sentence: each sentence is read afresh, also the second one of a line. line: each line is.
        document: the state is carried from the first word to the last, as `tiedlm evaluate` does.
    base
        Of the logarithm: 2 for bits, e for nats, 10.
    start
        eos: the first word is predicted after <eos>. none: nothing precedes it, so its row says
        NA, as in `tiedlm evaluate`. The default is none for a document, else eos.
    eos
        Whether <eos>, which ends every sentence, has a row.
    adapt
        Learn while reading: a step of SGD after each sentence or line, its surprisal taken before.
    adapt_lr
        Learning rate of --adapt; the default is 2.
    tokenize
        Split raw text into words and sentences as the run's corpus was; the default is to do so
        where the corpus was tokenized by tiedlm.
    sum_pieces
        Join sub-word pieces into words; the default is to do so where the vocabulary is one of
        pieces that mark a word's beginning.
    out
        Write the table to this file instead of standard output.
    precision
        fp64: the batch changes no digit that is shown. fp32: faster.
    device
        auto, cpu, cuda or cuda:N.
    """
    from tiedlm.cli.models import load_model
    from tiedlm.files import keep_input
    from tiedlm.scoring import pieces, sentences
    from tiedlm.training.run_files import corpus_info, model_files

    _check_adapt(adapt, adapt_lr)
    keep_input(out, file, *model_files(run))
    model, vocabulary = load_model(run, device)
    if precision == "fp64":
        model.double()
    if tokenize is None:
        tokenize = corpus_info(run)["tokenizer"] == "tiedlm"
    if sum_pieces is None:
        sum_pieces = pieces.has_pieces(vocabulary)
    document = unit == "document"
    start = start or ("none" if document else "eos")
    lines, given, notes = _read(file, column, tokenize)
    text = sentences(
        lines,
        vocabulary,
        tokenizer=tokenize,
        blank_lines=document and not tokenize,
        whole_lines=unit == "line",
    )
    scored = _score(
        model,
        text,
        first=vocabulary.eos_id if start == "eos" else None,
        starts_V=pieces.word_starts(vocabulary).to(model.embedding.weight) if sum_pieces else None,
        carry_state=document,
        adapt_lr=(adapt_lr or DEFAULT_ADAPT_LR) if adapt else None,
    )
    first_scored, scored = _first_words(scored, file)
    if sum_pieces:
        pieces.check_pieces(first_scored, file)
        scored = (pieces.sum_pieces(one, vocabulary.unk_id) for one in scored)
    for line in notes:
        note(line)
    summary = _write(
        out, scored, unk_id=vocabulary.unk_id, base=base, unit=unit, eos_rows=eos, given=given
    )
    _advise(summary, unit)
    print(summary.line(), file=sys.stderr)


def _check_adapt(adapt: bool, adapt_lr: float | None) -> None:
    """Refuse a learning rate that is not one, or that nothing uses."""
    from tiedlm.training.ranges import LARGEST

    if adapt_lr is not None and not adapt:
        raise UserError("--adapt-lr needs --adapt")
    if adapt_lr is not None and not 0 < adapt_lr <= LARGEST:
        raise UserError(f"--adapt-lr: expected a positive number, got {adapt_lr}")


def _read(
    file: str, column: str | None, tokenize: bool
) -> tuple[Iterator[str], TextColumn | None, list[str]]:
    """Open a text; return its lines, the table that they are a column of, and notes to show."""
    from tiedlm.data.text import looks_tokenized, names_table
    from tiedlm.scoring import read_lines
    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.text import name_of

    notes = []
    lines = read_lines(file)
    given = None if column is None else TextColumn(lines, column, name_of(file))
    if given is not None:
        lines = iter(given)
    elif names_table(file):
        notes.append(
            f"{file} is read as plain text, its header too; --column NAME reads one column of it"
        )
    if not tokenize:
        sample, lines = tee(lines)
        is_raw = not looks_tokenized(sample)
        del sample  # else what is read from now on is kept for it
        if is_raw:
            notes.append(
                f"{name_of(file)} looks like raw text, and this run takes for words what stands "
                "between blanks; --tokenize splits it into words"
            )
    return lines, given, notes


def _score(
    model: LanguageModel,
    text: Iterator[Sentence],
    *,
    first: int | None,
    starts_V: Tensor | None,
    carry_state: bool,
    adapt_lr: float | None,
) -> Iterator[Scored]:
    """Score sentences: in order where one depends on the one before it, else in batches."""
    from tiedlm.scoring import score_in_order, score_sentences

    if carry_state or adapt_lr is not None:
        return iter(
            score_in_order(
                model, text, start=first, carry_state=carry_state, adapt_lr=adapt_lr,
                starts_V=starts_V,
            )
        )  # fmt: skip
    return iter(score_sentences(model, text, start=first, starts_V=starts_V))


def _first_words(scored: Iterator[Scored], file: str) -> tuple[Scored, Iterator[Scored]]:
    """Return the first sentence that has words, and all sentences.

    What is wrong with the file shows with its first words: before anything is written.

    Raises:
        UserError: if there are no words.
    """
    from tiedlm.data import EOS

    seen: list[Scored] = []
    for one in scored:
        seen.append(one)
        if any(word != EOS for word in one.sentence.words):
            return one, chain(seen, scored)
    raise UserError(f"{file} has no words; give it at least one line")


def _write(out: Path | None, scored: Iterator[Scored], **options: Any) -> Summary:
    """Write the table to a file that is whole or not there, or to standard output."""
    from tiedlm.files import atomic_path
    from tiedlm.scoring.table import write_table

    if out is None:
        return write_table(sys.stdout, scored, **options)
    with atomic_path(out) as path, path.open("w", encoding="utf-8") as target:
        return write_table(target, scored, **options)


def _advise(summary: Summary, unit: str) -> None:
    """Note what of the text's lines may not be as meant."""
    from tiedlm.scoring.table import count

    if unit == "sentence" and summary.cut_lines:
        cut = count(summary.cut_lines, "line")
        note(f"{cut} of more than one sentence, each read afresh; --unit line reads a line as one")
    if summary.most_parts == 1 and summary.sentences > 1:
        note(
            "no line has more than one word, and each is read as a sentence; put the words of an "
            "item on one line"
        )
