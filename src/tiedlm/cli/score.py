"""``tiedlm score``: surprisal, entropy and rank of every word of a text."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import IO, Annotated, Literal

from cyclopts import Parameter

from tiedlm.errors import UserError


def score(
    run: Path,
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    unit: Literal["sentence", "document"] = "sentence",
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
        UTF-8 text, a sentence a line; .gz is unpacked; - is standard input.
    unit
        sentence: each sentence is read afresh. document: the state is carried from the first
        word to the last, as `tiedlm evaluate` does.
    base
        Of the logarithm: 2 for bits, e for nats, 10.
    start
        eos: the first word is predicted after <eos>. none: nothing precedes it, so its row says
        NA, as in `tiedlm evaluate`. The default is eos for sentences and none for a document.
    eos
        Whether <eos>, which ends every sentence, has a row.
    adapt
        Learn while reading: a step of SGD after each sentence, its surprisal taken before.
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
    from tiedlm.files import atomic_path
    from tiedlm.scoring import pieces, read_lines, score_in_order, score_sentences, sentences
    from tiedlm.scoring.table import write_table
    from tiedlm.training.run_files import corpus_info

    if adapt_lr is not None and not adapt:
        raise UserError("--adapt-lr needs --adapt")
    if adapt_lr is not None and adapt_lr <= 0:
        raise UserError(f"--adapt-lr: expected a positive number, got {adapt_lr}")
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

    text = sentences(
        read_lines(file), vocabulary, tokenizer=tokenize, blank_lines=document and not tokenize
    )
    if document or adapt:
        lr = (adapt_lr or DEFAULT_ADAPT_LR) if adapt else None
        scored = score_in_order(
            model, text, start=first, carry_state=document, adapt_lr=lr, starts_V=starts_V
        )
    else:
        scored = score_sentences(model, text, start=first, starts_V=starts_V)
    # What is wrong with the file shows with its first sentence: before anything is written.
    scored = iter(scored)
    beginning = list(islice(scored, 1))
    if not beginning:
        raise UserError(f"{file} has no words; give it at least one line")
    scored = chain(beginning, scored)
    if sum_pieces:
        pieces.check_pieces(beginning[0], file)
        scored = (pieces.sum_pieces(one, vocabulary.unk_id) for one in scored)

    with ExitStack() as stack:
        target: IO[str] = sys.stdout
        if out is not None:
            path = stack.enter_context(atomic_path(out))
            target = stack.enter_context(path.open("w", encoding="utf-8"))
        summary = write_table(
            target, scored, unk_id=vocabulary.unk_id, base=base, unit=unit, eos_rows=eos
        )
        if summary.words == 0:
            raise UserError(f"{file} has no words; give it at least one line")
    print(summary.line(), file=sys.stderr)


DEFAULT_ADAPT_LR = 2.0
