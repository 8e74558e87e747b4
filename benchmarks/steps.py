"""The training steps that the benchmarks compare, and the function that times them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tiedlm.evaluation import evaluate
from tiedlm.model import LanguageModel
from tiedlm.networks import State
from tiedlm.scoring import score_sentences
from tiedlm.scoring.text import Sentence
from tiedlm.training.build import model_config
from tiedlm.training.hardware import arithmetic_of
from tiedlm.training.settings import Settings
from tiedlm.training.step import Objective, train_step

CPU = torch.device("cpu")
EVALUATED = 80_000  # words
STEPS = 8  # of a way in a round
WARM = 4  # of these steps do not count


class PlainModel(nn.Module):
    """A tied model as a user of plain PyTorch writes it."""

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
    """Run steps in a process of their own, which this package's settings do not affect.

    Such settings are how products are computed and whether freed memory is kept. They apply to a
    whole process, and traces of them may remain after they are undone.
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
        """Take one step in the other process, and wait for it."""
        self.pipe.send(None)
        self.pipe.recv()


def serve(pipe: Connection, threads: int, kind: type, arguments: tuple[Any, ...]) -> None:
    """Take a step for each message that arrives."""
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


class NetworkSteps:
    """Forward and backward of a network alone: no word vectors, no classifier, no update."""

    def __init__(self, settings: Settings, fast: bool = True) -> None:
        torch.manual_seed(1)
        self.settings = settings
        self.network = LanguageModel(model_config(settings, 2)).network
        if not fast:
            self.network.fast = False
        self.x_TBE = torch.randn(settings.bptt, settings.batch_size, settings.d_embed) / 10

    def __call__(self) -> None:
        """Take one step."""
        self.network.zero_grad()
        x_TBE = self.x_TBE.detach().requires_grad_()
        output_TBH, _ = self.network.forward_time_major(x_TBE, None)
        output_TBH.sum().backward()


class BareSteps:
    """Steps as a user of the library writes them: of this package, only the model is called."""

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


def words(settings: Settings, vocab: int) -> Tensor:
    """Return random words ``(B, T + 1)`` for a window and its targets, by Zipf's law."""
    generator = torch.Generator().manual_seed(0)
    by_rank = 1 / torch.arange(1, vocab + 1, dtype=torch.float64)
    count = settings.batch_size * (settings.bptt + 1)
    tokens_N = torch.multinomial(by_rank, count, replacement=True, generator=generator)
    return tokens_N.view(settings.batch_size, -1)


def measure(table: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each way takes for a window of words, sorted.

    In each round every way takes some steps. The first ones do not count, because the way before
    has filled the caches with its own data, and memory has to be allocated.
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
