"""``tiedlm score``: compute surprisal, entropy and rank of every word of a text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tiedlm.cli import help_groups, note
from tiedlm.cli.methods import MethodFlags, scoring_members, tempered
from tiedlm.errors import UserError, visible

if TYPE_CHECKING:
    from torch import Tensor

    from tiedlm.scoring.columns import TextColumn
    from tiedlm.scoring.methods import Member
    from tiedlm.scoring.sentence import Sentence
    from tiedlm.scoring.surprisal import Scored
    from tiedlm.scoring.table import Summary

DEFAULT_ADAPT_LR = 2.0
_TEXT, _OUTPUT, _ADAPTING, _MACHINE = help_groups("Text", "Output", "Adapting", "Machine")


def score(
    run: Path,
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    column: Annotated[str | None, Parameter(group=_TEXT)] = None,
    unit: Annotated[Literal["sentence", "line", "document"], Parameter(group=_TEXT)] = "sentence",
    per: Annotated[Literal["word", "sentence"], Parameter(group=_OUTPUT)] = "word",
    base: Annotated[Literal["2", "e", "10"], Parameter(group=_OUTPUT)] = "2",
    start: Annotated[Literal["eos", "none"] | None, Parameter(group=_TEXT)] = None,
    eos: Annotated[bool, Parameter(group=_OUTPUT)] = True,
    adapt: Annotated[bool, Parameter(group=_ADAPTING, negative="")] = False,
    adapt_lr: Annotated[float | None, Parameter(group=_ADAPTING)] = None,
    flags: MethodFlags | None = None,
    tokenize: Annotated[bool | None, Parameter(group=_TEXT)] = None,
    sum_pieces: Annotated[bool | None, Parameter(group=_OUTPUT)] = None,
    out: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    unk_list: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    precision: Annotated[Literal["fp64", "fp32"], Parameter(group=_MACHINE)] = "fp64",
    device: Annotated[str, Parameter(group=_MACHINE)] = "cpu",
) -> None:
    """Write a table with a row per word: surprisal, entropy, entropy reduction, rank.

    The table is tab-separated, with a header; docs/scoring.md describes the columns. A summary goes
    to standard error.

    Parameters
    ----------
    run
        Run folder, trained or imported.
    file
        UTF-8 text, or a .gz of it; - is standard input.
    column
        Column with the text to score. The file is then a table (CSV or tab-separated) with a
        header, and each word's row ends with the other cells of its table row.
    unit
        sentence: the state is reset at every sentence. line: the state is reset at every line.
        document: the state is carried from the first word to the last, as in `tiedlm evaluate`.
    per
        word: write a row per word. sentence: write a row per sentence, or per line with --unit
        line, with the sum and the mean of its surprisals and its number of unknown words.
    base
        Base of the logarithm: 2 (bits), e (nats) or 10.
    start
        eos: predict the first word after <eos>. none: nothing precedes the first word, so its row
        has NA, as in `tiedlm evaluate`. The default is none with --unit document, else eos.
    eos
        Write a row for <eos>, which ends every sentence. With --per sentence, count it in the sum.
    adapt
        Learn while reading: take an SGD step after each sentence or line is scored.
    adapt_lr
        Learning rate of --adapt; 2 by default.
    tokenize
        Split raw text into words and sentences; by default only if tiedlm tokenized the run's
        corpus.
    sum_pieces
        Join sub-word pieces into words; by default only if the run is of pieces (`train --pieces`),
        or its vocabulary consists of pieces that mark the beginning of a word.
    out
        Write the table to this file instead of standard output.
    unk_list
        Write the words that the run does not know to this file, with their counts.
    precision
        fp64: the order of sentences changes no digit in the table. fp32: faster.
    device
        auto, cpu, cuda or cuda:N.
    """
    from tiedlm.cli.models import (
        check_order,
        load_model,
        note_text,
        note_unknown,
        splits_words,
    )
    from tiedlm.data.marks import Marks, notes_on_scored
    from tiedlm.data.pieces import PieceVocabulary
    from tiedlm.files import keep_input, text_file
    from tiedlm.scoring import pieces, sentences
    from tiedlm.scoring.piece_words import PieceTotals, joiner
    from tiedlm.scoring.table import write_counts, write_table
    from tiedlm.training.run_files import corpus_info, model_files

    flags = flags or MethodFlags()
    _check_adapt(adapt, adapt_lr)
    _check_methods(flags, adapt, unit)
    check_order("score", run, file)
    keep_input(out, file, *model_files(run))
    keep_input(unk_list, file, *model_files(run), flag="--unk-list")
    if out is not None and unk_list is not None and out.resolve() == unk_list.resolve():
        raise UserError(f"--out and --unk-list are both {out}; choose another file for one of them")
    model, vocabulary = load_model(run, device)
    members = scoring_members(run, model, flags, device)
    if precision == "fp64":
        for one in members:
            one.model.double()
    document = unit == "document"
    tokenize = splits_words(run, vocabulary, tokenize)
    totals = None
    if isinstance(vocabulary, PieceVocabulary):
        totals = PieceTotals(corpus_info(run)["pieces"]["words"] is None, blank_lines=document)
    if sum_pieces is None:
        sum_pieces = totals is not None or pieces.has_pieces(vocabulary)
    start = start or ("none" if document else "eos")
    adapt_lr = (adapt_lr or DEFAULT_ADAPT_LR) if adapt else None
    lines, given, notes = _read(file, column, tokenize or totals is not None)
    if totals is not None:
        lines = totals.read(lines)
    marks, sample = Marks(tokenized=not tokenize), list[str]()
    text = sentences(
        _sampled(lines, sample),
        vocabulary,
        tokenizer=tokenize,
        blank_lines=document and not tokenize,
        whole_lines=unit == "line",
        marks=marks,
    )
    first = vocabulary.eos_id if start == "eos" else None
    if sum_pieces:
        starts_V = pieces.word_starts(vocabulary).to(model.embedding.weight)
        scored = _score(members, text, first, document, adapt_lr, starts_V)
        scored = scored if totals is None else totals.score(scored)
        first_scored, scored = _first_words(scored, file)
        if not isinstance(vocabulary, PieceVocabulary):
            pieces.check_pieces(first_scored, file)
        scored = map(joiner(vocabulary), scored)
    else:
        scored = _score(members, text, first, document, adapt_lr)
        _, scored = _first_words(scored if totals is None else totals.score(scored), file)
    for line in notes:
        note(line)
    with ExitStack() as files:
        target = sys.stdout if out is None else files.enter_context(text_file(out))
        unknown = None if unk_list is None else files.enter_context(text_file(unk_list))
        summary = write_table(
            target,
            scored,
            unk_id=vocabulary.unk_id,
            base=base,
            unit=unit,
            eos_rows=eos,
            per=per,
            given=given,
        )
        if unknown is not None:
            write_counts(unknown, summary.unknown_words)
    _advise(summary, unit)
    if totals is None:
        note_text(sample, notes_on_scored(marks.counts(), None if tokenize else vocabulary))
    note_unknown(str(run), summary.unknown / max(summary.words, 1), "text")
    print(summary.line() if totals is None else totals.line(summary.size()), file=sys.stderr)
    if summary.unknown_words:
        print(visible(summary.unknown_line()), file=sys.stderr)


def _check_adapt(adapt: bool, adapt_lr: float | None) -> None:
    """Refuse an --adapt-lr that is out of range or lacks --adapt."""
    from tiedlm.training.ranges import LARGEST

    if adapt_lr is not None and not adapt:
        raise UserError("--adapt-lr needs --adapt")
    if adapt_lr is not None and not 0 < adapt_lr <= LARGEST:
        raise UserError(f"--adapt-lr: expected a positive number, got {adapt_lr}")


def _read(
    file: str, column: str | None, tokenize: bool
) -> tuple[Iterator[str], TextColumn | None, list[str]]:
    """Open a text; return its lines, the table they come from if any, and notes to print."""
    from tiedlm.cli.models import looks_raw
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
            f"{file} is read as plain text, its header too; to read one column, give --column NAME"
        )
    if not tokenize:
        sample, lines = tee(lines)
        is_raw = not looks_tokenized(sample)
        del sample  # otherwise tee keeps every line for it
        if is_raw:
            notes.append(looks_raw(name_of(file)))
    return lines, given, notes


def _check_methods(flags: MethodFlags, adapt: bool, unit: str) -> None:
    """Refuse methods that cannot be combined with each other or with the unit."""
    if adapt and flags.names():
        raise UserError(f"--adapt and {flags.names()[0]}: give one of them")
    if flags.dynamic and unit != "document":
        raise UserError(
            f"--dynamic carries what it learns through the text, --unit {unit} does not: give "
            "--unit document, or --adapt, which learns after each sentence"
        )


def _score(
    members: list[Member],
    text: Iterator[Sentence],
    first: int | None,
    carry_state: bool,
    adapt_lr: float | None,
    starts_V: Tensor | None = None,
) -> Iterator[Scored]:
    """Score sentences: in order if each depends on the previous one, else in batches."""
    from tiedlm.scoring import score_in_order, score_sentences
    from tiedlm.scoring.methods import score_with_methods

    methods = members[0].methods
    if len(members) > 1 or methods.dynamic is not None or methods.cache is not None:
        return iter(
            score_with_methods(
                members, text, start=first, carry_state=carry_state, starts_V=starts_V
            )
        )
    model, _ = tempered(members)
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

    Reading up to the first words shows what is wrong with the file before anything is written.

    Raises:
        UserError: if there are no words.
    """
    from tiedlm.data import EOS

    seen: list[Scored] = []
    for one in scored:
        seen.append(one)
        if any(word != EOS for word in one.sentence.words):
            return one, chain(seen, scored)
    raise UserError(f"{file} has no words: it is empty, or every line is blank")


def _sampled(lines: Iterator[str], sample: list[str]) -> Iterator[str]:
    """Yield all lines, and keep the first ones as a sample of the text."""
    from tiedlm.data.text import SAMPLE

    characters = 0
    for line in lines:
        if characters <= SAMPLE:
            sample.append(line)
            characters += len(line)
        yield line


def _advise(summary: Summary, unit: str) -> None:
    """Print notes on lines that may have been cut differently from what the user meant."""
    from tiedlm.scoring.table import count

    if unit == "sentence" and summary.cut_lines:
        cut = count(summary.cut_lines, "line")
        note(f"{cut} with several sentences, each read separately; --unit line keeps them together")
    if summary.most_parts == 1 and summary.sentences > 1:
        note(
            "every line has one word and is read as a sentence; put the words of an item on one "
            "line"
        )
