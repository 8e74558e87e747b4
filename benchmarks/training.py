"""Compare training steps of this package with the steps of a plain PyTorch model.

The plain model is a two-layer `nn.LSTM`, a tied linear layer, `cross_entropy`, clip and SGD. It has
no variational dropout and no augmented loss. Our models have both dropouts on. A step is forward,
loss, backward, clip and update, on one batch. All ways take their steps in turn, round after round.

A "bare" step is what a library user runs who calls only the model and its loss. The other steps are
the steps of `tiedlm train`. The first lines name the machine and its limits. To imitate a machine
with AVX2 only, set ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 CC="cc -mno-avx512f".

    python benchmarks/training.py                       # the table of docs/performance.md
    python benchmarks/training.py --dims 200 --rounds 20 --ways "RE, bare" "RE, fp32" GEMMs
    python benchmarks/training.py --vary vocab          # how cost grows: vocab, hidden, batch, bptt
    python benchmarks/training.py --network rhn --option depth=10 --layers 1 --dims 830
    python benchmarks/training.py --memory              # peak memory of a step
    python benchmarks/training.py --profile --dims 650  # where the time of a REAL step goes
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from floors import NETWORKS, GemmFloor
from machine import machine
from steps import (
    CPU,
    BareSteps,
    Elsewhere,
    EvaluationSteps,
    NetworkSteps,
    OurSteps,
    PlainSteps,
    ScoringSteps,
    measure,
    settings_of,
    words,
)
from tiedlm.arithmetic import arithmetic
from tiedlm.loss import release_buffers
from tiedlm.native.processor import has_fast_bf16
from tiedlm.networks import options_class, parse_options
from tiedlm.training.build import model_config
from tiedlm.training.hardware import arithmetic_of, default_threads, threads_of
from tiedlm.training.settings import Settings

BASE = "nn.LSTM, fp32"
PRODUCTS = "products alone"
VARIED = {
    "vocab": [10_000, 33_278, 64_000, 128_000, 256_000],
    "hidden": [200, 400, 650, 1000, 1500],
    "batch": [5, 10, 20, 40, 80],
    "bptt": [9, 18, 35, 70, 140],
}


def ways(
    settings: Settings, vocab: int, wanted: Sequence[str] = ("",)
) -> dict[str, Callable[[], object]]:
    """Return the steps to time, by name: those whose name contains one of the wanted parts."""
    tokens_BT = words(settings, vocab)
    real = {"tied": True, "alpha": 13.0}
    models = {
        "VD-LSTM": {},
        "RE": {"tied": True},
        "AL": {"alpha": 13.0},
        "REAL, target detached": {**real, "target_grad": False},
        "REAL": real,
    }
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "GEMMs alone, PyTorch's route": partial(Elsewhere, GemmFloor, settings, vocab),
        "GEMMs alone, our route": partial(GemmFloor, settings, vocab, settings),
        BASE: partial(Elsewhere, PlainSteps, settings, tokens_BT, vocab),
    }
    for name in ("RE", "REAL"):
        bare = settings.replace(**models[name])
        makers[f"{name}, bare"] = partial(Elsewhere, BareSteps, bare, tokens_BT, vocab)
    for precision in ("fp32", "bf16") if has_fast_bf16(CPU) else ("fp32",):
        for name, changes in models.items():
            own = settings.replace(**changes, precision=precision)
            makers[f"{name}, {precision}"] = partial(OurSteps, own, tokens_BT, vocab)
    evaluated = settings.replace(tied=True, precision="fp32")
    makers["evaluation, fp32"] = partial(EvaluationSteps, evaluated, tokens_BT, vocab)
    makers["scoring, fp32"] = partial(ScoringSteps, evaluated, tokens_BT, vocab)
    return {name: make() for name, make in makers.items() if any(part in name for part in wanted)}


def network_ways(settings: Settings, vocab: int) -> dict[str, Callable[[], object]]:
    """Return the steps of a network by name; the matrix products alone come before each group.

    "Network" is forward and backward of the network alone. "Readable" is the same with its readable
    layer, which has no hand-written gradient, if the network has one.
    """
    settings = settings.replace(tied=True, precision="fp32")
    tokens_BT = words(settings, vocab)
    found: dict[str, Callable[[], object]] = {
        f"network, {PRODUCTS}": GemmFloor(settings, 0, settings),
        "network": NetworkSteps(settings),
    }
    if hasattr(found["network"].network, "fast"):
        found["network, readable"] = NetworkSteps(settings, fast=False)
    found[f"step, {PRODUCTS}"] = GemmFloor(settings, vocab, settings)
    models = {"RE": settings, "REAL": settings.replace(alpha=13.0)}
    for precision in ("fp32", "bf16") if has_fast_bf16(CPU) else ("fp32",):
        for name, own in models.items():
            own = own.replace(precision=precision)
            found[f"{name}, {precision}"] = OurSteps(own, tokens_BT, vocab)
    return found


def show_network(settings: Settings, vocab: int, rounds: int) -> None:
    """Print the time of a step of a network, and of its matrix products alone."""
    floor = 0.0
    for name, values in measure(network_ways(settings, vocab), rounds).items():
        median = statistics.median(values)
        floor = median if name.endswith(PRODUCTS) else floor
        print(
            f"| {settings.d_hidden} | {name} | {1e3 * values[0]:.1f} | {1e3 * median:.1f} | "
            f"{settings.batch_size * settings.bptt / median:,.0f} | {median / floor:.2f} |",
            flush=True,
        )


class Row(NamedTuple):
    """The measurements of one way at one width.

    Args:
        dim: width of the word vectors and of every layer.
        way: name of the way.
        least_ms: the fastest step.
        median_ms: the median step.
        tokens: words a second of the median step.
        beside_least: how many times as fast as nn.LSTM, by the fastest step; None without nn.LSTM.
        beside_median: the same by the median step.
    """

    dim: int
    way: str
    least_ms: float
    median_ms: float
    tokens: float
    beside_least: float | None
    beside_median: float | None


def rows(dims: list[int], wanted: list[str], rounds: int = 2, vocab: int = 10_000) -> Iterator[Row]:
    """Time training steps with the threads in use; yield one row a way, width after width.

    Args:
        dims: widths.
        wanted: parts of the names of ways; the first way is nn.LSTM in any case. Empty is all.
        rounds: each is four timed steps of every way.
        vocab: number of words.
    """
    for dim in dims:
        settings = settings_of(dim)
        names = (BASE, *wanted) if wanted else ("",)
        times = measure(ways(settings, vocab, names), rounds)
        base = times[BASE]
        for name, values in times.items():
            median = statistics.median(values)
            yield Row(
                dim, name, 1e3 * values[0], 1e3 * median,
                settings.batch_size * settings.bptt / median, base[0] / values[0],
                statistics.median(base) / median,
            )  # fmt: skip


def show(row: Row) -> None:
    """Print a line of the table."""
    print(
        f"| {row.dim} | {row.way} | {row.least_ms:.1f} | {row.median_ms:.1f} | {row.tokens:,.0f} "
        f"| {row.beside_median:.2f} | {row.beside_least:.2f} |",
        flush=True,
    )


def vary(name: str, rounds: int) -> None:
    """Print how the time of a step grows with one quantity."""
    wanted = (BASE, "RE, fp32", "REAL, fp32", "REAL, bf16", "evaluation, fp32")
    print(f"\n| {name} | " + " | ".join(f"{way}: µs a token" for way in wanted) + " |")
    print("|---|" + "---|" * len(wanted))
    for value in VARIED[name]:
        shape = {"dim": 200, "batch": 20, "bptt": 35, "vocab": 10_000}
        shape[{"hidden": "dim"}.get(name, name)] = value
        vocab = shape.pop("vocab")
        settings = settings_of(**shape)
        times = measure(ways(settings, vocab, wanted), rounds)
        tokens = settings.batch_size * settings.bptt
        cells = [
            f"{statistics.median(times[way]) / tokens * 1e6:.0f}" if way in times else "-"
            for way in wanted
        ]
        print(f"| {value:,} | " + " | ".join(cells) + " |", flush=True)


def show_profile(dim: int, vocab: int, way: str) -> None:
    """Print where the time of a step goes, by operation."""
    step = ways(settings_of(dim), vocab, [way])[way]
    with arithmetic_of(step.settings, CPU):
        step()
        with torch.profiler.profile() as profile:
            for _ in range(5):
                step()
    averages = profile.key_averages()
    print(f"\n{way}, d = {dim}, V = {vocab}: own time of operations")
    print(averages.table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=40))


def show_memory(dim: int, vocab: int) -> None:
    """Print the memory of a REAL step and the least that it needs, from a fresh process."""
    settings = settings_of(dim).replace(tied=True, alpha=13.0, precision="fp32")
    count = settings.batch_size * settings.bptt
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        used = pool.apply(peak_of_steps, (settings, vocab))
    parameters = model_config(settings, vocab).num_params()
    # For each layer: four gates, the cell, its tanh and the output. Before the layers: the word
    # vectors.
    activations = count * (settings.n_layers * 7 + 1) * dim + count * vocab
    floor = 4 * (2 * parameters + activations)
    print(
        f"d = {dim}: peak {used / 2**20:,.0f} MiB above the imports; parameters and gradients "
        f"{8 * parameters / 2**20:,.0f} + activations and one matrix of scores "
        f"{4 * activations / 2**20:,.0f} = {floor / 2**20:,.0f} MiB; ratio {used / floor:.2f}"
    )


def peak_of_steps(settings: Settings, vocab: int) -> int:
    """Return by how many bytes three steps raise this process's peak memory (Linux only)."""

    def kilobytes(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.split(f"{name}:")[1].split()[0])

    small = settings.replace(d_embed=32, d_hidden=32)
    with threads_of(settings), arithmetic_of(settings, CPU):
        OurSteps(small, words(small, 100), 100)()  # threads and kernels
        release_buffers()
        before = kilobytes("VmRSS")
        steps = OurSteps(settings, words(settings, vocab), vocab)
        for _ in range(3):
            steps()
    return 1024 * (kilobytes("VmHWM") - before)


