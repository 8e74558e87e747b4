"""Training steps of this package beside the plain model that everybody writes today.

The plain model is two-layer `nn.LSTM`, a tied linear layer, `cross_entropy`, clip and SGD: no
variational dropout, no augmented loss. Ours has both dropouts on. A step is forward, loss,
backward, clip and update, on one batch; every way takes its steps in turn, round after round.

A "bare" way is the step of a library user who calls nothing but the model and its loss. The others
are the steps of `tiedlm train`. The first lines name the machine and its limits: an AVX2 machine is
stood for by ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 CC="cc -mno-avx512f".

    python benchmarks/training.py                       # the table of docs/performance.md
    python benchmarks/training.py --dims 200 --rounds 20 --ways "RE, bare" "RE, fp32" GEMMs
    python benchmarks/training.py --vary vocab          # how cost grows: vocab, hidden, batch, bptt
    python benchmarks/training.py --memory              # peak memory of a step
    python benchmarks/training.py --profile --dims 650  # where the time of a REAL step goes
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from machine import machine
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation import evaluate
from tiedlm.loss import release_buffers
from tiedlm.matmul import matmul, multiplier
from tiedlm.model import LanguageModel
from tiedlm.native.processor import has_fast_bf16
from tiedlm.networks import State
from tiedlm.scoring import score_sentences
from tiedlm.scoring.text import Sentence
from tiedlm.training.build import model_config
from tiedlm.training.hardware import arithmetic_of, default_threads, threads_of
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, train_step

CPU = torch.device("cpu")
EVALUATED = 80_000  # words
BASE = "nn.LSTM, fp32"
STEPS = 8  # of a way in a round
WARM = 4  # of them that do not count
VARIED = {
    "vocab": [10_000, 33_278, 64_000, 128_000, 256_000],
    "hidden": [200, 400, 650, 1000, 1500],
    "batch": [5, 10, 20, 40, 80],
    "bptt": [9, 18, 35, 70, 140],
}


class PlainModel(nn.Module):
    """What a user writes today."""

    def __init__(self, settings: Settings, vocab: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, settings.d_embed)
        self.lstm = nn.LSTM(settings.d_embed, settings.d_hidden, settings.n_layers)
        self.decoder = nn.Linear(settings.d_hidden, vocab, bias=False)
        self.decoder.weight = self.embedding.weight
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)

    def forward(
        self, tokens_BT: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the logits and the state."""
        output_TBH, state = self.lstm(self.embedding(tokens_BT.t()), state)
        return self.decoder(output_TBH.transpose(0, 1)), state


class PlainSteps:
    """Steps of the plain model."""

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int) -> None:
        torch.manual_seed(1)
        self.model = PlainModel(settings, vocab)
        self.optimizer = torch.optim.SGD(self.model.parameters(), settings.lr)
        self.clip = settings.clip
        self.tokens_BT = tokens_BT
        self.state: tuple[Tensor, Tensor] | None = None

    def __call__(self) -> None:
        """Take one step."""
        inputs_BT, targets_BT = self.tokens_BT[:, :-1], self.tokens_BT[:, 1:]
        self.optimizer.zero_grad()
        logits_BTV, state = self.model(inputs_BT, self.state)
        loss = functional.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten())
        (loss * targets_BT.shape[1]).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        loss.item()
        self.state = (state[0].detach(), state[1].detach())


class Elsewhere:
    """Another program's steps, in a process of their own.

    What this package sets for a whole process - the route of products, what becomes of freed
    memory - is not set there, nor was it ever.
    """

    def __init__(self, kind: type, *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        threads = torch.get_num_threads()
        self.process = context.Process(
            target=serve, args=(other, threads, kind, arguments), daemon=True
        )
        self.process.start()

    def __call__(self) -> None:
        """Take one step there, and wait for it."""
        self.pipe.send(None)
        self.pipe.recv()


def serve(pipe: Connection, threads: int, kind: type, arguments: tuple[Any, ...]) -> None:
    """Take a step whenever asked."""
    torch.set_num_threads(threads)
    with suppress(EOFError):  # the end of the other process
        step = kind(*arguments)
        while True:
            pipe.recv()
            step()
            pipe.send(None)


class OurSteps:
    """Steps of this package, as `tiedlm train` takes them."""

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int) -> None:
        torch.manual_seed(1)
        self.settings = settings
        self.model = LanguageModel(model_config(settings, vocab))
        self.objective = Objective(self.model, settings)
        self.optimizer = torch.optim.SGD(self.model.parameters(), settings.lr)
        self.tokens_BT = tokens_BT
        self.state: State | None = None

    def __call__(self) -> None:
        """Take one step."""
        self.state = train_step(
            self.objective, self.optimizer, self.tokens_BT[:, :-1], self.tokens_BT[:, 1:],
            self.state, self.settings,
        ).state  # fmt: skip


