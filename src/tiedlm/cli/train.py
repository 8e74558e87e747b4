"""``tiedlm train``: train one model from a recipe, with a typed flag for every setting."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from tiedlm.cli import help_groups, leave, note, temporary_cache
from tiedlm.cli.numbers import Words, plain_text, whole_number, word_count
from tiedlm.environment_variables import is_first_rank
from tiedlm.errors import UserError
from tiedlm.experiments.recipes import RECIPES, VARIANTS, get_recipe
from tiedlm.training.effects import notes_on_strength, notes_without_effect
from tiedlm.training.run_files import has_checkpoint
from tiedlm.training.settings import FlagGroup, Settings


def train(
    recipe: str = "",
    *,
    out: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    list_: bool = False,
    show: bool = False,
    tensorboard: bool = False,
    **changes: Any,
) -> None:
    """Train one model from a recipe, or resume its run."""
    if list_:
        _print_recipes()
        return
    if not recipe:
        raise UserError("which recipe? for example `tiedlm train small-real --data my.txt`; "
                        "`tiedlm train --list` shows all")  # fmt: skip
    given = {name: value for name, value in changes.items() if value is not None}
    base = _recipe(recipe)
    settings = _changed(base, given)
    if show:
        _check_network(settings)
        resolved = settings.resolved().to_dict()
        width = max(map(len, resolved))
        for name, value in resolved.items():
            print(f"{name:<{width}} {'-' if value in (None, '', {}) else _shown(value)}")
        return
    _check_together(settings)
    if is_first_rank():
        notes = notes_without_effect(settings, given) + notes_on_strength(settings, base, given)
        for line in notes:
            note(line)
    if not settings.data:
        raise UserError(f"recipe {recipe!r} has no corpus of its own; give --data NAME-or-PATH")
    # These import NumPy, which --list does not need.
    from tiedlm.data.find import place_of
    from tiedlm.data.piece_files import place_of_pieces

    settings = settings.replace(data=place_of(settings.data))
    if settings.pieces:
        settings = settings.replace(pieces=place_of_pieces(settings.pieces))
    out = out or Path("runs") / f"{recipe}-seed{settings.seed}"
    if resume and not (out / "config.json").is_file():
        raise UserError(f"--resume: {out} is not a run folder; leave --resume out to start a run")
    if resume and not has_checkpoint(out):
        raise UserError(f"--resume: {out} has no checkpoint in last/; leave --resume out")
    run(settings, out, quiet, tensorboard)
    from tiedlm.training.distributed import end_process, world_size  # already loaded

    if world_size() > 1:
        end_process()


def _recipe(name: str) -> Settings:
    """Return the settings of a recipe; if the name is that of a network, the error says so."""
    if name not in RECIPES:
        from tiedlm.networks import registered  # imports PyTorch

        if name in registered():
            raise UserError(
                f"{name!r} is a network and not a recipe; take `tiedlm train small-real --network "
                f"{name}`, or a recipe from `tiedlm train --list`"
            )
        if Path(name).exists():
            raise UserError(
                f"{name!r} is not a recipe; to train on your own text, give --data {name}: "
                f"`tiedlm train small-real --data {name}`"
            )
    return get_recipe(name)


def _check_network(settings: Settings) -> None:
    """Refuse an unknown network, or a wrong option."""
    from tiedlm.networks import network_options

    network_options(settings.network, settings.options)


def _changed(recipe: Settings, changes: dict[str, Any]) -> Settings:
    """Return a recipe's settings, changed by the flags.

    Given options are added to the recipe's options. With another network, the recipe's options are
    dropped.
    """
    if "network" in changes and changes["network"] != recipe.network:
        recipe = recipe.replace(options={})
    texts = changes.pop("options", None)
    settings = recipe.replace(**changes)
    if texts:
        from tiedlm.networks import options_class, parse_options

        given = parse_options(settings.network, options_class(settings.network), texts)
        settings = settings.replace(options=settings.options | given)
    return settings


def _shown(value: Any) -> str:
    """Return a setting as on the command line: options as name=value."""
    if isinstance(value, dict):
        return ", ".join(f"{name}={one}" for name, one in value.items())
    return str(value)


def _check_together(settings: Settings) -> None:
    """Refuse combinations of settings that make no sense in a new run; old runs may have them."""
    if settings.alpha == 0 and settings.soft_target != "own":
        raise UserError(
            f"--soft-target {settings.soft_target} needs --alpha above 0: it replaces the target "
            "of the augmented loss; take an -al or -real recipe, or give --alpha"
        )
    if settings.fraction < 1 and settings.skip + settings.fraction > 1 + 1e-6:
        raise UserError(
            f"--skip {settings.skip} and --fraction {settings.fraction} reach past the end of the "
            "text; their sum must be at most 1"
        )


def run(
    settings: Settings, out: Path, quiet: bool = False, tensorboard: bool = False
) -> dict[str, Any]:
    """Load the corpus, train, and print the result."""
    from torch import OutOfMemoryError

    from tiedlm.data.check import notes_on_text
    from tiedlm.progress import ProgressView, Silent
    from tiedlm.training.loop import train as train_model
    from tiedlm.training.outcomes import Diverged, Stopped
    from tiedlm.training.tensorboard import TensorBoard

    _check_network(settings)  # before reading the text
    if settings.optimizer in ("adam", "adamw") and settings.lr > 0.1 and is_first_rank():
        note(f"--lr {settings.lr:g} is far too large for {settings.optimizer}; 0.003 is usual")
    is_first = is_first_rank()
    quiet = quiet or not is_first
    board = TensorBoard(out) if tensorboard and is_first else None
    corpus = settings.load_corpus(progress=not quiet, without_cache=temporary_cache, run=out)
    if is_first:
        for line in notes_on_text(corpus):
            note(line)
    try:
        with ProgressView() as view:
            watcher = Silent() if quiet else view.watcher()
            result = train_model(settings, corpus, out, watcher=watcher, on_metrics=board)
    except Stopped as stopped:
        leave(str(stopped), 130)
    except Diverged as diverged:
        leave(f"error: {diverged}", 1)
    except OutOfMemoryError as error:
        raise UserError(
            "the GPU has too little memory for this training; give a smaller --batch-size, or "
            "--accumulate, which reads a batch in several parts"
        ) from error
    if not quiet:
        if result["epochs"] < settings.epochs:
            print(
                f"stopped after epoch {result['epochs']} of {settings.epochs}: validation did not "
                f"improve for {settings.patience} epochs (--patience)"
            )
        print(
            f"{out}: {_perplexities(result)}, {result['parameters']:,} parameters, best of "
            f"{result['epochs']} epochs: {result['best_epoch']}, 1 seed ({result['seed']})"
        )
    return result


def _perplexities(result: dict[str, Any]) -> str:
    """Return the perplexities of a result, per word first if they are of pieces."""
    valid, test = result["valid_ppl"], result["test_ppl"]
    if "test_word_perplexity" not in result:
        return f"validation perplexity {valid:.2f}, test {test:.2f}"
    return (
        f"validation perplexity {result['valid_word_perplexity']:.2f} a word, test "
        f"{result['test_word_perplexity']:.2f} a word ({result['test_bits_per_byte']:.3f} bits a "
        f"byte, {test:.2f} a piece)"
    )


def _print_recipes() -> None:
    width = max(len(_variant(settings)) for settings in RECIPES.values())
    for name, settings in RECIPES.items():
        corpus = settings.data or "your --data"
        print(f"{name:<24} {_variant(settings):<{width}} d = {settings.d_hidden:<5} {corpus}")
    print("`tiedlm info --networks` lists the networks for --network, and their options")


def _variant(settings: Settings) -> str:
    """Return the network of a recipe, and which of AL and RE it has."""
    suffix = {(True, False): "-al", (False, True): "-re", (True, True): "-real"}.get(
        (settings.alpha > 0, settings.tied), ""
    )
    if settings.network == Settings().network:
        return VARIANTS[suffix]
    network = settings.network.upper().replace("_", "-")
    return VARIANTS[suffix].replace(VARIANTS[""], network)


_WORDS = {"evaluate_every": word_count, "keep_at": plain_text}  # flags that take words


def _flag_kind(name: str, kind: Any) -> Any:
    """Return the type of a flag, which ``--help`` names."""
    if name == "options":
        return list[str]
    return Words if name in _WORDS else kind


def _flag_options(name: str, kind: Any) -> dict[str, Any]:
    """Return the declaration of a setting's flag for cyclopts."""
    if name == "options":
        return {"name": "--option", "negative": ""}
    if name in _WORDS:
        return {"converter": _WORDS[name]}
    return {"converter": whole_number} if kind in (int, int | None) else {}


