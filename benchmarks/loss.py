"""Time the loss and plain cross-entropy, forward and backward.

All ways are timed in turn, round after round, in one process, so that other load on the machine
slows all of them. The table has the minimum of the rounds, in ms, and its ratio to plain,
`F.cross_entropy(F.linear(h, W), y)`. The targets are real text, and the weights are tied. Our loss
is called directly, without any setting. The floor is the three matrix products of plain, each
computed in the way that is fastest on this machine.

    python benchmarks/loss.py                                  # the table of docs/loss.md
    python benchmarks/loss.py --vocab 10000 --dims 200 650 --seconds 5
    python benchmarks/loss.py --also bf16 pytorch quadratic    # more ways of ours
    python benchmarks/loss.py --route fastest                  # plain by the fastest library too
    python benchmarks/loss.py --device cuda                    # beside Liger-Kernel and Apple's
"""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from machine import machine
from tiedlm import augmented_cross_entropy
from tiedlm.arithmetic import arithmetic, route_in_use
from tiedlm.data import load_corpus
from tiedlm.data.streams import batch_streams
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.matmul import matmul
from tiedlm.native.processor import why_not_fast_fp32

# Code that torch.compile cached under another ATEN_CPU_CAPABILITY would crash this process.
_CACHE = Path(tempfile.gettempdir(), f"inductor-{torch.backends.cpu.get_cpu_capability()}")
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(_CACHE))

ALPHA, TEMPERATURE = 13.0, 20.0
PLAIN = "plain"
SLOW = ("autograd, detached", "autograd, target_grad")  # timed in two rounds
KINDS = {"alpha = 0": {"alpha": 0.0}, "detached": {"target_grad": False}, "target_grad": {}}

Way = Callable[[Tensor, Tensor, Tensor], object]


class Row(NamedTuple):
    """One size: milliseconds of each way, by name."""

    tokens: int
    vocab: int
    dim: int
    milliseconds: dict[str, float]

    def ratio(self, way: str) -> float:
        """Return a way's time relative to plain."""
        return self.milliseconds[way] / self.milliseconds[PLAIN]


