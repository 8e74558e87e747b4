"""``tiedlm pairs``: judge minimal pairs, such as BLiMP's."""

from __future__ import annotations

from contextlib import ExitStack
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiedlm.cli import help_groups, note
from tiedlm.cli.method_flags import TemperatureFlags
from tiedlm.cli.methods import model_inputs, scoring_members, tempered
from tiedlm.json_text import to_json

if TYPE_CHECKING:
    from tiedlm.data import Vocabulary
    from tiedlm.data.marks import Marks
    from tiedlm.scoring.pair_files import Pair
    from tiedlm.scoring.pairs import Counts

_PAIRS, _OUTPUT, _MACHINE = help_groups("Pairs", "Output", "Machine")


def pairs(
    run: Path,
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *more: str,
    good: Annotated[str | None, Parameter(group=_PAIRS)] = None,
    bad: Annotated[str | None, Parameter(group=_PAIRS)] = None,
    by: Annotated[str | None, Parameter(group=_PAIRS)] = None,
    tokenize: Annotated[bool | None, Parameter(group=_PAIRS)] = None,
    eos: Annotated[bool, Parameter(group=_PAIRS)] = True,
    out: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    base: Annotated[Literal["2", "e", "10"], Parameter(group=_OUTPUT)] = "2",
    flags: TemperatureFlags | None = None,
    json_: Annotated[bool, Parameter(name="--json", group=_OUTPUT, negative="")] = False,
    precision: Annotated[Literal["fp64", "fp32"], Parameter(group=_MACHINE)] = "fp64",
    device: Annotated[str, Parameter(group=_MACHINE)] = "cpu",
) -> None:
    """Count in how many minimal pairs the good sentence is more probable than the bad one.

    Parameters
    ----------
    run
        Run folder, trained or imported.
    file
        JSON lines as BLiMP has them, or a table (tab-separated or CSV) with a column for each
        sentence. A file may be a .gz; - is standard input.
    more
        More such files.
    good
        Field or column of the good sentence; sentence_good or good by default.
    bad
        Field or column of the bad sentence; sentence_bad or bad by default.
    by
        Field or column of the phenomenon; linguistics_term, UID or phenomenon by default. A file
        without any of these counts as one phenomenon.
    tokenize
        Split raw text into words; by default only if tiedlm tokenized the run's corpus.
    eos
        Count the <eos> that ends every sentence.
    out
        Write a table with a row per pair to this file: both sums, difference, unknown words.
    base
        Base of the logarithm in that table: 2 (bits), e (nats) or 10.
    json_
        Print JSON instead of a table of accuracies.
    precision
        fp64: the order of pairs changes no digit of the result. fp32: faster.
    device
        auto, cpu, cuda or cuda:N.
    """
    from tiedlm.cli.models import check_order, load_model, splits_words
    from tiedlm.data.marks import Marks
    from tiedlm.data.pieces import PieceVocabulary
    from tiedlm.files import keep_input, text_file
    from tiedlm.scoring.pairs import Counts, score_pairs, tally, written

    check_order("pairs", run, file)
    keep_input(out, file, *more, *model_inputs(run, flags))
    given, notes = _read([file, *more], good, bad, by)
    model, vocabulary = load_model(run, device)
    members = scoring_members(run, model, flags or TemperatureFlags(), device, precision)
    model, others = tempered(members)
    tokenize = splits_words(run, vocabulary, tokenize)
    marks = Marks(tokenized=not tokenize)
    scored = score_pairs(
        model, vocabulary, given, tokenizer=tokenize, eos=eos, marks=marks, others=others
    )
    with ExitStack() as files:
        if out is not None:
            scored = written(files.enter_context(text_file(out)), scored, base)
        counts = tally(scored)
    total = reduce(Counts.plus, counts.values())
    for line in notes:
        note(line)
    if not isinstance(vocabulary, PieceVocabulary):
        _advise_on_text(given, marks, None if tokenize else vocabulary)
    _advise_on_outcomes(str(run), given, total)
    if json_:
        print(to_json(_values(total, counts), indent=2, ensure_ascii=False))
    else:
        _print_table(total, counts)


def _read(
    files: list[str], good: str | None, bad: str | None, by: str | None
) -> tuple[list[Pair], list[str]]:
    """Read all files; return their pairs, and notes to print."""
    from tiedlm.scoring.pair_files import read_pairs
    from tiedlm.scoring.text import name_of

    found, notes = [], []
    for file in files:
        pairs, has_header = read_pairs(file, good=good, bad=bad, by=by)
        found += pairs
        if not has_header:
            notes.append(
                f"{name_of(file)} is read as pairs from its first line on, with the good sentence "
                "first; if that line is a header, give --good and --bad"
            )
    return found, notes


