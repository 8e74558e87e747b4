"""``tiedlm score``: surprisal, entropy and rank of every word of a text."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import chain, tee
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tiedlm.cli import note
from tiedlm.errors import UserError

if TYPE_CHECKING:
    from tiedlm.scoring.surprisal import Scored


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
    from tiedlm.data import EOS
    from tiedlm.data.text import looks_tokenized, names_table
    from tiedlm.files import atomic_path, keep_input
    from tiedlm.scoring import pieces, read_lines, score_in_order, score_sentences, sentences
    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.table import count, write_table
    from tiedlm.scoring.text import name_of
    from tiedlm.training.run_files import corpus_info, model_files
    from tiedlm.training.settings import LARGEST

    if adapt_lr is not None and not adapt:
        raise UserError("--adapt-lr needs --adapt")
    if adapt_lr is not None and not 0 < adapt_lr <= LARGEST:
        raise UserError(f"--adapt-lr: expected a positive number, got {adapt_lr}")
    keep_input(out, file, *model_files(run))
    model, vocabulary = load_model(run, device)
    if precision == "fp64":
        model.double()
    if tokenize is None:
        tokenize = corpus_info(run)["tokenizer"] == "tiedlm"
    if sum_pieces is None:
        sum_pieces = pieces.has_pieces(vocabulary)
    starts_V = pieces.word_starts(vocabulary).to(model.embedding.weight) if sum_pieces else None
    document = unit == "document"
    start = start or ("none" if document else "eos")
    first = vocabulary.eos_id if start == "eos" else None

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
    text = sentences(
        lines,
        vocabulary,
        tokenizer=tokenize,
        blank_lines=document and not tokenize,
        whole_lines=unit == "line",
    )
    if document or adapt:
        lr = (adapt_lr or DEFAULT_ADAPT_LR) if adapt else None
        scored = score_in_order(
            model, text, start=first, carry_state=document, adapt_lr=lr, starts_V=starts_V
        )
    else:
        scored = score_sentences(model, text, start=first, starts_V=starts_V)
    # What is wrong with the file shows with its first words: before anything is written.
    scored = iter(scored)
    first_scored: list[Scored] = []
    for one in scored:
        first_scored.append(one)
        if any(word != EOS for word in one.sentence.words):
            break
    else:
        raise UserError(f"{file} has no words; give it at least one line")
    scored = chain(first_scored, scored)
    if sum_pieces:
        pieces.check_pieces(first_scored[-1], file)
        scored = (pieces.sum_pieces(one, vocabulary.unk_id) for one in scored)

    for line in notes:
        note(line)

    with ExitStack() as stack:
        target: IO[str] = sys.stdout
        if out is not None:
            path = stack.enter_context(atomic_path(out))
            target = stack.enter_context(path.open("w", encoding="utf-8"))
        summary = write_table(
            target, scored, unk_id=vocabulary.unk_id, base=base, unit=unit, eos_rows=eos,
            given=given,
        )  # fmt: skip
    if unit == "sentence" and summary.cut_lines:
        cut = count(summary.cut_lines, "line")
        note(f"{cut} of more than one sentence, each read afresh; --unit line reads a line as one")
    if summary.most_parts == 1 and summary.sentences > 1:
        note(
            "no line has more than one word, and each is read as a sentence; put the words of an "
            "item on one line"
        )
    print(summary.line(), file=sys.stderr)


DEFAULT_ADAPT_LR = 2.0
