"""Print the page of benchmarks that a report of speed needs, in under five minutes.

The page has the machine, the loss beside plain cross-entropy, a training step beside ``nn.LSTM``,
and how this machine makes its matrix products. Each table also has the floor: the time of the
matrix products alone.

    python benchmarks/page.py        # or: make bench

Close other programs first: a busy machine makes every ratio wrong.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

import torch

import loss
import training
from machine import machine
from tiedlm.cores import available_cores
from tiedlm.experiments.reproduce import markdown_table

LOSSES = ("floor", "alpha = 0", "detached", "target_grad")
STEPS = ("GEMMs", "RE, bare", "REAL, bare", "RE, fp32", "REAL, fp32")


def step_table(dims: list[int]) -> str:
    """Return milliseconds of a training step, and in brackets how many times as fast as nn.LSTM."""
    cells: dict[str, dict[int, str]] = {}
    for dim in dims:
        for row in training.rows([dim], list(STEPS), rounds=1):
            beside = f" ({row.beside_least:.2f})" if row.beside_least else ""
            cells.setdefault(row.way, {})[dim] = f"{row.least_ms:.1f}{beside}"
    body = [(way, *(own.get(dim, "") for dim in dims)) for way, own in cells.items()]
    return markdown_table(("step", *(f"d = {dim:,}" for dim in dims)), body)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[200, 650, 1500])
    parser.add_argument("--vocab", type=int, nargs="+", default=[10_000, 33_278])
    options = parser.parse_args()
    start = time.monotonic()
    torch.set_num_threads(available_cores())
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}\n", flush=True)

    print(
        "The loss, forward and backward, N = 700, float32, a bare call: ms, and in brackets times"
    )
    print("plain, F.cross_entropy(F.linear(h, W), y). The floor is plain's three products.\n")
    print(loss.table_of(list(loss.rows(options.vocab, options.dims, seconds=1, only=LOSSES))))

    print("A training step, batch 20, 35 steps, V = 10,000, float32: ms, and in brackets how many")
    print("times as fast as nn.LSTM. GEMMs are the products of RE's step alone.\n")
    print(step_table(options.dims), flush=True)

    print("How products are computed here, `tiedlm info --measure`:\n", flush=True)
    subprocess.run([sys.executable, "-m", "tiedlm", "info", "--measure"], check=False)
    print(f"\n{time.monotonic() - start:.0f} seconds")


if __name__ == "__main__":
    main()
