r"""Figure 1: does training with the augmented loss drive W into the span of the embedding?

A network is trained on 20,000 contiguous words of Penn Treebank with

.. math:: J_{tot} = \beta \tau^2 |V| J_{aug} + (1 - \beta) J

the rows of the embedding held at norm 1 and nothing dropped; afterwards the distance between the
column spaces of W and L^T is measured. The vocabulary is the whole text's.

Nothing in J_aug sees a constant added to all scores of a token, so that W may also have the
direction of the constant vector, which L^T need not have: one of the principal angles is free, and
the distance of d columns stays above 0 by up to d^-1/2, 0.058 at d = 300. The distance of the
centred matrices has no such floor.

The soft target is held fixed, as in the paper's proof: with the gradient through it the word
vectors themselves fall into fewer directions, which lowers J_aug just as well.

The paper does not say how it was optimised. Here W, which starts small, is trained by SGD with
momentum: all that J_aug adds to it is in the span of L^T, and what it started with decays wherever
the hidden states are not 0. Adam, which divides every element by a scale of its own, leads out of
the span; it trains the rest. The gradient of W has a clip of its own, far above what it is while
training is sound (what was tried is in docs/experiments.md).

Source: PAPER section 4.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tiedlm.analysis.subspace import principal_angles, subspace_distance
from tiedlm.data.streams import batch_streams
from tiedlm.experiments.paper import SIZES
from tiedlm.experiments.parallel import held_signals, ignore_signals
from tiedlm.files import read_json, write_json
from tiedlm.model import LanguageModel
from tiedlm.native import share_gpu
from tiedlm.progress import ProgressView, short_duration
from tiedlm.training.hardware import arithmetic, prepare
from tiedlm.training.loop import Stopped, model_config
from tiedlm.training.run import environment
from tiedlm.training.settings import Settings
from tiedlm.training.signals import stop_signals
from tiedlm.training.step import Objective

STUDY = "figure1"  # its name in results/
WORDS = 20_000
MEASURE_EVERY = 10  # epochs
_LOOK_EVERY = 0.2  # seconds between two looks at the clock and for a signal
# The settings that differ from run to run.
OF_A_RUN = ("alpha", "ce_weight", "temperature", "skip", "seed")
PANEL_A = tuple((beta, 10.0) for beta in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))
PANEL_B = tuple((1.0, temperature) for temperature in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0))

Point = tuple[float, float]  # beta, temperature


@dataclass(frozen=True)
class TheoryRun:
    """One run of Figure 1.

    Args:
        point: beta and temperature.
        seed: of the weights and of the place in the text.
        epochs: passes over the words.
        lr: of Adam, for the network; it falls linearly to 0.
        embedding_lr: of Adam, for L; it falls too.
        decoder_lr: of SGD, for W; it stays.
        decoder_clip: the largest norm of W's gradient; a longer one is made as short.
        decoder_init: W starts within plus and minus this.
        changes: of the settings, such as threads and precision.
    """

    point: Point
    seed: int
    epochs: int = 100
    lr: float = 0.003
    embedding_lr: float = 0.0003
    decoder_lr: float = 0.2
    decoder_clip: float = 20.0
    decoder_init: float = 0.03
    changes: Mapping[str, Any] = field(default_factory=lambda: {"threads": 1})

    def name(self) -> str:
        """Return the name of the file that holds the result."""
        beta, temperature = self.point
        return f"beta{beta:g}-tau{temperature:g}-seed{self.seed}.json"

    def settings(self) -> Settings:
        """Return its settings; those of SGD are not used."""
        beta, temperature = self.point
        tokens, vocab_size = SIZES["ptb"]
        share = WORDS / tokens
        return Settings(
            recipe="figure1",
            data="ptb",
            fraction=share,
            skip=random.Random(self.seed).uniform(0, 1 - share),
            vocab_from="whole",
            d_embed=300,
            d_hidden=300,
            alpha=beta * temperature**2 * vocab_size,
            ce_weight=1 - beta,
            temperature=temperature,
            target_grad=False,
            unit_norm=True,
            epochs=self.epochs,
            lr=self.lr,
            seed=self.seed,
        ).replace(**self.changes)


def optimizers(model: LanguageModel, run: TheoryRun) -> tuple[torch.optim.Adam, torch.optim.SGD]:
    """Return what trains the network, and what trains W."""
    embedding, decoder = model.embedding.weight, model.decoder.weight
    others = [p for p in model.parameters() if p is not embedding and p is not decoder]
    network = [{"params": others, "lr": run.lr}, {"params": [embedding], "lr": run.embedding_lr}]
    return (
        torch.optim.Adam(network, fused=True),
        torch.optim.SGD([decoder], lr=run.decoder_lr, momentum=0.9),
    )


def train_theory_run(run: TheoryRun) -> dict[str, Any]:
    """Train a run to its end and measure it.

    Returns:
        Its settings, the distance, the distance of the matrices whose columns are centred over the
        vocabulary, the principal angles in degrees, the last epoch's mean J and tau^2 |V| J_aug,
        the distance after every tenth epoch, in how many steps W's gradient was clipped, and the
        environment.
    """
    settings = run.settings()
    started = time.monotonic()
    corpus = settings.load_corpus(progress=False)
    device = prepare(settings)
    torch.manual_seed(settings.seed)
    model = LanguageModel(model_config(settings, len(corpus.vocabulary)))
    model.normalize_word_vectors()
    torch.nn.init.uniform_(model.decoder.weight, -run.decoder_init, run.decoder_init)
    objective = Objective(model.to(device), settings)
    streams_BS = torch.from_numpy(batch_streams(corpus.train, settings.batch_size)).to(device)
    starts = range(0, streams_BS.shape[1] - 1, settings.bptt)
    of_network, of_decoder = optimizers(model, run)
    total = len(starts) * settings.epochs
    schedule = torch.optim.lr_scheduler.LinearLR(of_network, 1.0, 1e-3, total)
    network = [p for group in of_network.param_groups for p in group["params"]]
    distances, clipped, ce_sum, aug_sum = [], 0, 0.0, 0.0
    with arithmetic(settings, device):
        ran_in = environment()
        for epoch in range(1, settings.epochs + 1):
            state, ce_sum, aug_sum = None, 0.0, 0.0
            for start in starts:
                piece_BT = streams_BS[:, start : start + settings.bptt + 1]
                loss, ce, aug, state = objective(piece_BT[:, :-1], piece_BT[:, 1:], state)
                model.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network, settings.clip)
                norm = torch.nn.utils.clip_grad_norm_([model.decoder.weight], run.decoder_clip)
                clipped += int(norm > run.decoder_clip)
                of_network.step()
                of_decoder.step()
                schedule.step()
                model.normalize_word_vectors()
                ce_sum, aug_sum = ce_sum + ce.item(), aug_sum + aug.item()
            if epoch % MEASURE_EVERY == 0 or epoch == settings.epochs:
                distances.append(subspace_distance(model.decoder.weight, model.embedding.weight))
    scale = settings.temperature**2 * len(corpus.vocabulary)
    angles = principal_angles(model.decoder.weight, model.embedding.weight)
    centred = [
        weight.detach().double() - weight.detach().double().mean(0)
        for weight in (model.decoder.weight, model.embedding.weight)
    ]
    return {
        "beta": run.point[0],
        "temperature": run.point[1],
        "seed": run.seed,
        "settings": settings.to_dict(),
        "words": len(corpus.train),
        "vocabulary": len(corpus.vocabulary),
        "distance": distances[-1],
        "centred_distance": subspace_distance(*centred),
        "distances": distances,
        "principal_angles_degrees": [round(angle, 4) for angle in angles.rad2deg().tolist()],
        "clipped_steps": clipped,
        "ce": ce_sum / len(starts),
        "scaled_aug": scale * aug_sum / len(starts),
        "seconds": time.monotonic() - started,
        "environment": ran_in,
    }


def run_figure1(
    points: Sequence[Point],
    seeds: Sequence[int],
    out: Path,
    view: ProgressView,
    at_once: int,
    seconds: float,
    changes: Mapping[str, Any],
) -> list[TheoryRun]:
    """Train what is missing, seed by seed over all points; each result is a file of its own.

    Args:
        points: (beta, temperature) pairs.
        seeds: of each point.
        out: the folder of the results.
        view: shows the progress.
        at_once: processes.
        seconds: stop after so many; a run that is under way is lost, minutes of work.
        changes: of the settings, such as threads and precision.

    Returns:
        What is left to do.

    Raises:
        Stopped: after SIGINT or SIGTERM.
    """
    deadline = time.monotonic() + seconds
    wanted = [TheoryRun(point, seed, changes=changes) for seed in seeds for point in points]
    left = [run for run in wanted if not (out / run.name()).is_file()]
    view.line(f"{len(wanted)} runs, {len(wanted) - len(left)} finished, {at_once} at once")
    done, started = 0, time.monotonic()
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        at_once, multiprocessing.get_context("spawn"), _begin, (at_once,)
    )
    with stop_signals() as stop_requested:
        with held_signals():
            futures = {executor.submit(train_theory_run, run): run for run in left}
        try:
            while futures and time.monotonic() < deadline and not stop_requested():
                rest = min(_LOOK_EVERY, max(0.0, deadline - time.monotonic()))
                for future in wait(futures, rest, FIRST_COMPLETED).done:
                    run, result = futures.pop(future), future.result()
                    write_json(out / run.name(), result)
                    left.remove(run)
                    done += 1
                    eta = (time.monotonic() - started) / done * len(left)
                    view.line(
                        f"beta {run.point[0]:g}, temperature {run.point[1]:g}, seed {run.seed}: "
                        f"distance {result['distance']:.3f}; {len(left)} runs left, "
                        f"ETA {short_duration(eta)}"
                    )
        except BrokenProcessPool:
            if not stop_requested():
                view.line(
                    "a process was killed (is there too little memory?); the same command goes on"
                )
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            for child in set(multiprocessing.active_children()) - others:
                child.kill()
                child.join()
        if stop_requested() and left:
            raise Stopped(f"stopped with {len(left)} runs left; the same command goes on")
    return left


def _begin(at_once: int) -> None:
    """Begin a child process, which ends when its parent does, whatever it is at."""
    ignore_signals()
    share_gpu(at_once)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def read_figure1(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs' results."""
    return [read_json(path) for path in sorted(folder.glob("beta*.json"))]


def restore_figure1(results: Path, folder: Path) -> None:
    """Put back the files of runs that are kept in ``results/`` and missing in the folder."""
    for path in sorted(results.glob(f"*_{STUDY}/metrics.json")):
        shared = read_json(path.with_name("config.json"))[STUDY]
        kept_in = read_json(path.with_name("env.json"))
        for run in read_json(path)[STUDY]:
            one = TheoryRun((run["beta"], run["temperature"]), run["seed"])
            file = folder / one.name()
            if not file.is_file():
                own = one.settings().to_dict()
                settings = shared | {name: own[name] for name in OF_A_RUN}
                write_json(file, {"environment": kept_in, **run, "settings": settings})


def by_point(runs: Sequence[dict[str, Any]]) -> dict[Point, list[dict[str, Any]]]:
    """Return results by point."""
    found: dict[Point, list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault((run["beta"], run["temperature"]), []).append(run)
    return found


def distances_by_point(runs: Sequence[dict[str, Any]]) -> dict[Point, list[float]]:
    """Return the distances of some results by point."""
    return {point: [run["distance"] for run in own] for point, own in by_point(runs).items()}