def main() -> None:
    """Read the command line and time the steps."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[200, 650, 1500])
    parser.add_argument("--vocab", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=[], help="only those whose name has this")
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        help="steps of one network",
    )
    parser.add_argument("--layers", type=int, default=2, help="of --network")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of --network"
    )
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--vary", choices=list(VARIED), nargs="+", default=[])
    parser.add_argument("--memory", action="store_true", help="peak memory instead of time")
    parser.add_argument("--profile", metavar="WAY", nargs="?", const="REAL, fp32")
    options = parser.parse_args()
    with arithmetic(threads=options.threads):
        run(options)


def run(options: argparse.Namespace) -> None:
    """Time or measure what the options ask for."""
    print(f"{machine()}, load {os.getloadavg()[0]:.1f}")
    if options.network:
        print("| d | way | min ms | median ms | tokens/s (median) | of the products |")
        print("|---|---|---|---|---|---|")
        given = parse_options(options.network, options_class(options.network), options.option)
        for dim in options.dims:
            settings = settings_of(dim).replace(
                network=options.network, n_layers=options.layers, options=given
            )
            show_network(settings, options.vocab, options.rounds)
        return
    if options.profile:
        for dim in options.dims:
            show_profile(dim, options.vocab, options.profile)
    for name in options.vary:
        vary(name, options.rounds)
    if options.memory:
        for dim in options.dims:
            show_memory(dim, options.vocab)
    if options.profile or options.vary or options.memory:
        return
    print(f"V = {options.vocab:,}, batch 20, bptt 35\n")
    print("| d | way | min ms | median ms | tokens/s (median) | beside nn.LSTM | by minima |")
    print("|---|---|---|---|---|---|---|")
    for row in rows(options.dims, options.ways, options.rounds, options.vocab):
        show(row)


if __name__ == "__main__":
    main()