def floor(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    """Compute the products of a linear layer and its gradient, and nothing else."""
    with torch.no_grad():
        scores = hidden.new_empty(len(hidden), len(weight))
        matmul(hidden, weight.t(), scores)
        hidden.grad = matmul(scores, weight, torch.empty_like(hidden))
        weight.grad = matmul(scores.t(), hidden, torch.empty_like(weight))


def plain(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    functional.cross_entropy(functional.linear(hidden, weight), targets).backward()


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    functional.linear_cross_entropy(hidden, weight, targets).backward()


def autograd(hidden: Tensor, weight: Tensor, targets: Tensor, target_grad: bool = True) -> None:
    """Compute the augmented loss in plain autograd, which keeps every buffer."""
    scores = functional.linear(hidden, weight)
    embedding = weight if target_grad else weight.detach()
    soft = torch.softmax(functional.linear(embedding[targets], embedding) / TEMPERATURE, dim=-1)
    log_prediction = torch.log_softmax(scores / TEMPERATURE, dim=-1)
    aug = functional.kl_div(log_prediction, soft, reduction="batchmean")
    (functional.cross_entropy(scores, targets) + ALPHA * aug).backward()


def ours(
    hidden: Tensor, weight: Tensor, targets: Tensor,
    chosen: dict[str, object] | None = None, **options: object,
) -> None:  # fmt: skip
    options = {"alpha": ALPHA, "temperature": TEMPERATURE, **options}
    with arithmetic(**chosen or {}):  # type: ignore[arg-type]
        augmented_cross_entropy(hidden, weight, targets, **options).loss.backward()


def ways(device: str, also: Sequence[str] = ()) -> dict[str, Way]:
    """Return the functions to time, by name.

    Args:
        device: "cpu" or "cuda".
        also: more ways of ours: "bf16", products in bfloat16; "pytorch", without compiled kernels;
            "quadratic", another loss.
    """
    table: dict[str, Way] = {"floor": floor, PLAIN: plain}
    table |= {name: partial(ours, **options) for name, options in KINDS.items()}
    given = {"bf16": {"precision": "bf16"}, "pytorch": {"kernels": False, "route": "default"}}
    for name in also:
        if name == "quadratic":
            table[name] = partial(ours, impl="quadratic", target_grad=False)
            continue
        for kind, options in KINDS.items():
            table[f"{name}, {kind}"] = partial(ours, chosen=given[name], **options)
    if hasattr(functional, "linear_cross_entropy"):  # new in PyTorch 2.13
        table["F.linear_cross_entropy"] = linear_cross_entropy
    if route_in_use() != "fastest":  # torch.compile raises an error there
        table["compiled plain"] = _compiled_plain()
    if device == "cuda":
        table |= dict(_of_others())
    table["autograd, detached"] = partial(autograd, target_grad=False)
    table["autograd, target_grad"] = autograd
    return table


def _compiled_plain() -> Way:
    compiled = torch.compile(lambda h, W, y: functional.cross_entropy(functional.linear(h, W), y))
    return lambda hidden, weight, targets: compiled(hidden, weight, targets).backward()


def _of_others() -> Iterator[tuple[str, Way]]:
    """Yield the fused cross-entropies of Liger-Kernel and Apple, where they are installed."""
    try:
        liger = importlib.import_module("liger_kernel.transformers")
    except ImportError:
        print("no Liger-Kernel here: pip install liger-kernel")
    else:
        loss = liger.LigerFusedLinearCrossEntropyLoss()
        yield "Liger-Kernel", lambda hidden, weight, y: loss(weight, hidden, y).backward()
    try:
        apple = importlib.import_module("cut_cross_entropy")
    except ImportError:
        print("no cut cross-entropy here: pip install cut-cross-entropy")
    else:
        cut = apple.linear_cross_entropy
        yield "cut cross-entropy", lambda hidden, weight, y: cut(hidden, weight, y).backward()


def real_targets(tokens: int) -> Tensor:
    """Return a window of real text: 20 streams of State of the Union addresses.

    It is the first window of 700 words with 360 distinct words or more, because Penn Treebank's
    median window has 360 (this text's median is 338). Smaller sizes are cut from it. Larger sizes
    begin there, and start again at the beginning of the text when it ends.
    """
    streams = torch.from_numpy(batch_streams(load_corpus("sotu", progress=False).train, 20))
    for start in range(0, streams.shape[1], 35):
        if len(streams[:, start : start + 35].unique()) >= 360:
            break
    steps = -(-tokens // 20)
    places = (start + torch.arange(steps)) % streams.shape[1]
    return streams[:, places].flatten()[:tokens].clone()


def tensors(
    tokens: int, vocab: int, dim: int, device: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden states, the tied matrix and the targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, dim, generator=generator)
    weight = torch.randn(vocab, dim, generator=generator) * 0.1
    targets = real_targets(tokens) % vocab
    return (
        hidden.to(device, dtype).requires_grad_(), weight.to(device, dtype).requires_grad_(),
        targets.to(device),
    )  # fmt: skip


def measure(
    table: dict[str, Way], inputs: tuple[Tensor, Tensor, Tensor], seconds: float
) -> dict[str, float]:
    """Return the minimum of each way in ms, over two rounds and as many more as fit the seconds.

    Slow ways are left out after two rounds. A first round, for compiling, does not count. A way
    that fails has no time, for example without a compiler or with too little memory.
    """
    times: dict[str, float] = {}
    failed: set[str] = set()
    start = time.perf_counter()
    for number in range(1000):
        if number == 1:
            times, start = {}, time.perf_counter()
        if number > 2 and time.perf_counter() - start > seconds:
            break
        for name, way in table.items():
            if name in failed or (number > 2 and name in SLOW):
                continue
            try:
                taken = 1e3 * seconds_of(way, inputs)
            except Exception as error:
                print(f"{name}: {' '.join(str(error).split())[:100] or type(error).__name__}")
                failed.add(name)
                continue
            times[name] = min(taken, times.get(name, taken))
    return {name: times[name] for name in table if name in times}


def seconds_of(way: Way, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    """Return the time of one call, forward and backward."""
    hidden, weight, _ = inputs
    hidden.grad = weight.grad = None
    if hidden.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    way(*inputs)
    if hidden.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rows(
    vocabs: Sequence[int] = (10_000, 33_278),
    dims: Sequence[int] = (200, 650, 1500),
    *,
    tokens: int = 700,
    seconds: float = 5.0,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    also: Sequence[str] = (),
    only: Sequence[str] = (),
) -> Iterator[Row]:
    """Yield a row for each size.

    Args:
        vocabs: vocabulary sizes.
        dims: widths.
        tokens: number of tokens.
        seconds: time for a row beyond its first three rounds.
        device: "cpu" or "cuda".
        dtype: type of the inputs.
        also: as for :func:`ways`.
        only: the ways that are timed beside plain; all if empty.
    """
    for vocab in vocabs:
        for dim in dims:
            torch.compiler.reset()  # else it compiles for sizes in general
            table = ways(device, also)
            if only:
                table = {name: way for name, way in table.items() if name in (PLAIN, *only)}
            inputs = tensors(tokens, vocab, dim, device, dtype)
            yield Row(tokens, vocab, dim, measure(table, inputs, seconds))


def table_of(found: Sequence[Row]) -> str:
    """Return the rows as a table in Markdown."""
    names = list(dict.fromkeys(name for row in found for name in row.milliseconds))
    body = []
    for row in found:
        cells = [
            f"{row.milliseconds[name]:.1f}" + f" ({row.ratio(name):.2f})" * (name != PLAIN)
            if name in row.milliseconds
            else ""
            for name in names
        ]
        body.append((f"{row.vocab:,}", f"{row.dim:,}", *cells))
    return markdown_table(("V", "D", *names), body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, help="default 700; on a GPU 8,192")
    parser.add_argument("--vocab", type=int, nargs="+")
    parser.add_argument("--dims", type=int, nargs="+")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a row, after three rounds")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="on a GPU bfloat16")
    parser.add_argument("--also", choices=["bf16", "pytorch", "quadratic"], nargs="+", default=[])
    parser.add_argument("--only", nargs="+", default=[], help="names of columns")
    parser.add_argument("--route", choices=["fastest"], help="plain by the fastest library too")
    args = parser.parse_args()
    gpu = args.device == "cuda"
    if args.route and why_not_fast_fp32():
        parser.error(f"--route fastest: {why_not_fast_fp32()}")
    print(machine(args.device), flush=True)
    with arithmetic(route=args.route):
        found = rows(
            args.vocab or ((32_000, 128_256) if gpu else (10_000, 33_278)),
            args.dims or ((2048,) if gpu else (200, 650, 1500)),
            tokens=args.tokens or (8192 if gpu else 700),
            seconds=args.seconds,
            device=args.device,
            dtype=getattr(torch, args.dtype or ("bfloat16" if gpu else "float32")),
            also=args.also,
            only=args.only,
        )
        done = []
        for row in found:
            done.append(row)
            print(f"V = {row.vocab:,}, D = {row.dim:,}", flush=True)
    print(f"\nms (ratio to plain), N = {done[0].tokens:,}\n\n{table_of(done)}")


if __name__ == "__main__":
    main()
