"""``tiedlm evaluate``: compute perplexity, and show how many tokens it averages over."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from tiedlm.cli import note, temporary_cache
from tiedlm.cli.numbers import MaybeSeed, MaybeWhole
from tiedlm.errors import UserError
from tiedlm.training.settings import Settings

if TYPE_CHECKING:
    from tiedlm.data import Corpus, Vocabulary
    from tiedlm.evaluation import Evaluation
    from tiedlm.evaluation.per_word import PerWord


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    data: str | None = None,
    window: MaybeWhole = None,
    mc: MaybeWhole = None,
    seed: MaybeSeed = None,
    device: str = "auto",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compute the perplexity of a run's best model.

    The text is one stream: the state is carried from the first word to the last, and every token
    except the very first is predicted. `<eos>` and `<unk>` count as words.

    Parameters
    ----------
    run
        Run folder.
    split
        Part of the corpus to evaluate.
    data
        New place of the run's corpus, if it has moved. For any other text use `tiedlm score`.
    window
        Tokens read at a time; changes only rounding and speed. The fastest by default. Cannot be
        combined with --mc, whose masks last for the run's --bptt.
    mc
        Number of dropout masks to average the probabilities over (Monte-Carlo dropout). The time
        grows with the number. By default nothing is dropped.
    seed
        Seed for the masks of --mc; 1 by default.
    device
        auto, cpu, cuda or cuda:N.
    json_
        Print JSON instead of text.
    """
    from tiedlm.cli.models import load_model
    from tiedlm.evaluation import evaluate as evaluate_model
    from tiedlm.evaluation import monte_carlo_evaluate
    from tiedlm.evaluation.per_word import of_part
    from tiedlm.progress import token_progress

    _check_options(window, mc, seed)
    seed = 1 if seed is None else seed
    model, vocabulary = load_model(run, device)
    settings = Settings.of_run(run)
    corpus = _load_corpus(run, settings, data, vocabulary)
    ids, unk_id = getattr(corpus, split), corpus.vocabulary.unk_id
    if mc is None:
        at_once = {} if window is None else {"window": window}
        out = evaluate_model(model, ids, unk_id=unk_id, **at_once)
    else:
        with token_progress(f"{mc} samples", len(ids) - 1) as advance:
            out = monte_carlo_evaluate(
                model, ids, mc, window=settings.bptt, seed=seed, unk_id=unk_id, on_tokens=advance
            )
    words = of_part(corpus.info, split, out.nll)
    if json_:
        found = {"run": str(run), "corpus": corpus.name, "split": split, **out._asdict()}
        found |= {"mc": mc, "seed": seed} if mc is not None else {}
        found["word_perplexity"] = out.perplexity
        if words is not None:
            found |= words._asdict() | {"bits_per_word": out.nll / words.words / math.log(2)}
        print(json.dumps(found))
        return
    sampled = "" if mc is None else f", {mc} samples of the dropout masks (seed {seed})"
    print(f"{run}  {corpus.name} {split}{sampled}")
    if words is not None:
        _print_pieces(out, words)
    else:
        _print(out)


def _check_options(window: int | None, mc: int | None, seed: int | None) -> None:
    """Refuse values out of range, and flags that cannot be combined."""
    if window is not None and window < 1:
        raise UserError(f"--window: expected at least 1, got {window}")
    if mc is not None and mc < 1:
        raise UserError(f"--mc: expected at least 1, got {mc}")
    if mc is not None and window is not None:
        raise UserError("--window: the masks of --mc last for the run's --bptt; leave it out")
    if seed is not None and mc is None:
        raise UserError("--seed needs --mc; without it nothing is drawn at random")


def _load_corpus(run: Path, settings: Settings, data: str | None, vocabulary: Vocabulary) -> Corpus:
    """Load the run's corpus from its place or a new one. Note a text that has changed.

    Raises:
        UserError: if the text is missing, or its vocabulary is not the run's.
    """
    from tiedlm.data.find import is_missing
    from tiedlm.training.run_files import corpus_info, text_hashes

    if data is not None:
        settings = settings.replace(data=data)
    elif is_missing(settings.data):
        raise UserError(
            f"{settings.data}, the text of {run}, does not exist; give its new place as --data"
        )
    corpus = settings.load_corpus(without_cache=temporary_cache, run=run)
    if corpus.vocabulary != vocabulary:
        raise UserError(
            f"the vocabulary of corpus {corpus.name!r} ({len(corpus.vocabulary)} words) differs "
            f"from {run}'s ({len(vocabulary)} words): has the text or its split changed since "
            "training? (`tiedlm score` takes any text)"
        )
    trained_on = text_hashes(corpus_info(run))
    if trained_on and trained_on != text_hashes(corpus.info):
        note(f"the text of {corpus.name!r} has changed since {run} was trained on it")
    return corpus


def _print_pieces(out: Evaluation, words: PerWord) -> None:
    """Print the perplexity of pieces per word and per byte, and its denominators."""
    print(f"  perplexity per word     {words.word_perplexity:.4f}")
    print(f"  bits per byte           {words.bits_per_byte:.4f}")
    print(f"  perplexity per piece    {out.perplexity:.4f}")
    print(f"  words                   {words.words:,} (all but the first, with <eos>)")
    print(f"  bytes                   {words.bytes:,}")
    print(f"  predicted pieces        {out.tokens:,} (all but the first)")
    if out.unk_tokens:
        print(f"  of them <unk>           {out.unk_tokens:,} ({out.unk_share:.2%})")


def _print(out: Evaluation) -> None:
    """Print the perplexity and its denominators."""
    print(f"  perplexity              {out.perplexity:.4f}")
    print(f"  bits per word           {out.bits_per_word:.4f}")
    print(f"  predicted tokens        {out.tokens:,} (all but the first)")
    print(f"  of them <unk>           {out.unk_tokens:,} ({out.unk_share:.2%})")
    print(f"  perplexity without them {out.perplexity_without_unk:.4f}")
