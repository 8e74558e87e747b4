"""``tiedlm evaluate``: compute perplexity, and show how many tokens it averages over."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from tiedlm.cli.method_flags import METHODS, MethodFlags, request_of
from tiedlm.cli.methods import as_json, described, evaluated, load_mix
from tiedlm.cli.numbers import MaybeSeed, MaybeWhole, MaybeWords
from tiedlm.errors import UserError
from tiedlm.json_text import to_json
from tiedlm.training.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tiedlm.data import Corpus
    from tiedlm.evaluation import Evaluation
    from tiedlm.evaluation.per_word import PerWord
    from tiedlm.model import LanguageModel
    from tiedlm.training.method_request import Request


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["train", "valid", "test"] = "test",
    data: str | None = None,
    window: MaybeWhole = None,
    mc: MaybeWhole = None,
    seed: MaybeSeed = None,
    flags: MethodFlags | None = None,
    tune: Annotated[bool, Parameter(group=METHODS, negative="")] = False,
    tune_words: Annotated[MaybeWords, Parameter(group=METHODS)] = None,
    device: str = "auto",
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compute the perplexity of a run's best model.

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
        combined with --mc, whose masks last for the run's --bptt, nor with other methods.
    mc
        Number of dropout masks to average the probabilities over (Monte-Carlo dropout). The time
        grows with the number. By default there is no dropout.
    seed
        Seed for the masks of --mc; 1 by default.
    tune
        Fit the settings of these methods on validation, and keep them in the run folder
        (tuned.json, tuning.jsonl). Later calls with the same methods use them.
    tune_words
        Most words of validation to fit on. By default 30k in each trial of --dynamic, and 250k for
        the other methods.
    device
        auto, cpu, cuda or cuda:N.
    json_
        Print JSON instead of text.
    """
    from tiedlm.cli.models import load_model, load_run_corpus
    from tiedlm.evaluation import evaluate as evaluate_model
    from tiedlm.evaluation import summarize
    from tiedlm.evaluation.per_word import of_part

    flags = flags or MethodFlags()
    _check_options(window, mc, seed, flags, tune, tune_words)
    seed = 1 if seed is None else seed
    model, vocabulary = load_model(run, device)
    settings = Settings.of_run(run)
    request = request_of(flags, samples=mc, seed=seed)
    corpus = load_run_corpus(run, settings, data, vocabulary)
    ids, unk_id = getattr(corpus, split), corpus.vocabulary.unk_id
    found: dict[str, Any] = {"run": str(run), "corpus": corpus.name, "split": split}
    lines: list[tuple[str, str]] = []
    if mc is None and not flags.names():
        at_once = {} if window is None else {"window": window}
        out = evaluate_model(model, ids, unk_id=unk_id, **at_once)
    else:
        first = (run, model, corpus)
        losses, lines, said = _with_methods(first, ids, request, flags, tune, tune_words, device)
        out = summarize(losses, ids[1:], unk_id)
        found |= said
    words = of_part(corpus.info, split, out.nll)
    if json_:
        found |= {**out._asdict(), **({"mc": mc, "seed": seed} if mc is not None else {})}
        found["word_perplexity"] = out.perplexity
        if words is not None:
            found |= words._asdict() | {"bits_per_word": out.nll / words.words / math.log(2)}
        print(to_json(found))
        return
    sampled = "" if mc is None else f", {mc} samples of the dropout masks (seed {seed})"
    print(f"{run}  {corpus.name} {split}{sampled}")
    for name, text in lines:
        print(f"  {name:<23} {text}")
    if words is not None:
        _print_pieces(out, words)
    else:
        _print(out)


def _with_methods(
    first: tuple[Path, LanguageModel, Corpus],
    ids: npt.NDArray[np.integer],
    request: Request,
    flags: MethodFlags,
    tune: bool,
    tune_words: int | None,
    device: str,
) -> tuple[npt.NDArray[np.floating], list[tuple[str, str]], dict[str, Any]]:
    """Return the losses of a text, and the methods in use as lines and for JSON."""
    import numpy as np

    from tiedlm.evaluation import mixture_losses
    from tiedlm.evaluation.unfinished import read_passes
    from tiedlm.training.evaluated import Evaluated
    from tiedlm.training.method_settings import find_settings, fit_settings
    from tiedlm.training.run_mixture import mixture_weights

    run, model, corpus = first
    with evaluated(run) as shared:
        runs = [Evaluated(run, model, lambda: corpus, **shared)]
        runs += load_mix(runs[0], flags.mix, device, **shared)
        # The masks of --mc last for each run's own --bptt.
        requests = [replace(request, window=Settings.of_run(one.folder).bptt) for one in runs]
        if tune:
            resolved = [fit_settings(*one, tune_words) for one in zip(runs, requests, strict=True)]
        else:
            resolved = [find_settings(*one) for one in zip(runs, requests, strict=True)]
        said = {"methods": as_json(resolved[0])}
        weights, source = [1.0], ""
        if len(runs) > 1:
            weights, source = mixture_weights(runs, requests, resolved, tune=tune, words=tune_words)
        names = [str(one.folder) for one in runs]
        passes = [
            one.as_pass(ids, own, settings.methods, f"{name} ({number} of {len(runs)})")
            for number, (one, own, name, settings) in enumerate(
                zip(runs, requests, names, resolved, strict=True), start=1
            )
        ]
        losses = np.stack(read_passes(passes))
    if len(runs) == 1:
        return losses[0], described(resolved[0]), said
    lines = []
    for name, weight, one in zip(names, weights, resolved, strict=True):
        own = "".join(f"; {key} {text}" for key, text in described(one)) if one.sources else ""
        lines.append(("in the mixture", f"{weight:.4f} {name} ({source}){own}"))
    members = [
        {"run": name, "weight": weight, "methods": as_json(one)}
        for name, weight, one in zip(names, weights, resolved, strict=True)
    ]
    said["mix"] = {"runs": members, "source": source}
    return mixture_losses(losses, weights), lines, said


def _check_options(
    window: int | None,
    mc: int | None,
    seed: int | None,
    flags: MethodFlags,
    tune: bool,
    tune_words: int | None,
) -> None:
    """Refuse values out of range, and flags that cannot be combined."""
    if window is not None and window < 1:
        raise UserError(f"--window: expected at least 1, got {window}")
    if mc is not None and mc < 1:
        raise UserError(f"--mc: expected at least 1, got {mc}")
    if mc is not None and window is not None:
        raise UserError("--window: the masks of --mc last for the run's --bptt; leave it out")
    if seed is not None and mc is None:
        raise UserError("--seed needs --mc; without it nothing is drawn at random")
    if window is not None and flags.names():
        raise UserError(f"--window has no effect with {flags.names()[0]}; leave it out")
    if tune_words is not None and not tune:
        raise UserError("--tune-words needs --tune")
    if tune_words is not None and tune_words < 2:
        raise UserError(f"--tune-words: expected at least 2, got {tune_words}")
    fitted = [name for name in flags.names() if name != "--temperature"]
    if tune and not fitted and flags.temperature != "fit":
        raise UserError("--tune needs --dynamic, --cache, --temperature fit or --mix")


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
