"""Compare the speed of a training step in this checkout and in another one.

Each checkout runs in a process of its own. The two processes take steps in turn, so that other load
on the machine slows both equally. Compare the ratio only, not the times.


    git worktree add /tmp/before HEAD~1
    python benchmarks/against.py /tmp/before --vocab 33278 10000 --threads 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from tiedlm.cores import available_cores

HERE = Path(__file__).parents[1]
STEPS = 2  # timed together, after an untimed one

WORKER = f"""
import json, sys, time
checkout, changes = sys.argv[1], json.loads(sys.argv[2])
vocab, dim, threads = map(int, sys.argv[3:])
sys.path[:0] = [checkout + "/src", checkout + "/benchmarks"]
import torch
from training import CPU, OurSteps, settings_of, words
from tiedlm.training import hardware
arithmetic_of = getattr(hardware, 'arithmetic_of', None) or hardware.arithmetic  # an older one
torch.set_num_threads(threads)
settings = settings_of(dim).replace(**changes)
step = OurSteps(settings, words(settings, vocab), vocab)
with arithmetic_of(settings, CPU):
    for _ in range(4):
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        step()
        start = time.perf_counter()
        for _ in range({STEPS}):
            step()
        print((time.perf_counter() - start) / {STEPS}, flush=True)
"""

WAYS = {
    "RE": {"tied": True, "decoder_bias": True},
    "AL": {"alpha": 13.0},
    "REAL": {"tied": True, "decoder_bias": True, "alpha": 13.0},
    "REAL, detached": {"tied": True, "decoder_bias": True, "alpha": 13.0, "target_grad": False},
}


def start(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a checkout's process and wait until it is warm."""
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(checkout), *arguments], text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**environment, "OMP_WAIT_POLICY": "passive"},  # leave the cores to the other checkout
    )  # fmt: skip
    assert worker.stdout is not None
    if worker.stdout.readline() != "ready\n":
        raise SystemExit(f"{checkout}: the training step failed")
    return worker


def times(workers: list[subprocess.Popen[str]], rounds: int) -> list[list[float]]:
    """Return the milliseconds of a step of each checkout, round by round."""
    found = []
    for _ in range(rounds):
        found.append([])
        for worker in workers:
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[-1].append(1e3 * float(worker.stdout.readline()))
    return found


def main() -> None:
    """Time the ways and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path, help="the checkout to compare with")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["REAL"])
    parser.add_argument("--vocab", type=int, nargs="+", default=[10_000])
    parser.add_argument("--dims", type=int, nargs="+", default=[200])
    parser.add_argument("--threads", type=int, nargs="+", default=[available_cores()])
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    print("| way | vocab | d | threads | before, ms | here, ms | median ratio |")
    print("|---|---|---|---|---|---|---|")
    shapes = [(v, d, t) for v in args.vocab for d in args.dims for t in args.threads]
    for way in args.ways:
        changes = json.dumps({**WAYS[way], "precision": args.precision})
        for shape in shapes:
            arguments = changes, *map(str, shape)
            workers = [start(place.resolve(), *arguments) for place in (args.before, HERE)]
            rows = times(workers, args.rounds)
            for worker in workers:
                worker.communicate()
            before, here = (f"{statistics.median(x):.1f}" for x in zip(*rows, strict=True))
            ratio = statistics.median(old / new for old, new in rows)
            numbers = " | ".join(map(str, shape))
            print(f"| {way} | {numbers} | {before} | {here} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