def _advise_on_text(given: list[Pair], marks: Marks, vocabulary: Vocabulary | None) -> None:
    """Print notes on sentences that a run of words may not read as the user meant.

    Args:
        given: the pairs.
        marks: the special tokens in them.
        vocabulary: the run's words if words are split at spaces only, else None.
    """
    from tiedlm.cli.models import looks_raw, note_text
    from tiedlm.data.marks import notes_on_scored
    from tiedlm.data.text import looks_tokenized

    texts = [text for pair in given for text in (pair.good, pair.bad)]
    if vocabulary is not None and not looks_tokenized(texts):
        note(looks_raw(given[0].file))
    note_text(texts, notes_on_scored(marks.counts(), vocabulary))


def _advise_on_outcomes(run: str, given: list[Pair], total: Counts) -> None:
    """Print notes on pairs whose outcome says little about the model.

    Args:
        run: the run's name.
        given: the pairs.
        total: the counts over all of them.
    """
    from tiedlm.cli.models import note_unknown
    from tiedlm.scoring.table import count

    note_unknown(run, total.unknown / max(total.words, 1), "text")
    if total.unknown_one_side:
        has, their = ("has", "its") if total.unknown_one_side == 1 else ("have", "their")
        note(
            f"{total.unknown_one_side:,} of {count(total.pairs, 'pair')} {has} an unknown word on "
            f"one side only; {their} outcome says more about the vocabulary than about the model "
            "(--out marks such pairs)"
        )
    if total.same_words:
        first = next((f", as in {p.where}" for p in given if p.good == p.bad), "")
        alike = count(total.same_words, "pair")
        note(f"{alike} with the same words in both sentences{first}; such a pair is a tie")


def _values(total: Counts, counts: dict[str, Counts]) -> dict[str, Any]:
    """Return the JSON object for all pairs."""
    phenomena = {name: _numbers(one) for name, one in counts.items()}
    return {
        **_numbers(total),
        "words": total.words,
        "unknown_words": total.unknown,
        "mean_accuracy": _mean(counts),
        "interval": "wilson",
        "phenomena": phenomena,
    }


def _numbers(counts: Counts) -> dict[str, Any]:
    from tiedlm.scoring.pairs import wilson95

    return {
        "pairs": counts.pairs,
        "correct": counts.correct,
        "accuracy": counts.accuracy,
        "interval95": wilson95(counts.correct, counts.pairs),
        "ties": counts.ties,
        "ties_share": counts.ties / counts.pairs,
        "unknown_only": counts.unknown_only,
        "unknown_only_share": counts.unknown_only / counts.pairs,
        "unknown_one_side": counts.unknown_one_side,
        "same_words": counts.same_words,
    }


def _mean(counts: dict[str, Counts]) -> float:
    """Return the mean of the phenomena's accuracies, each with the same weight."""
    return sum(one.accuracy for one in counts.values()) / len(counts)


def _print_table(total: Counts, counts: dict[str, Counts]) -> None:
    """Print a row per phenomenon, and one for all pairs."""
    from rich.table import Table

    from tiedlm.progress import table_console

    table = Table("phenomenon", "pairs", "correct", "95% interval", "ties", "unknown words only")
    table.columns[0].overflow = "fold"
    if len(counts) > 1:
        for name, one in counts.items():
            table.add_row(name, *_cells(one))
        table.add_section()
        table.add_row(f"mean of {len(counts)} phenomena", "", f"{_mean(counts):.2%}")
    table.add_row("all pairs", *_cells(total))
    console = table_console()
    console.print(table)
    console.print(
        "A tie is wrong. Intervals are Wilson's. Unknown words only: pairs whose sentences differ "
        "only in words that the run does not know, so they are ties.",
        highlight=False,
    )


def _cells(counts: Counts) -> list[str]:
    from tiedlm.scoring.pairs import wilson95

    low, high = wilson95(counts.correct, counts.pairs)
    return [
        f"{counts.pairs:,}",
        f"{counts.accuracy:.2%}",
        f"{low:.2%} to {high:.2%}",
        f"{counts.ties / counts.pairs:.2%}",
        f"{counts.unknown_only / counts.pairs:.2%}",
    ]
