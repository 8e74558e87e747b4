"""Measure the time and memory that encoding a large text takes.

Writes synthetic text whose words follow Zipf's law and encodes it in a fresh process. Prints the
seconds per 10 MB and the peak resident memory. For comparison, it prints the memory of a process
that encodes a tiny text. Raw text goes through the tokenizer, tokenized text does not.


    python benchmarks/encoding.py --megabytes 100
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

_WORDS = 200_000  # types
_SENTENCE = 22  # words

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from tiedlm.data import load_corpus
start = time.perf_counter()
corpus = load_corpus(sys.argv[1], cache=Path(sys.argv[2]), progress=False)
seconds = time.perf_counter() - start
start = time.perf_counter()
load_corpus(sys.argv[1], cache=Path(sys.argv[2]), progress=False)
again = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
tokens = sum(part["tokens"] for part in corpus.info["parts"].values())
types = corpus.info["vocabulary"]["types"]
print(json.dumps({"seconds": seconds, "again": again, "peak_mib": peak, "tokens": tokens,
                  "types": types}))
"""


def write_text(path: Path, megabytes: float, raw: bool) -> None:
    """Write sentences of the given size. Punctuation touches the words in raw text only."""
    draw = random.Random(0)
    letters = "etaoinshrdlucmfw"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(_WORDS)]
    weights = [1 / (rank + 3) for rank in range(_WORDS)]
    comma, stop = (",", ".") if raw else (" ,", " .")
    left = int(megabytes * 1e6)
    with path.open("w", encoding="utf-8") as file:
        while left > 0:
            drawn = draw.choices(words, weights, k=_SENTENCE * 1000)
            for start in range(0, len(drawn), _SENTENCE):
                some = drawn[start : start + _SENTENCE]
                line = f"{' '.join(some[:8])}{comma} {' '.join(some[8:])}{stop}\n"
                left -= file.write(line)
                if left <= 0:
                    break


def measure(megabytes: float, raw: bool) -> dict[str, float]:
    """Encode a text of the given size in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        write_text(path, megabytes, raw)
        child = [sys.executable, "-c", _CHILD, str(path), str(Path(folder) / "cache")]
        out = subprocess.run(child, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(out)
    found["seconds_per_10_mb"] = 10 * found["seconds"] / megabytes
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=float, default=100.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = {
        kind: {
            "megabytes": options.megabytes,
            **measure(options.megabytes, raw),
            "peak_mib_of_0.1_mb": measure(0.1, raw)["peak_mib"],
        }
        for kind, raw in (("tokenized", False), ("raw", True))
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for kind, found in results.items():
        print(
            f"{kind}: {found['megabytes']:.0f} MB, {found['tokens']:,} tokens, "
            f"{found['types']:,} types: {found['seconds_per_10_mb']:.2f} s per 10 MB, from the "
            f"cache {found['again']:.2f} s; peak {found['peak_mib']:.0f} MiB (0.1 MB of text: "
            f"{found['peak_mib_of_0.1_mb']:.0f} MiB)"
        )


if __name__ == "__main__":
    main()
