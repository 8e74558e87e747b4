"""Measure what the evaluation methods cost, compared with plain evaluation.

The cache is compared with plain evaluation of the same text. Dynamic evaluation reads one stream in
segments of five words. It cannot read segments in parallel, because each segment needs the weights
after the segment before it. So it is compared with plain evaluation that reads one stream in the
same segments. The models are untrained, which does not change the cost. Each row is the best of
several repetitions, taken in turn.

    python benchmarks/evaluation.py --width 200 --words 30000 --segments 60
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from machine import machine
from tiedlm import LanguageModel, ModelConfig
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation import Cache, Dynamic, Methods, method_losses, token_losses
from tiedlm.evaluation.dynamic import SGD, Adapter
from tiedlm.training.hardware import fast_arithmetic

VOCABULARY = 10_000


def fastest(rows: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the smallest time of each function in seconds."""
    for run in rows.values():
        run()
    times: dict[str, float] = {}
    for _ in range(repeats):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            times[name] = min(times.get(name, np.inf), time.perf_counter() - start)
    return times


def cache_rows(model: LanguageModel, words: int) -> dict[str, Callable[[], object]]:
    """Return evaluations of a random text, by name."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, size=words + 1)
    rows: dict[str, Callable[[], object]] = {"plain": lambda: token_losses(model, ids)}
    for length in (500, 2000):
        methods = Methods(cache=Cache(words=length))
        rows[f"cache of {length:,}"] = lambda methods=methods: method_losses(model, ids, methods)
    return rows


def dynamic_rows(model: LanguageModel, segments: int) -> dict[str, Callable[[], object]]:
    """Return evaluations of one stream in segments of five words, by name."""
    text = torch.randint(VOCABULARY, (5 * segments + 1,))
    rms = {name: torch.rand_like(p) * 1e-3 + 1e-5 for name, p in model.named_parameters()}

    @torch.no_grad()
    def plain() -> None:
        state = None
        for first in range(0, len(text) - 1, 5):
            tokens = text[first : first + 6]
            hidden, state = model(tokens[None, :-1], state)
            logits = model.decode(hidden)[0]
            float(torch.nn.functional.cross_entropy(logits, tokens[1:]))

    def adapted(adapter: Adapter) -> None:
        for first in range(0, len(text) - 1, 5):
            tokens = text[first : first + 6]
            adapter.read(tokens[:-1], tokens[1:])

    rms_adapter, sgd_adapter = Adapter(model, Dynamic(), rms), Adapter(model, SGD)
    return {
        "plain, segments of 5": plain,
        "dynamic, rms": lambda: adapted(rms_adapter),
        "dynamic, sgd": lambda: adapted(sgd_adapter),
    }


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--width", type=int, default=200)
    parser.add_argument("--words", type=int, default=30_000, help="of the text for the cache")
    parser.add_argument("--segments", type=int, default=60, help="of the text for dynamic")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    config = ModelConfig(
        vocab_size=VOCABULARY, d_embed=given.width, d_hidden=given.width, tied=True
    )
    torch.manual_seed(0)
    with fast_arithmetic(), arithmetic(threads=given.threads):
        model = LanguageModel(config).eval()
        parts = [(cache_rows(model, given.words), given.words)] if given.words else []
        if given.segments:
            parts.append((dynamic_rows(model, given.segments), 5 * given.segments))
        print(machine())
        for rows, words in parts:
            times = fastest(rows, given.repeats)
            plain = next(iter(times.values()))
            for name, seconds in times.items():
                row = {
                    "width": given.width,
                    "method": name,
                    "us_per_word": round(seconds / words * 1e6, 1),
                    "times_plain": round(seconds / plain, 2),
                }
                columns = "  ".join(f"{value!s:<20}" for value in row.values())
                print(json.dumps(row) if given.json else columns)


if __name__ == "__main__":
    main()
