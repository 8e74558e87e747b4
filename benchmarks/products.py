"""Time the matrix products of the loss, by PyTorch alone and by the measured ways of tiedlm.matmul.

    python benchmarks/products.py                       # widths 200, 650, 1500; 10,000 words
    python benchmarks/products.py --vocab 33278 --dims 200 --precision bf16

The table has milliseconds on one thread: the median of rounds in which the two take turns. Before
each product the processor's cache is filled with other data, as inside a step. `tiedlm info
--measure` shows the time of each way.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from tiedlm.arithmetic import arithmetic
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.matmul import matmul

TOKENS = 700  # a window of 20 streams and 35 steps
_CACHE = 2**24  # elements: more than any cache holds


def ways(
    dim: int, vocab: int, dtype: torch.dtype
) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """Return each product, computed by PyTorch alone and by :func:`tiedlm.matmul.matmul`."""
    hidden, weight = torch.randn(TOKENS, dim).to(dtype), torch.randn(vocab, dim).to(dtype)
    grad = torch.randn(TOKENS, vocab).to(dtype)
    scores, of_weight = torch.empty(TOKENS, vocab, dtype=dtype), torch.empty(vocab, dim)
    of_hidden = torch.empty(TOKENS, dim)
    return {
        "scores, h W^T": (
            lambda: torch.mm(hidden, weight.t(), out=scores),
            lambda: matmul(hidden, weight.t(), scores),
        ),
        "of the hidden states, G W": (
            lambda: of_hidden.copy_(torch.mm(grad, weight)),
            lambda: matmul(grad, weight, of_hidden),
        ),
        "of the weight, G^T h": (
            lambda: of_weight.copy_(torch.mm(grad.t(), hidden)),
            lambda: matmul(grad.t(), hidden, of_weight),
        ),
    }


def milliseconds(call: Callable[[], object], waste: torch.Tensor) -> float:
    """Time one call, caches cold."""
    waste.add_(1)
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", nargs="+", type=int, default=[200, 650, 1500])
    parser.add_argument("--vocab", type=int, default=10_000)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    with arithmetic(threads=1):
        body = measure(options)
    print(markdown_table(("width", "product", "PyTorch", "tiedlm", "ratio"), body))


def measure(options: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return the rows of the table."""
    waste, body = torch.zeros(_CACHE), []
    dtype = torch.bfloat16 if options.precision == "bf16" else torch.float32
    for dim in options.dims:
        for name, calls in ways(dim, options.vocab, dtype).items():
            for call in calls:
                call()
            times = [[milliseconds(call, waste) for call in calls] for _ in range(options.rounds)]
            plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
            row = (f"{dim}", name, f"{plain:.1f}", f"{ours:.1f}", f"{plain / ours:.2f}")
            body.append(row)
    return body


if __name__ == "__main__":
    main()
