"""Measure the memory and the time that texts of several sizes take.

Writes synthetic text whose words follow Zipf's law, one text for each size, and deletes it at the
end. For each text, one process prepares it, another one starts to train on it from the cache, and a
third one reads it as in an epoch. Prints a table of their speed and peak resident memory.


    python benchmarks/big_text.py --megabytes 10 100 1000
    python benchmarks/big_text.py --megabytes 100 --cores 1 --raw
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

TYPES = 1_000_000  # words in the language; a text of 200 million words has all of them
ZIPF = 1.15  # a word's share falls as its rank to this power; the vocabulary grows as in web text
_LETTERS = "etaoi"  # few, so that words are as long as in English
_LINE, _DOCUMENT = 20, 15  # words of a line, lines of a document

_MEASURE = """
import json, resource, sys, time
def peak(who):
    return resource.getrusage(who).ru_maxrss / 1024
def report(**found):
    found["peak"] = peak(resource.RUSAGE_SELF)
    found["worker_peak"] = peak(resource.RUSAGE_CHILDREN)
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    found["cpu"] = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    print(json.dumps(found))
start = time.perf_counter()
"""

_PREPARE = """
from tiedlm.data import load_corpus
corpus = load_corpus(sys.argv[1], vocab_size=int(sys.argv[2]), progress=False)
tokens = sum(part["tokens"] for part in corpus.info["parts"].values())
report(seconds=time.perf_counter() - start, tokens=tokens, words=len(corpus.vocabulary))
"""

_SETTINGS = """
import torch
from pathlib import Path
from tiedlm.training.settings import Settings
settings = Settings(data=sys.argv[1], vocab_size=int(sys.argv[2]), d_embed=64, d_hidden=64,
                    tied=True, epochs=1, batch_size=20, shuffle=sys.argv[3])
"""

_FIRST_STEP = (
    _SETTINGS
    + """
from tiedlm.training.loop import train
from tiedlm.training.outcomes import Stopped
corpus = settings.load_corpus(progress=False)
try:
    train(settings, corpus, Path(sys.argv[4]), should_stop=lambda: True)
except Stopped:
    report(seconds=time.perf_counter() - start)
"""
)

_EPOCH = (
    _SETTINGS
    + """
from tiedlm.training.distributed import Ranks
from tiedlm.training.windows import Windows
corpus = settings.load_corpus(progress=False)
before = peak(resource.RUSAGE_SELF)
windows = Windows(corpus, settings, Ranks(), torch.device("cpu"))
start, last = time.perf_counter(), 0
for index in range(len(windows)):
    last += int(windows[index][1][0, 0])
report(seconds=time.perf_counter() - start, before=before, windows=len(windows))
"""
)


def write_text(path: Path, megabytes: float, raw: bool) -> None:
    """Write documents with a blank line after each; in raw text punctuation touches the words."""
    draw = np.random.default_rng(0)
    lengths = itertools.count(1)
    longer = (itertools.product(_LETTERS, repeat=length) for length in lengths)
    words = itertools.islice(map("".join, itertools.chain.from_iterable(longer)), TYPES)
    table = np.array(list(words), dtype=object)
    end = np.array([",", "."], dtype=object) if raw else np.array([" ,", " ."], dtype=object)
    left = int(megabytes * 1e6)
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            share = draw.random(200_000) * (1 - TYPES ** (1 - ZIPF))
            ranks = ((1 - share) ** (1 / (1 - ZIPF))).astype(np.int64) - 1
            text = table[ranks]
            text[_LINE // 2 :: _LINE] += end[0]
            text[_LINE - 1 :: _LINE] += end[1] + "\n"
            text[_LINE * _DOCUMENT - 1 :: _LINE * _DOCUMENT] += "\n"
            left -= file.write(" ".join(text.tolist()).replace("\n ", "\n")[:left])


def run(code: str, *arguments: object, cores: int | None, cache: Path) -> dict[str, float]:
    """Run code in a process of its own, on some cores, and return what it reports."""
    command = [sys.executable, "-c", _MEASURE + code, *map(str, arguments)]
    usable = sorted(os.sched_getaffinity(0))[:cores]
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TIEDLM_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, usable),
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(megabytes: float, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Prepare a text of the given size, take the first step, and read an epoch."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        path, cache = folder / "text.txt", folder / "cache"
        write_text(path, megabytes, options.raw)
        given = (path, options.vocab_size)
        more = {"cores": options.cores, "cache": cache}
        found = {"prepare": run(_PREPARE, *given, **more)}
        if not options.prepare_only:
            for name in ("first step, compiling", "first step"):  # the cache keeps the kernels
                found[name] = run(_FIRST_STEP, *given, "none", folder / name, **more)
            found["epoch"] = run(_EPOCH, *given, "none", **more)
            found["shuffled epoch"] = run(_EPOCH, *given, "documents", **more)
    found["prepare"]["rate"] = megabytes / found["prepare"]["seconds"]
    found["prepare"]["rate_by_cpu"] = megabytes / found["prepare"]["cpu"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10.0, 100.0, 1000.0])
    parser.add_argument("--vocab-size", type=int, default=50_000)
    parser.add_argument("--cores", type=int, help="use at most this many; default: all")
    parser.add_argument("--raw", action="store_true", help="text that is not tokenized")
    parser.add_argument("--prepare-only", action="store_true", help="do not train")
    parser.add_argument("--folder", type=Path, help="where the texts are written for a while")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {}
    heads = ["text", "tokens", "prepare", "a core", "memory", "of a worker"]
    heads += ["first step, compiling", "first step", "memory"]
    heads += ["read an epoch", "memory", "shuffled"]
    print(f"| {' | '.join(heads)} |\n|{'---:|' * len(heads)}")
    for megabytes in options.megabytes:
        found = results[megabytes] = measure(megabytes, options)
        prepare = found["prepare"]
        cells = [f"{megabytes:,.0f} MB", f"{prepare['tokens']:,.0f}",
                 f"{prepare['rate']:.1f} MB/s", f"{prepare['rate_by_cpu']:.1f} MB/s",
                 f"{prepare['peak']:.0f} MiB",
                 f"{prepare['worker_peak']:.0f} MiB"]  # fmt: skip
        if "epoch" in found:
            step, epoch, shuffled = (found[k] for k in ("first step", "epoch", "shuffled epoch"))
            cells += [f"{found['first step, compiling']['seconds']:.1f} s",
                      f"{step['seconds']:.1f} s", f"{step['peak']:.0f} MiB",
                      f"{epoch['seconds']:.1f} s", f"{epoch['peak']:.0f} MiB",
                      f"{shuffled['peak']:.0f} MiB"]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
