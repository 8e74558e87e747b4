"""``tiedlm score``: compute surprisal, entropy and rank of every word of a text."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiedlm.cli import help_groups, note
from tiedlm.cli.method_flags import MethodFlags
from tiedlm.cli.methods import model_inputs, scoring_members, tempered
from tiedlm.cli.score_text import Text, open_text
from tiedlm.errors import UserError, visible

if TYPE_CHECKING:
    from torch import Tensor

    from tiedlm.data import Vocabulary
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
    from tiedlm.cli.models import check_order, load_model, splits_words
    from tiedlm.files import keep_input
    from tiedlm.scoring import pieces
    from tiedlm.scoring.piece_words import joiner

    flags = flags or MethodFlags()
    _check_adapt(adapt, adapt_lr)
    _check_methods(flags, adapt, unit)
    check_order("score", run, file)
    inputs: list[Path | str] = [file, *model_inputs(run, flags)]
    keep_input(out, *inputs)
    keep_input(unk_list, *inputs, flag="--unk-list")
    if out is not None and unk_list is not None and out.resolve() == unk_list.resolve():
        raise UserError(f"--out and --unk-list are both {out}; choose another file for one of them")
    model, vocabulary = load_model(run, device)
    tokenize = splits_words(run, vocabulary, tokenize)
    text = open_text(run, vocabulary, file, column, unit, tokenize)
    members = scoring_members(run, model, flags, device, precision)
    if sum_pieces is None:
        sum_pieces = text.totals is not None or pieces.has_pieces(vocabulary)
    document = unit == "document"
    start = start or ("none" if document else "eos")
    first = vocabulary.eos_id if start == "eos" else None
    adapt_lr = (adapt_lr or DEFAULT_ADAPT_LR) if adapt else None
    starts_V = None
    if sum_pieces:
        starts_V = pieces.word_starts(vocabulary).to(model.embedding.weight)
    scored = _score(members, text.sentences, first, document, adapt_lr, starts_V)
    if text.totals is not None:
        scored = text.totals.score(scored)
    first_scored, scored = _first_words(scored, file)
    if sum_pieces:
        if text.totals is None:
            pieces.check_pieces(first_scored, file)
        scored = map(joiner(vocabulary), scored)
    for line in text.notes:
        note(line)
    summary = _write(
        scored, out, unk_list,
        unk_id=vocabulary.unk_id, base=base, unit=unit, eos_rows=eos, per=per, given=text.given,
    )  # fmt: skip
    _report(run, vocabulary, text, summary, unit)


def _write(
    scored: Iterator[Scored], out: Path | None, unk_list: Path | None, **options: Any
) -> Summary:
    """Write the table and the unknown words, each whole or not at all.

    Args:
        scored: what to write.
        out: a file for the table; None is standard output.
        unk_list: a file for the unknown words, if it is asked for.
        options: as :func:`tiedlm.scoring.table.write_table` takes them.
    """
    from tiedlm.files import text_file
    from tiedlm.scoring.table import write_counts, write_table

    with ExitStack() as files:
        target = sys.stdout if out is None else files.enter_context(text_file(out))
        unknown = None if unk_list is None else files.enter_context(text_file(unk_list))
        summary = write_table(target, scored, **options)
        if unknown is not None:
            write_counts(unknown, summary.unknown_words)
    return summary


def _report(run: Path, vocabulary: Vocabulary, text: Text, summary: Summary, unit: str) -> None:
    """Print the summary, and notes on a text that may be another than the user meant."""
    from tiedlm.cli.models import note_text, note_unknown
    from tiedlm.data.marks import notes_on_scored

    _advise(summary, unit)
    if text.totals is None:
        known = None if text.tokenize else vocabulary
        note_text(text.sample, notes_on_scored(text.marks.counts(), known))
    note_unknown(str(run), summary.unknown / max(summary.words, 1), "text")
    totals = text.totals
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
