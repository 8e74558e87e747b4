"""``tiedlm rescore``: rescore n-best lists of a speech recogniser."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tiedlm.cli import help_groups, note
from tiedlm.cli.method_flags import TemperatureFlags
from tiedlm.cli.methods import model_inputs, scoring_members, tempered
from tiedlm.errors import UserError

if TYPE_CHECKING:
    from tiedlm.data import Vocabulary
    from tiedlm.scoring.arpa import Mixture
    from tiedlm.scoring.nbest import NBest
    from tiedlm.scoring.rescore import ScoredLists, Weights

_LINE_ENDS = re.compile(r"[\r\n]+")  # as a JSON text may have them
_LIST, _WEIGHTS, _NGRAMS, _OUTPUT, _MACHINE = help_groups(
    "List", "Weights", "N-gram model", "Output", "Machine"
)


def rescore(
    run: Path,
    nbest: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    acoustic_cost: Annotated[Path | None, Parameter(group=_LIST)] = None,
    lm_cost: Annotated[Path | None, Parameter(group=_LIST)] = None,
    weight: Annotated[float | None, Parameter(group=_WEIGHTS)] = None,
    penalty: Annotated[float | None, Parameter(group=_WEIGHTS)] = None,
    lm_scale: Annotated[float | None, Parameter(group=_WEIGHTS)] = None,
    unk_penalty: Annotated[float, Parameter(group=_WEIGHTS)] = 0.0,
    tune: Annotated[Path | None, Parameter(group=_WEIGHTS)] = None,
    arpa: Annotated[Path | None, Parameter(group=_NGRAMS)] = None,
    arpa_weight: Annotated[float | None, Parameter(group=_NGRAMS)] = None,
    flags: TemperatureFlags | None = None,
    tokenize: Annotated[bool | None, Parameter(group=_LIST)] = None,
    out: Annotated[Path | None, Parameter(group=_OUTPUT)] = None,
    device: Annotated[str, Parameter(group=_MACHINE)] = "cpu",
    json_: Annotated[bool, Parameter(name="--json", group=_OUTPUT, negative="")] = False,
) -> None:
    """Rerank the hypotheses of a speech recogniser, and write the best of each list.

    Parameters
    ----------
    run
        Run folder, trained or imported.
    nbest
        Kaldi's text (with --acoustic-cost) or folder, ESPnet's folder or .json, or JSON lines.
        A text may be a .gz, or - for standard input.
    acoustic_cost
        File with Kaldi's acoustic costs, a key and a number on each line.
    lm_cost
        File with Kaldi's language-model costs, in the same format.
    weight
        Weight of this model; 0.5 by default.
    penalty
        Subtracted for every word; 0 by default.
    lm_scale
        Scale of the language models against the acoustic score (Kaldi's LMWT); 1 by default.
    unk_penalty
        Cost in nats of each word that the run does not know. A positive cost makes hypotheses with
        such words less probable.
    tune
        File with references, an utterance and its words on each line. Find the --weight, --penalty
        and --lm-scale with the fewest errors on this list, report the gain, and use them.
    arpa
        ARPA or KenLM binary file to mix with this model word by word.
    arpa_weight
        Share of the ARPA model in the mixture; 0.5 by default.
    tokenize
        Split hypotheses into words as raw text is split; by default only if tiedlm tokenized the
        run's corpus.
    out
        Write to this file instead of standard output.
    device
        auto, cpu, cuda or cuda:N.
    json_
        Write every hypothesis with its scores, best first, as JSON lines.
    """
    from tiedlm.cli.models import check_order, load_model, splits_words
    from tiedlm.data import tokenize as tokenizer
    from tiedlm.data.pieces import PieceVocabulary
    from tiedlm.files import keep_input, write_text
    from tiedlm.scoring import arpa as ngrams
    from tiedlm.scoring.nbest import files_of, read_nbest, read_table
    from tiedlm.scoring.rescore import ScoredLists, Weights, check_references, log_probs
    from tiedlm.training.ranges import LARGEST

    check_order("rescore", run, nbest)
    given = _given_weights({"weight": weight, "penalty": penalty, "lm_scale": lm_scale}, tune)
    arpa_weight = _given_arpa_weight(arpa_weight, arpa)
    if not abs(unk_penalty) <= LARGEST:
        raise UserError(f"--unk-penalty: expected a number, got {unk_penalty}")
    inputs = [path for path in (acoustic_cost, lm_cost, tune, arpa) if path is not None]
    keep_input(out, *files_of(nbest), *inputs, *model_inputs(run, flags))
    mixture = None if arpa is None else ngrams.Mixture(ngrams.load_arpa(arpa), arpa_weight)
    lists = read_nbest(nbest, acoustic_cost, lm_cost)
    if not json_:
        _check_names(lists)
    references = None if tune is None else read_table(tune)
    if references is not None:
        check_references(lists, references, str(tune))
    model, vocabulary = load_model(run, device)
    methods = flags or TemperatureFlags()
    members = scoring_members(run, model, methods, device)
    model, others = tempered(members)
    given_tokenize, tokenize = tokenize, splits_words(run, vocabulary, tokenize)
    split = tokenizer if tokenize else str.split

    new, unknown = log_probs(model, vocabulary, lists, split, mixture, unk_penalty, others)
    scored = ScoredLists(lists, new)
    lines = [_counts(run, scored, unknown, arpa, mixture)]
    if not isinstance(vocabulary, PieceVocabulary):
        _note_marks(lists, split, None if tokenize else vocabulary)
    _note_impossible(scored)
    weights = Weights(**given)
    if references is not None:
        weights, rates = _tuned(scored, references)
        lines.append(rates)
    used = _flags(weights, unk_penalty, arpa, arpa_weight, given_tokenize, methods)
    lines.append(f"used {used}")
    text = _as_json(scored, weights) if json_ else _as_text(scored, weights)
    if out is None:
        sys.stdout.write(text)
    else:
        write_text(out, text)
    print("\n".join(lines), file=sys.stderr)


def _check_names(utterances: Iterable[str]) -> None:
    """Refuse names of utterances that a line of a name and words cannot hold."""
    for name in utterances:
        if name.split() != [name]:
            raise UserError(
                f"utterance {name!r} has a name that is not one word; give --json, or rename it"
            )


def _note_marks(
    lists: NBest, split: Callable[[str], list[str]], vocabulary: Vocabulary | None
) -> None:
    """Print notes on other tools' special tokens in the hypotheses.

    Args:
        lists: the hypotheses.
        split: turns a text into the words that the run reads.
        vocabulary: the run's words if they are split at spaces only, else None.
    """
    from tiedlm.cli.models import note_text
    from tiedlm.data import EOS
    from tiedlm.data.marks import Marks, notes_on_scored

    texts = [hypothesis.text for hypotheses in lists.values() for hypothesis in hypotheses]
    marks = Marks(tokenized=vocabulary is not None)
    for text in texts:
        words = split(text)
        marks.see(text, [[*words, EOS]] if words else [])  # any other <eos> is one too many
    note_text(texts, notes_on_scored(marks.counts(), vocabulary))


def _counts(
    run: Path, scored: ScoredLists, unknown: float, arpa: Path | None, mixture: Mixture | None
) -> str:
    """Return the sizes of the lists and the shares of unknown words; warn about large shares."""
    from tiedlm.cli.models import note_unknown
    from tiedlm.scoring.table import count

    hypotheses = sum(map(len, scored.nbest.values()))
    line = (
        f"{count(len(scored.nbest), 'utterance')}, {hypotheses:,} hypotheses, "
        f"{unknown:.2%} of their words unknown"
    )
    note_unknown(str(run), unknown, "list")
    if mixture is not None:
        share = mixture.unknown / max(mixture.words, 1)
        line += f", {share:.2%} unknown to --arpa"
        note_unknown(f"--arpa {arpa}", share, "list")
    return line


def _note_impossible(scored: ScoredLists) -> None:
    """Warn about utterances that have only impossible hypotheses."""
    from tiedlm.scoring.table import count

    if impossible := scored.impossible():
        others = f" and of {count(len(impossible) - 1, 'other')}" * (len(impossible) > 1)
        note(
            f"every hypothesis of {impossible[0]!r}{others} is impossible; the first of the list "
            "is used"
        )


def _tuned(scored: ScoredLists, references: dict[str, str]) -> tuple[Weights, str]:
    """Find the best weights. Return them and a line with the word error rates."""
    found = scored.tune(references)
    if found.best > found.first:
        note("no weights on the grid match the recogniser's own ranking of this list")
    return found.weights, (
        f"word error rate on this list, {found.words:,} words: {found.first:.2%} as ranked, "
        f"{found.without:.2%} tuned without this model, {found.best:.2%} with it, "
        f"{found.oracle:.2%} at best"
    )


def _given_weights(weights: dict[str, float | None], tune: Path | None) -> dict[str, float]:
    """Return the given weights, by name.

    Raises:
        UserError: if one is out of range, or given together with --tune.
    """
    from tiedlm.training.ranges import LARGEST

    given = {name: value for name, value in weights.items() if value is not None}
    if tune is not None and given:
        flag = "--" + next(iter(given)).replace("_", "-")
        raise UserError(f"{flag} and --tune: give one of them; --tune finds all three")
    for name, value in given.items():
        if not abs(value) <= LARGEST:
            raise UserError(f"--{name.replace('_', '-')}: expected a number, got {value}")
    if given.get("lm_scale", 1.0) <= 0:
        raise UserError(f"--lm-scale: expected a positive number, got {given['lm_scale']:g}")
    return given


def _given_arpa_weight(weight: float | None, arpa: Path | None) -> float:
    """Return the share of --arpa in the mixture.

    Raises:
        UserError: if it is out of range, or --arpa is missing.
    """
    if weight is not None and arpa is None:
        raise UserError("--arpa-weight needs --arpa")
    weight = 0.5 if weight is None else weight
    if not 0 < weight < 1:
        raise UserError(f"--arpa-weight: expected 0 < weight < 1, got {weight}")
    return weight


def _flags(
    weights: Weights,
    unk_penalty: float,
    arpa: Path | None,
    arpa_weight: float,
    tokenize: bool | None,
    methods: TemperatureFlags,
) -> str:
    """Return the flags that give the same ranking without --tune, as one types them in a shell."""
    flags = ["--weight", _number(weights.weight), "--penalty", _number(weights.penalty)]
    if weights.lm_scale != 1:
        flags += ["--lm-scale", _number(weights.lm_scale)]
    if unk_penalty:
        flags += ["--unk-penalty", _number(unk_penalty)]
    if arpa is not None:
        flags += ["--arpa", str(arpa), "--arpa-weight", _number(arpa_weight)]
    if tokenize is not None:
        flags.append("--tokenize" if tokenize else "--no-tokenize")
    if methods.temperature is not None:
        flags += ["--temperature", methods.temperature]
    if methods.mix is not None:
        flags += ["--mix", *map(str, methods.mix)]
    return shlex.join(flags)


def _number(value: float) -> str:
    """Return the shortest text that a flag reads as this number."""
    return repr(float(value)).removesuffix(".0")


def _as_text(scored: ScoredLists, weights: Weights) -> str:
    """Return a line per utterance: its name and its best hypothesis."""
    best = scored.best(weights)
    return "".join(
        f"{utterance} {_LINE_ENDS.sub(' ', hypotheses[index].text)}".rstrip() + "\n"
        for (utterance, hypotheses), index in zip(scored.nbest.items(), best, strict=True)
    )


def _as_json(scored: ScoredLists, weights: Weights) -> str:
    """Return a line per utterance: its hypotheses with their scores, best first."""
    lines = []
    rows = zip(scored.nbest.items(), scored.totals(weights), scored.new(), strict=True)
    for (utterance, hypotheses), totals, new in rows:
        order = (-totals[: len(hypotheses)]).argsort(kind="stable")
        found = [
            {
                "text": hypotheses[index].text,
                "total": totals[index],
                "log_prob": new[index],
                "score": hypotheses[index].score,
                "graph_score": hypotheses[index].graph_score,
                "lm_score": hypotheses[index].lm_score,
            }
            for index in order
        ]
        line = json.dumps({"id": utterance, "hypotheses": found}, ensure_ascii=False)
        lines.append(line + "\n")
    return "".join(lines)