def _signature() -> inspect.Signature:
    """Return the signature of the command: its own flags, then one for each setting."""
    names = typing.get_args(FlagGroup)
    groups = dict(zip(names, help_groups(*names), strict=True))
    hints = typing.get_type_hints(Settings)
    keyword = inspect.Parameter.KEYWORD_ONLY

    def flag(
        field_name: str, kind: Any, default: Any, group: FlagGroup, text: str, **options: Any
    ) -> inspect.Parameter:
        parameter = Parameter(help=text, group=groups[group], show_default=False, **options)
        annotation = Annotated[kind, parameter]
        return inspect.Parameter(field_name, keyword, default=default, annotation=annotation)

    def switch(field_name: str, text: str, **options: Any) -> inspect.Parameter:
        return flag(field_name, bool, False, "Output", text, negative="", **options)

    recipe = inspect.Parameter(
        "recipe",
        inspect.Parameter.POSITIONAL_ONLY,
        default="",
        annotation=Annotated[
            str,
            Parameter(help="A recipe, such as small-real; --list shows all.", show_default=False),
        ],
    )
    own = [
        flag("out", Path | None, None, "Output", "Run folder. Default: runs/<recipe>-seed<seed>."),
        switch("resume", "Fail unless --out has a run to resume."),
        switch("quiet", "Show no progress."),
        switch("tensorboard", "Also write TensorBoard's files to OUT/tensorboard."),
        switch("list_", "List the recipes and train nothing.", name="--list"),
        switch("show", "Print the settings and train nothing."),
    ]
    settings = [
        flag(
            field.name,
            _flag_kind(field.name, hints[field.name]) | None,
            None,
            field.metadata["group"],
            field.metadata["help"],
            **_flag_options(field.name, hints[field.name]),
        )
        for field in dataclasses.fields(Settings)
        if field.metadata["group"] is not None
    ]
    return inspect.Signature([recipe, *own, *settings])


train.__signature__ = _signature()  # type: ignore[attr-defined]
train.__annotations__ = {p.name: p.annotation for p in train.__signature__.parameters.values()}  # type: ignore[attr-defined]
