"""Time the loss and training steps on a GPU.

The loss is timed as by ``loss.py --device cuda``: 8,192 tokens, width 2,048, bfloat16. It is
compared with plain cross-entropy, and with the losses of Liger-Kernel and Apple if these are
installed. The goals are 1.0 times plain at alpha = 0, and 1.3 times with the augmented loss.

Training steps of a plain PyTorch model are compared with ours, with and without Triton and CUDA
graphs. They take turns, round by round. The median of the rounds is printed, in words per second
and as a ratio to the plain model in the same precision.

    pip install liger-kernel cut-cross-entropy    # for the loss; optional
    python benchmarks/gpu.py                      # both
    python benchmarks/gpu.py --parts loss
    python benchmarks/gpu.py --dims 650 --rounds 5 --recipes real
    python benchmarks/gpu.py --dims 650 --recipes real --profile   # the kernels of a step
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch import Tensor

import loss
from machine import machine
from tiedlm.arithmetic import arithmetic
from tiedlm.environment_variables import TRITON
from tiedlm.experiments.recipes import get_recipe
from tiedlm.loss.backends.triton import TritonBackend
from tiedlm.model import LanguageModel
from tiedlm.networks.backends import triton
from tiedlm.training.build import model_config
from tiedlm.training.captured import CapturedStep
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, train_step
from training import PlainSteps

SIZES = {200: "small", 650: "medium", 1500: "large"}
STEPS = 20  # per way and round


class Plain:
    """The plain model's step; with ``products="bf16"`` it runs under autocast."""

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int, products: str) -> None:
        self.products = products
        with torch.device("cuda"):
            self.steps = PlainSteps(settings, tokens_BT, vocab)

    def __call__(self) -> None:
        """Take one step."""
        is_bf16 = self.products == "bf16"
        with torch.autocast("cuda", torch.bfloat16) if is_bf16 else nullcontext():
            self.steps()


class Ours:
    """Our training step, optionally recorded as a CUDA graph."""

    def __init__(
        self, settings: Settings, tokens_BT: Tensor, vocab: int, products: str, records: bool
    ) -> None:
        torch.manual_seed(1)
        self.settings, self.products = settings, products
        self.model = LanguageModel(model_config(settings, vocab)).cuda().train()
        self.objective = Objective(self.model, settings)
        self.optimizer = torch.optim.SGD(self.model.parameters(), settings.lr)
        self.windows = tokens_BT[:, :-1], tokens_BT[:, 1:]
        self.state = self.model.initial_state(len(tokens_BT))
        self.recorded: CapturedStep | None = None
        if records:
            with arithmetic(precision=products, device="cuda"):
                self.recorded = CapturedStep(self.objective, settings, self.windows[0], self.state)

    def __call__(self) -> None:
        """Take one step."""
        with arithmetic(precision=self.products, device="cuda"):
            if self.recorded is not None:
                out = self.recorded(*self.windows, self.state, self.settings.lr, False)
            else:
                out = train_step(
                    self.objective, self.optimizer, *self.windows, self.state, self.settings
                )
        self.state = out.state


@contextmanager
def without(part: str) -> Iterator[None]:
    """Switch Triton off in the loss or in the recurrence."""

    def no(*_: object, **__: object) -> bool:
        return False

    with mock.patch.object(triton if part == "recurrence" else TritonBackend, "serves", no):
        yield


def ways(
    settings: Settings, tokens_BT: Tensor, vocab: int, products: str
) -> dict[str, Callable[[], None]]:
    """Return the timed steps by name."""
    arguments = (settings, tokens_BT, vocab, products)
    made: dict[str, Callable[[], None]] = {"nn.LSTM (cuDNN)": Plain(*arguments)}
    with mock.patch.dict("os.environ", {TRITON: "0"}):
        made["ours, no Triton, recorded"] = Ours(*arguments, records=True)
    with without("recurrence"):
        made["ours, Triton in the loss, recorded"] = Ours(*arguments, records=True)
    with without("loss"):
        made["ours, Triton in the recurrence, recorded"] = Ours(*arguments, records=True)
    made["ours, not recorded"] = Ours(*arguments, records=False)
    made["ours"] = Ours(*arguments, records=True)
    return made


def measure(table: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return the median seconds of a step of each way. The first round is warm-up."""
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds + 1):
        for name, step in table.items():
            steps = 3 if "not recorded" in name else STEPS
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(steps):
                step()
            torch.cuda.synchronize()
            times[name].append((time.perf_counter() - start) / steps)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def profile(step: Callable[[], None]) -> None:
    """Print the time of each GPU kernel of a recorded step."""
    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda e: -e.self_device_time_total)
    total = sum(e.self_device_time_total for e in events) / STEPS
    print(f"{total:,.0f} us of kernels a step")
    for e in events[:25]:
        print(
            f"{e.self_device_time_total / STEPS:9.1f} us{e.count / STEPS:7.1f} times  {e.key[:100]}"
        )


def loss_table() -> str:
    """Return the times of our loss and others at vocabularies of today's language models."""
    shapes = {"vocabs": (32_000, 128_256), "dims": (2048,), "tokens": 8192}
    return loss.table_of(list(loss.rows(**shapes, seconds=2, device="cuda", dtype=torch.bfloat16)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", default=["loss", "step"], choices=["loss", "step"])
    parser.add_argument("--dims", type=int, nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--vocab", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--products", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--recipes", nargs="+", default=["re", "real", "al"])
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    print(machine("cuda"), flush=True)
    if "loss" in args.parts and not args.profile:
        print(f"\nThe loss, ms (ratio to plain)\n\n{loss_table()}", flush=True)
    if "step" not in args.parts:
        return
    print(f"Steps, V = {args.vocab:,}")
    generator = torch.Generator().manual_seed(0)
    for dim in args.dims:
        for suffix in args.recipes:
            for products in args.products:
                settings = get_recipe(f"ptb-{SIZES[dim]}-{suffix}")
                shape = (settings.batch_size, settings.bptt + 1)
                tokens_BT = torch.randint(args.vocab, shape, generator=generator).cuda()
                if args.profile:
                    profile(Ours(settings, tokens_BT, args.vocab, products, records=True))
                    continue
                found = measure(ways(settings, tokens_BT, args.vocab, products), args.rounds)
                words = settings.batch_size * settings.bptt
                print(f"\n{settings.recipe}, d = {dim}, {products}", flush=True)
                plain = found["nn.LSTM (cuDNN)"]
                for name, seconds in found.items():
                    print(
                        f"  {name:<42}{1e3 * seconds:8.2f} ms{words / seconds:12,.0f} words/s"
                        f"{plain / seconds:8.2f}x",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
