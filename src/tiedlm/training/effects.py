"""Find the settings that a user gave and that have no effect in the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tiedlm.training.settings import Settings

# Setting -> whether it has an effect, given the other settings, and what it needs for one.
_NEEDS: dict[str, tuple[Callable[[Settings], bool], str]] = {
    **dict.fromkeys(
        ("beta1", "beta2"),
        (lambda s: s.optimizer in ("adam", "adamw"), "--optimizer adam or adamw"),
    ),
    "weight_decay_inside": (lambda s: s.weight_decay > 0, "--weight-decay above 0"),
    "average_trigger": (lambda s: s.optimizer == "nt-asgd", "--optimizer nt-asgd"),
    "average_from": (
        lambda s: s.average_from is None or s.average_from <= s.epochs,
        "an epoch that is reached: there are only {epochs} (--epochs)",
    ),
    "lr_min": (lambda s: s.schedule == "cosine", "--schedule cosine"),
    "plateau_patience": (lambda s: s.schedule == "plateau", "--schedule plateau"),
    "lr_decay": (lambda s: s.schedule != "cosine", "--schedule exponential or plateau"),
    "decay_after": (lambda s: s.schedule == "exponential", "--schedule exponential"),
    **dict.fromkeys(
        ("temperature", "target_grad"), (lambda s: s.alpha > 0, "the augmented loss (--alpha)")
    ),
}


def notes_on_strength(settings: Settings, recipe: Settings, given: Iterable[str]) -> list[str]:
    """Return a line if a new temperature changes the strength of the recipe's augmented loss.

    The gradient of the augmented loss has the weight gamma = alpha / temperature.

    Args:
        settings: of the run.
        recipe: before the user's changes.
        given: names of the settings that the user gave.
    """
    given = set(given)
    if recipe.alpha == 0 or settings.temperature == recipe.temperature or "alpha" in given:
        return []
    gamma = recipe.alpha / recipe.temperature
    return [
        f"--temperature without --alpha changes the strength of the augmented loss: alpha / "
        f"temperature is {settings.alpha / settings.temperature:.3g} instead of {gamma:.3g}; "
        f"--alpha {gamma * settings.temperature:.6g} would keep it"
    ]


def notes_without_effect(settings: Settings, given: Iterable[str]) -> list[str]:
    """Return a line for each given setting that has no effect because of the other settings.

    Args:
        settings: of the run.
        given: names of the settings that the user gave.
    """
    lines = []
    for name in given:
        has_effect, needs = _NEEDS.get(name, (lambda s: True, ""))
        if not has_effect(settings):
            flag, wanted = "--" + name.replace("_", "-"), needs.format(epochs=settings.epochs)
            lines.append(f"{flag} has no effect: it needs {wanted}")
    return lines
