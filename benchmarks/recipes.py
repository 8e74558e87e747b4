"""Estimate how long the recipes train on this machine.

Takes training steps of each recipe on random words, as `tiedlm train` takes them. From the median
step the table gives the words per second, and the hours of an epoch and of all epochs of the
recipe. Evaluation comes on top: some percent of an epoch. A recipe with `patience` may end sooner.
A recipe for your own text is counted with Penn Treebank's size.

    python benchmarks/recipes.py                           # all but the demo's, some minutes
    python benchmarks/recipes.py ptb-rhn-10 --precision bf16
    python benchmarks/recipes.py ptb-rhn-9 ptb-awd-lstm --device cuda
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import NamedTuple

import torch

from machine import machine
from steps import words
from tiedlm.experiments.paper import SIZES
from tiedlm.experiments.recipes import RECIPES, get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.model import LanguageModel
from tiedlm.networks import State
from tiedlm.training.build import model_config
from tiedlm.training.distributed import Ranks
from tiedlm.training.hardware import arithmetic_of, device_of, threads_of
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective
from tiedlm.training.updater import Updater

WARM = 3  # first steps, which do not count


class Cost(NamedTuple):
    """The size of a recipe's model, and its speed in training."""

    parameters: int
    words_per_second: float


def measure(settings: Settings, vocab: int, steps: int) -> Cost:
    """Take training steps and return their cost."""
    device = device_of(settings)
    torch.manual_seed(settings.seed)
    model = LanguageModel(model_config(settings, vocab)).to(device).train()
    updater = Updater(Objective(model, settings), settings, Ranks(), device)
    tokens_BT = words(settings, vocab).to(device)
    state: State | None = model.initial_state(settings.batch_size)
    times = []
    with arithmetic_of(settings, device):
        for _ in range(WARM + steps):
            start = time.perf_counter()
            state = updater.update(tokens_BT[:, :-1], tokens_BT[:, 1:], state, False).state
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    per_step = settings.batch_size * settings.bptt
    return Cost(model.num_params(), per_step / statistics.median(times[WARM:]))


def row(name: str, settings: Settings, steps: int) -> tuple[str, ...]:
    """Measure a recipe and return its row of the table."""
    text_words, vocab = SIZES.get(settings.data, SIZES["ptb"])
    cost = measure(settings, vocab, steps)
    hours = text_words / cost.words_per_second / 3600
    return (
        name,
        f"{cost.parameters:,}",
        f"{cost.words_per_second:,.0f}",
        f"{hours:.3f}",
        str(settings.epochs),
        f"{hours * settings.epochs:.1f}",
    )


def main() -> None:
    """Measure the recipes and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = [name for name in RECIPES if not name.startswith("demo")]
    parser.add_argument("recipes", nargs="*", default=default, help="default: all but the demo's")
    parser.add_argument("--steps", type=int, default=5, help="steps that count (default: 5)")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    chosen = {
        name: get_recipe(name).replace(precision=options.precision, device=options.device)
        for name in options.recipes
    }
    header = ("recipe", "parameters", "words/s", "hours an epoch", "epochs", "hours")
    with threads_of(next(iter(chosen.values()))):
        print(f"{machine(options.device)}; {options.precision}\n")
        body = [row(name, settings, options.steps) for name, settings in chosen.items()]
    print(markdown_table(header, body))


if __name__ == "__main__":
    main()
