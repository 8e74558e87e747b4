"""Measure the memory that the loss needs besides its inputs and the parameters' gradients.

Each way runs forward and backward once in a fresh process. It reports the growth of its peak
resident memory beyond a warmed-up PyTorch, the inputs and the gradients.


    python benchmarks/memory.py                 # N = 8192, V = 128256, D = 512, float32
    python benchmarks/memory.py --tokens 700 --vocab 33278 --ways plain autograd fused
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

_CHILD = """
import json, resource, sys, time
import torch
from torch.nn import functional
from tiedlm import augmented_cross_entropy
way, tokens, vocab, dim = sys.argv[1], *map(int, sys.argv[2:])

def loss(hidden, weight, targets):
    if way == "plain":
        return functional.cross_entropy(functional.linear(hidden, weight), targets)
    impl = "reference" if way.startswith("autograd") else "fused"
    return augmented_cross_entropy(
        hidden, weight, targets, alpha=0.0 if way == "fused-alpha-0" else 13.0,
        target_grad=not way.endswith("detached"), impl=impl,
    ).loss

def tensors(n, v, d):
    hidden, weight = torch.randn(n, d), torch.randn(v, d) * 0.1
    by_rank = 1 / torch.arange(1, v + 1.0)
    targets = torch.multinomial(by_rank, n, replacement=True)
    return hidden.requires_grad_(), weight.requires_grad_(), targets

torch.manual_seed(0)
loss(*tensors(64, 1000, dim)).backward()  # threads, GEMM kernels, autograd
hidden, weight, targets = tensors(tokens, vocab, dim)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
start = time.perf_counter()
loss(hidden, weight, targets).backward()
seconds = time.perf_counter() - start
peak = next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith("VmHWM"))
gradients = (hidden.numel() + weight.numel()) * 4
print(json.dumps({"bytes": peak - before - gradients, "seconds": seconds}))
"""


def measure(way: str, tokens: int, vocab: int, dim: int) -> dict[str, float]:
    """Return the extra bytes and the seconds of one way, run in a fresh process."""
    command = [sys.executable, "-c", _CHILD, way, *map(str, (tokens, vocab, dim))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--vocab", type=int, default=128_256)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument(
        "--ways", nargs="+", default=["fused-alpha-0", "fused-detached", "fused"],
        choices=["plain", "autograd-detached", "autograd", "fused-alpha-0", "fused-detached",
                 "fused"],
    )  # fmt: skip
    args = parser.parse_args()
    scores = args.tokens * args.vocab * 4 / 2**30
    print(f"N = {args.tokens}, V = {args.vocab}, D = {args.dim}; scores alone {scores:.2f} GiB")
    print("| way | GiB above inputs and gradients | seconds |\n|---|---|---|")
    for way in args.ways:
        result = measure(way, args.tokens, args.vocab, args.dim)
        print(f"| {way} | {result['bytes'] / 2**30:.2f} | {result['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
