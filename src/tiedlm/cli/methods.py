"""Load the runs of a command with their evaluation methods, and describe these."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tiedlm.cli import leave, note
from tiedlm.cli.method_flags import TemperatureFlags, request_of
from tiedlm.errors import UserError

if TYPE_CHECKING:
    from tiedlm.data import Corpus, Vocabulary
    from tiedlm.model import LanguageModel
    from tiedlm.scoring.methods import Member
    from tiedlm.training.evaluated import Evaluated
    from tiedlm.training.method_request import Resolved


class Bars:
    """Progress bars, shown one after the other."""

    def __init__(self, stack: ExitStack) -> None:
        self.stack = stack

    def __call__(self, title: str, total: int) -> Callable[[int], None]:
        """Replace the bar by a new one; return the function that counts its words."""
        from tiedlm.progress import token_progress

        self.stack.close()
        return self.stack.enter_context(token_progress(title, total))


@contextmanager
def evaluated(run: Path) -> Iterator[dict[str, Any]]:
    """Yield the arguments of :class:`Evaluated` for a command: bars, signals and notes.

    A signal stops an evaluation after it has been saved, and ends the command.
    """
    from tiedlm.evaluation.unfinished import Interrupted
    from tiedlm.training.signals import stop_signals

    with ExitStack() as bars, stop_signals() as stop:
        try:
            yield {"progress": Bars(bars), "stop": stop, "note": note}
        except Interrupted:
            bars.close()
            leave(f"stopped; it is saved in {run}, and the same command continues from there", 130)


def model_inputs(run: Path, flags: TemperatureFlags | None) -> list[Path]:
    """Return the files from which a command loads its models, to be kept from its output."""
    from tiedlm.training.run_files import model_files

    mix = flags.mix if flags is not None else None
    return [file for one in (run, *(mix or ())) for file in model_files(one)]


def load_mix(
    first: Evaluated, mix: list[Path] | None, device: str, **shared: Any
) -> list[Evaluated]:
    """Load the further runs of a mixture; the first run is loaded already.

    Args:
        first: the first run, whose text is evaluated with all.
        mix: the others.
        device: where the models go.
        shared: further arguments of :class:`Evaluated`.

    Raises:
        UserError: if a run is given twice, or reads other words than the first.
    """
    from tiedlm.cli.models import load_model
    from tiedlm.training.evaluated import Evaluated
    from tiedlm.training.run_files import corpus_info

    found: list[Evaluated] = []
    run = first.folder
    if mix is not None and not mix:
        raise UserError("--mix: expected one run or more")
    for other in mix or []:
        if other.resolve() in [run.resolve(), *(one.folder.resolve() for one in found)]:
            raise UserError(f"--mix {other}: the run is given twice")
        model, vocabulary = load_model(other, device)
        assert first.model.vocabulary is not None
        check_same_words(run, first.model.vocabulary, other, vocabulary)
        ours, theirs = (corpus_info(one).get("tokenizer") for one in (run, other))
        if ours != theirs:
            raise UserError(
                f"--mix {other} splits text by {theirs or 'spaces'}, {run} by {ours or 'spaces'}; "
                "a mixture needs the same words"
            )
        found.append(Evaluated(other, model, _text_of(first, other, vocabulary), **shared))
    return found


def _text_of(first: Evaluated, other: Path, vocabulary: Vocabulary) -> Callable[[], Corpus]:
    """Return how to load the text of a further run: the first run's if both are the same.

    What is measured and fitted on it is kept for the further run, which may be evaluated alone.
    """
    from tiedlm.training.run_files import corpus_info, text_hashes

    ours, theirs = (
        (text_hashes(info), info.get("fraction", 1.0), info.get("skip", 0.0))
        for info in map(corpus_info, (first.folder, other))
    )
    if theirs == ours or not theirs[0]:
        return first.load_text
    return _own_text(other, vocabulary)


def _own_text(run: Path, vocabulary: Vocabulary) -> Callable[[], Corpus]:
    """Return how to load the text that a run was trained on, at most once."""
    from tiedlm.cli.models import load_run_corpus
    from tiedlm.training.settings import Settings

    advice = f"give its new place once, by `tiedlm evaluate {run} --data PLACE` and these flags"
    return once(lambda: load_run_corpus(run, Settings.of_run(run), None, vocabulary, advice=advice))


def scoring_members(
    run: Path,
    model: LanguageModel,
    flags: TemperatureFlags,
    device: str,
    precision: Literal["fp64", "fp32"] = "fp64",
) -> list[Member]:
    """Return the models that score a text, with their methods and their weights in a mixture.

    Settings that have to be fitted are fitted on the validation text of the run. All settings are
    printed on standard error.

    Args:
        run: the run.
        model: its model.
        flags: the methods.
        device: where the models go.
        precision: fp64: the models score in float64, after the fit in float32.
    """
    members = _members(run, model, flags, device)
    if precision == "fp64":
        for one in members:
            one.model.double()
    return members


def _members(run: Path, model: LanguageModel, flags: TemperatureFlags, device: str) -> list[Member]:
    """Do the work of :func:`scoring_members` in float32."""
    from tiedlm.scoring.methods import Member
    from tiedlm.training.evaluated import Evaluated
    from tiedlm.training.method_settings import find_settings
    from tiedlm.training.run_mixture import mixture_weights

    request = request_of(flags)
    if request == type(request)() and flags.mix is None:
        return [Member(model)]

    assert model.vocabulary is not None
    with evaluated(run) as shared:
        first = Evaluated(run, model, _own_text(run, model.vocabulary), **shared)
        runs = [first, *load_mix(first, flags.mix, device, **shared)]
        resolved = [find_settings(one, request) for one in runs]
        weights, source = [1.0], ""
        if len(runs) > 1:
            weights, source = mixture_weights(runs, [request] * len(runs), resolved)
        members = [
            Member(one.model, found.methods, weight, one.rms_for(found.methods.dynamic))
            for one, found, weight in zip(runs, resolved, weights, strict=True)
        ]
    for one, found, weight in zip(runs, resolved, weights, strict=True):
        lines = [f"{name} {text}" for name, text in described(found)]
        lines += [f"weight {weight:.4f} ({source})"] * (len(runs) > 1)
        print(f"{one.folder}: {'; '.join(lines)}", file=sys.stderr)
    return members


def tempered(members: list[Member]) -> tuple[LanguageModel, list[tuple[LanguageModel, float]]]:
    """Return the first model and the others with their weights, for methods without a text."""
    from tiedlm.evaluation import with_temperature

    models = [with_temperature(one.model, one.methods.temperature) for one in members]
    others = [(model, one.weight) for model, one in zip(models, members, strict=True)]
    return models[0], others[1:]


def check_same_words(run: Path, ours: Any, other: Path, theirs: Any) -> None:
    """Refuse runs whose vocabularies differ.

    Raises:
        UserError: naming the first difference.
    """
    if ours == theirs:
        return
    pairs = zip(ours.words, theirs.words, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    words = [repr(one.words[place]) if place < len(one) else "nothing" for one in (theirs, ours)]
    raise UserError(
        f"--mix {other} has another vocabulary than {run}: {len(theirs):,} and {len(ours):,} "
        f"words, and word {place} is {words[0]} and {words[1]}; a mixture needs the same words in "
        "the same order"
    )


def described(resolved: Resolved) -> list[tuple[str, str]]:
    """Return a name and a line for each method: its settings, and where they come from."""
    methods, sources = resolved.methods, resolved.sources
    lines = []
    if methods.dynamic is not None:
        one = methods.dynamic
        epsilon = f", epsilon {one.epsilon:g}" if one.rule == "rms" else ""
        text = f"{one.rule}, lr {one.lr:g}, decay {one.decay:g}{epsilon}, segments of {one.segment}"
        lines.append(("dynamic", f"{text} ({sources['dynamic']})"))
    if "temperature" in sources:
        lines.append(("temperature", f"{methods.temperature:g} ({sources['temperature']})"))
    if methods.cache is not None:
        cache = methods.cache
        text = f"{cache.words} words, theta {cache.theta:g}, weight {cache.weight:g}"
        lines.append(("cache", f"{text} ({sources['cache']})"))
    return lines


def as_json(resolved: Resolved) -> dict[str, Any]:
    """Return the settings of each method in use and their source, as JSON-able values."""
    import dataclasses

    found: dict[str, Any] = {}
    for name, source in resolved.sources.items():
        value = getattr(resolved.methods, name)
        settings = {"value": value} if name == "temperature" else dataclasses.asdict(value)
        found[name] = settings | {"source": source}
    return found
