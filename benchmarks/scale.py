"""Measure how the cost of the loss grows with vocabulary, tokens and width, in time and memory.

The ways are timed in turn in one process, as in ``loss.py``. A first round of at most 1,024 tokens
does not count. Then rounds follow until ``--seconds`` have passed, and at least one. "Plain" is
what one writes today, `F.cross_entropy(F.linear(h, W), y)`. If its matrices would exceed
``--memory-limit``, it takes the tokens in several parts, each forward and backward.

With ``--memory``, each way also runs once in a fresh process, as in ``memory.py``. The table has
the MiB of its peak above inputs and gradients. "Promised" is the bound of docs/loss.md: one chunk
of scores, and as much again for soft targets, or twice as much with the gradient through them.

    python benchmarks/scale.py                             # all three tables, some minutes
    python benchmarks/scale.py --vary tokens --memory
    python benchmarks/scale.py --shape 65536 10000 650     # one shape: N V D
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

import memory
from loss import KINDS, PLAIN, Row, Way, ours, seconds_of, tensors
from machine import machine
from tiedlm.cores import available_cores
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.loss.buffers import CHUNK, LEAST_ROWS

# (N, V, D)
SHAPES = {
    "vocab": [(700, V, 200) for V in (10_000, 33_278, 50_257, 128_000, 256_000)],
    "tokens": [(N, 10_000, 200) for N in (700, 4_096, 16_384, 65_536)],
    "width": [(700, 33_278, D) for D in (200, 1_500, 4_096)],
}
WARM_UP = 1024  # tokens
MEMORY_WAYS = {
    PLAIN: "plain",
    "alpha = 0": "fused-alpha-0",
    "detached": "fused-detached",
    "target_grad": "fused",
}


def plain_in_pieces(hidden: Tensor, weight: Tensor, targets: Tensor, rows: int) -> None:
    """Compute plain cross-entropy of ``rows`` tokens at a time."""
    for start in range(0, len(targets), rows):
        piece = slice(start, start + rows)
        scores = functional.linear(hidden[piece], weight)
        loss = functional.cross_entropy(scores, targets[piece], reduction="sum") / len(targets)
        loss.backward()


def rows_of_plain(vocab: int, limit: float) -> int:
    """Return how many tokens plain's three matrices of scores have within a limit in GiB."""
    return max(1, int(limit * 2**30 / (3 * 4 * vocab)))


def measure(shape: tuple[int, int, int], seconds: float, limit: float) -> Row:
    """Time the ways on one shape."""
    tokens, vocab, dim = shape
    inputs = tensors(tokens, vocab, dim, "cpu")
    table: dict[str, Way] = {PLAIN: partial(plain_in_pieces, rows=rows_of_plain(vocab, limit))}
    table |= {name: partial(ours, **options) for name, options in KINDS.items()}
    for way in table.values():  # some tokens are enough to measure the kinds of products
        hidden, weight, targets = inputs
        some = hidden[:WARM_UP].detach().clone().requires_grad_()
        seconds_of(way, (some, weight, targets[:WARM_UP]))
    times: dict[str, list[float]] = {name: [] for name in table}
    start = time.perf_counter()
    while not times[PLAIN] or time.perf_counter() - start < seconds:
        for name, way in table.items():
            times[name].append(1e3 * seconds_of(way, inputs))
    return Row(*shape, {name: min(found) for name, found in times.items()})


def promised(tokens: int, vocab: int) -> dict[str, float]:
    """Return the bound of docs/loss.md in MiB, by way."""
    chunk = min(tokens, 1.5 * max(CHUNK / vocab, LEAST_ROWS)) * vocab * 4 / 2**20
    return {"alpha = 0": chunk, "detached": 2 * chunk, "target_grad": 3 * chunk}


def time_table(found: list[Row]) -> str:
    """Return milliseconds, and in brackets the ratio to plain."""
    body = []
    for row in found:
        cells = [
            f"{ms:,.0f}" + f" ({row.ratio(way):.2f})" * (way != PLAIN)
            for way, ms in row.milliseconds.items()
        ]
        body.append((f"{row.tokens:,}", f"{row.vocab:,}", f"{row.dim:,}", *cells))
    return markdown_table(("N", "V", "D", PLAIN, *KINDS), body)


def memory_rows(shapes: list[tuple[int, int, int]], limit: float) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the table of memory."""
    for tokens, vocab, dim in shapes:
        cells = []
        bounds = promised(tokens, vocab)
        for name, way in MEMORY_WAYS.items():
            if name == PLAIN and rows_of_plain(vocab, limit) < tokens:
                cells.append("")
                continue
            used = memory.measure(way, tokens, vocab, dim)["bytes"] / 2**20
            cells.append(f"{used:,.0f}" + f" of {bounds[name]:,.0f}" * (name in bounds))
        yield (f"{tokens:,}", f"{vocab:,}", f"{dim:,}", *cells)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vary", choices=SHAPES, nargs="+", default=list(SHAPES))
    parser.add_argument("--shape", type=int, nargs=3, metavar=("N", "V", "D"), action="append")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="of a row, after the first round"
    )
    parser.add_argument("--memory", action="store_true", help="measure memory too")
    parser.add_argument("--memory-only", action="store_true", help="measure nothing but memory")
    parser.add_argument(
        "--memory-limit", type=float, default=4.0, help="GiB for plain's matrices of scores"
    )
    options = parser.parse_args()
    torch.set_num_threads(available_cores())
    shapes = [tuple(shape) for shape in options.shape or ()]
    shapes = shapes or list(dict.fromkeys(s for name in options.vary for s in SHAPES[name]))
    print(machine(), flush=True)
    if not options.memory_only:
        found = []
        for shape in shapes:
            found.append(measure(shape, options.seconds, options.memory_limit))
            print(" ".join(map(str, shape)), flush=True)
        print(f"\nms (ratio to plain)\n\n{time_table(found)}")
    if options.memory or options.memory_only:
        print("\nMiB above inputs and gradients, of what is promised\n")
        rows = list(memory_rows(shapes, options.memory_limit))
        print(markdown_table(("N", "V", "D", *MEMORY_WAYS), rows))


if __name__ == "__main__":
    main()
