"""Turn the demo's numbers into sentences, each of which depends on the outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Models = Mapping[str, Mapping[str, Any]]

LEVEL = 0.0005  # relative differences below this print as 0.0%
MOVED = 0.01  # smallest difference of subspace distances that supports a claim


def relation(value: float, base: float) -> str:
    """Format a value relative to a base: ``9.6% below``, ``0.4% above`` or ``level with``."""
    change = value / base - 1
    if abs(change) < LEVEL:
        return "level with"
    return f"{abs(change):.1%} {'below' if change < 0 else 'above'}"


def headline(models: Models) -> str:
    """Compare the test perplexities of REAL and VD-LSTM in a sentence."""
    base, real = models["vd-lstm"], models["vd-lstm-real"]
    where = relation(real["test_ppl"], base["test_ppl"])
    return (
        f"On the test text, REAL's perplexity is {where} VD-LSTM's: {real['test_ppl']:.1f} "
        f"against {base['test_ppl']:.1f} (one seed: {base['seed']})."
    )


def verdict(models: Models) -> str:
    """State whether this run supports the paper's claim."""
    base, real = models["vd-lstm"], models["vd-lstm-real"]
    size = f"with {_size(real['parameters'], base['parameters'])}"
    change = real["test_ppl"] / base["test_ppl"] - 1
    if change <= -LEVEL:
        return f"Here the paper's claim shows: REAL predicts the held-out text better, {size}."
    if change < LEVEL:
        return f"Here the two are level: REAL predicts the held-out text as well, {size}."
    return (
        f"Here the paper's claim does not show: REAL predicts the held-out text worse, {size}. "
        "Tied models learn more slowly at first, so too few epochs are one possible reason."
    )


def bias(models: Models) -> str:
    """State whether the tied models keep the bias that the paper leaves out."""
    if models["vd-lstm-re"]["has_bias"]:
        return (
            "The paper leaves the bias out of tied models too (b = 0). The tied models here keep "
            "it: it tells how frequent each word is."
        )
    return "As in the paper, the tied models have no bias (b = 0)."


def parts(models: Models) -> str:
    """State the effects of AL and RE alone, and whether combining them does better."""
    test = {name: model["test_ppl"] for name, model in models.items()}
    alone, base = min(test["vd-lstm-al"], test["vd-lstm-re"]), test["vd-lstm"]
    better = "RE" if alone == test["vd-lstm-re"] else "AL"
    change = test["vd-lstm-real"] / alone - 1
    if abs(change) < LEVEL:
        together = f"Both together are level with {better} alone."
    elif change < 0:
        together = f"Both together are better than {better} alone."
    else:
        together = f"{better} alone is better than both together."
    return (
        f"On test, AL alone is {relation(test['vd-lstm-al'], base)} VD-LSTM, "
        f"RE alone is {relation(test['vd-lstm-re'], base)} VD-LSTM. {together}"
    )


def course(models: Models) -> str:
    """Compare REAL and VD-LSTM after the first epoch, and name the epoch from which REAL leads."""
    base, real = models["vd-lstm"]["curve"], models["vd-lstm-real"]["curve"]
    pairs = [
        (one["epoch"], one["valid_ppl"], two["valid_ppl"])
        for one, two in zip(base, real, strict=True)
    ]
    start = (
        f"After the first epoch REAL is at {pairs[0][2]:.1f} and VD-LSTM at {pairs[0][1]:.1f} "
        "on validation"
    )
    ahead = None
    for epoch, base_ppl, real_ppl in reversed(pairs):
        if real_ppl >= base_ppl:
            break
        ahead = epoch
    if ahead is None:
        return f"{start}; after the last, REAL is not ahead."
    if ahead == pairs[0][0]:
        return f"{start}; REAL is ahead after every epoch."
    return f"{start}; from epoch {ahead} on, REAL is ahead."


def unfinished(models: Models, names: Mapping[str, str]) -> str:
    """Name the models whose last epoch was their best, since more epochs might help them."""
    found = [names[n] for n, model in models.items() if model["best_epoch"] == model["epochs"]]
    if not found:
        return "Every model had its best epoch before the last one."
    return (
        f"The last epoch was the best one of {listed(found)}: "
        "more epochs might have lowered the perplexity further."
    )


def distance(models: Models, vocab_size: int, width: int) -> str:
    """Compare the subspace distances of the two untied models with each other and with chance.

    The distance between two random V x d matrices is about ``sqrt(1 - d / V)``.
    """
    base = models["vd-lstm"]["subspace_distance"]
    al = models["vd-lstm-al"]["subspace_distance"]
    random = math.sqrt(1 - width / vocab_size)
    if abs(al - base) < MOVED:
        moved = "in so short a training the augmented loss alone has hardly moved them"
    elif al < base:
        moved = "the augmented loss alone has brought them nearer, as the theory says"
    else:
        moved = "the augmented loss alone has not brought them nearer, unlike in the theory"
    return (
        f"Matrices of this size that have nothing in common are at about {random:.3f}. "
        f"VD-LSTM ends at {base:.3f} and + AL at {al:.3f}: {moved}."
    )


def unknown(models: Models, part: Mapping[str, Any]) -> str:
    """Compare the probability given to unknown words with their share of the test text."""
    share = part["unk"] / part["tokens"]
    base, real = (models[name]["mean_p_unk"] for name in ("vd-lstm", "vd-lstm-real"))
    if f"{real:.1%}" == f"{base:.1%}":
        words = "as much as"
    else:
        words = "less than" if real < base else "more than"
    return (
        f"REAL gives the unknown word {real:.1%} on average, {words} VD-LSTM ({base:.1%}); "
        f"{share:.1%} of the test text really are unknown words."
    )


def phrase_count(phrases: Sequence[Mapping[str, Any]]) -> str:
    """Count the phrases whose actual next word is more probable under REAL than under VD-LSTM."""
    pairs = [phrase["next_probability"] for phrase in phrases]
    wins = sum(pair["vd-lstm-real"] > pair["vd-lstm"] for pair in pairs)
    return (
        f"REAL gives the word that really followed more probability than VD-LSTM in {wins} of "
        f"{len(pairs)} phrases. So few phrases show what a model does; they prove nothing."
    )


def listed(words: Sequence[str]) -> str:
    """Join words as ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def _size(parameters: int, base: int) -> str:
    change = parameters / base - 1
    if abs(change) < 0.005:
        return "as many parameters"
    return f"{abs(change):.0%} {'fewer' if change < 0 else 'more'} parameters"