class BareSteps:
    """Steps that a library user writes with this package's model: nothing else of it is called."""

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int) -> None:
        torch.manual_seed(1)
        self.model = LanguageModel(model_config(settings, vocab))
        self.optimizer = torch.optim.SGD(self.model.parameters(), settings.lr)
        self.alpha, self.clip = settings.alpha, settings.clip
        self.tokens_BT = tokens_BT
        self.state: State | None = None

    def __call__(self) -> None:
        """Take one step."""
        inputs_BT, targets_BT = self.tokens_BT[:, :-1], self.tokens_BT[:, 1:]
        self.optimizer.zero_grad()
        hidden, state = self.model(inputs_BT, self.state)
        out = self.model.loss(hidden, targets_BT, alpha=self.alpha)
        (out.loss * targets_BT.shape[1]).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        out.loss.item()
        self.state = state.detach()


class EvaluationSteps(OurSteps):
    """Evaluation of as many words as a validation text has."""

    steps = 2

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int) -> None:
        super().__init__(settings, tokens_BT, vocab)
        self.words_N = tokens_BT.flatten().repeat(EVALUATED // tokens_BT.numel() + 1).numpy()
        self.windows = len(self.words_N) / tokens_BT[:, 1:].numel()

    def __call__(self) -> None:
        """Evaluate once."""
        evaluate(self.model, self.words_N)


class ScoringSteps(EvaluationSteps):
    """Surprisal, entropy and rank of every word of as many sentences as make that text."""

    def __init__(self, settings: Settings, tokens_BT: Tensor, vocab: int) -> None:
        super().__init__(settings, tokens_BT, vocab)
        lengths = torch.randint(5, 45, (EVALUATED // 20,)).cumsum(0)
        pieces = np.split(self.words_N, lengths[lengths < len(self.words_N)].numpy())
        self.sentences = [Sentence(1, 1, ("-",) * len(ids), ids) for ids in pieces]

    def __call__(self) -> None:
        """Score once."""
        with self.model.mode(training=False):
            for _ in score_sentences(self.model, self.sentences, start=0):
                pass


class GemmFloor:
    """The matrix products of a tied model's step, forward and backward, and nothing else.

    PyTorch makes them in its usual way; with the settings of a run each takes the route that this
    package measured to be the fastest here.
    """

    def __init__(self, shape: Settings, vocab: int, settings: Settings | None = None) -> None:
        batch, steps, width = shape.batch_size, shape.bptt, shape.d_hidden
        self.settings = settings  # whose arithmetic is used; None is PyTorch's
        self.bptt, self.layers = steps, shape.n_layers
        self.hidden_NH = torch.randn(batch * steps, width)
        self.gates_NG = torch.randn(batch * steps, 4 * width)
        self.weight_GH = torch.randn(4 * width, width)
        self.weight_VH = torch.randn(vocab, width)
        self.hidden_BH, self.gates_BG = self.hidden_NH[:batch], self.gates_NG[:batch]

    @torch.no_grad()
    def __call__(self) -> None:
        """Multiply once."""
        hidden_NH, gates_NG, weight_GH = self.hidden_NH, self.gates_NG, self.weight_GH
        for _ in range(self.layers):
            self._multiply(hidden_NH, weight_GH.t())
            self._recur(weight_GH, self.hidden_BH)
            self._recur(weight_GH.t(), self.gates_BG)
            self._multiply(gates_NG, weight_GH)
            self._multiply(gates_NG.t(), hidden_NH)
            self._multiply(gates_NG.t(), hidden_NH)
        scores_NV = self._multiply(hidden_NH, self.weight_VH.t())
        self._multiply(scores_NV, self.weight_VH)
        self._multiply(scores_NV.t(), hidden_NH)

    def _multiply(self, a: Tensor, b: Tensor) -> Tensor:
        """Make one product."""
        out = a.new_empty(len(a), b.shape[1])
        return torch.mm(a, b, out=out) if self.settings is None else matmul(a, b, out)

    def _recur(self, weight_PK: Tensor, a: Tensor) -> None:
        """Make the products of a recurrence, one a step."""
        usual = partial(torch.mm, mat2=weight_PK.t())
        multiply = usual if self.settings is None else multiplier(weight_PK, len(a))
        for _ in range(self.bptt):
            multiply(a)


def words(settings: Settings, vocab: int) -> Tensor:
    """Return the words of one window and the next, ``(B, T + 1)``, frequent as Zipf's law says."""
    generator = torch.Generator().manual_seed(0)
    by_rank = 1 / torch.arange(1, vocab + 1, dtype=torch.float64)
    count = settings.batch_size * (settings.bptt + 1)
    tokens_N = torch.multinomial(by_rank, count, replacement=True, generator=generator)
    return tokens_N.view(settings.batch_size, -1)


def ways(
    settings: Settings, vocab: int, wanted: Sequence[str] = ("",)
) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name: the ways whose name has one of the wanted parts."""
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


def measure(table: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each way takes for a window of words, sorted.

    In each round every way takes some steps, of which the first do not count: they find the caches
    as another way left them, and memory that is not yet in its hands.
    """
    times: dict[str, list[float]] = {name: [] for name in table}
    for _ in range(rounds):
        for name, way in table.items():
            settings = getattr(way, "settings", None)
            with arithmetic_of(settings, CPU) if settings else nullcontext():
                steps = getattr(way, "steps", STEPS)
                for number in range(steps):
                    start = time.perf_counter()
                    way()
                    if number >= min(WARM, steps - 1):
                        seconds = time.perf_counter() - start
                        times[name].append(seconds / getattr(way, "windows", 1))
    return {name: sorted(values) for name, values in times.items()}


def settings_of(dim: int, batch: int = 20, bptt: int = 35) -> Settings:
    """Return the settings of the paper's recipes, at a width."""
    dropout = {"dropout_input": 0.35, "dropout_hidden": 0.35}
    init_range = 0.1 if dim <= 200 else 0.04  # wide models that start larger do not forget
    return Settings(
        d_embed=dim, d_hidden=dim, batch_size=batch, bptt=bptt, init_range=init_range, **dropout
    )


class Row(NamedTuple):
    """What was measured of one way at one width.

    Args:
        dim: width of the word vectors and of every layer.
        way: what took the steps.
        least_ms: the fastest step.
        median_ms: the median step.
        tokens: words a second of the median step.
        beside_least: how many times as fast as nn.LSTM's by the fastest step; None without it.
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
    """Print how the time of a step grows with one thing."""
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
    """Print the memory of a REAL step beside what it cannot do without, from a fresh process."""
    settings = settings_of(dim).replace(tied=True, alpha=13.0, precision="fp32")
    count = settings.batch_size * settings.bptt
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        used = pool.apply(peak_of_steps, (settings, vocab))
    parameters = model_config(settings, vocab).num_params()
    # Of each layer: four gates, the cell, its tanh and the output; before them the word vectors.
    activations = count * (settings.n_layers * 7 + 1) * dim + count * vocab
    floor = 4 * (2 * parameters + activations)
    print(
        f"d = {dim}: peak {used / 2**20:,.0f} MiB above the imports; parameters and gradients "
        f"{8 * parameters / 2**20:,.0f} + activations and one matrix of scores "
        f"{4 * activations / 2**20:,.0f} = {floor / 2**20:,.0f} MiB; ratio {used / floor:.2f}"
    )


def peak_of_steps(settings: Settings, vocab: int) -> int:
    """Return by how many bytes three steps raise this process's peak (Linux)."""

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
    """Time what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[200, 650, 1500])
    parser.add_argument("--vocab", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=[], help="only those whose name has this")
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
