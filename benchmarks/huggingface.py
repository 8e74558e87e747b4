"""Measure the cost of the augmented loss in a Hugging Face Trainer on GPT-2 small's shape.

V = 50,257, d = 768, 12 layers, one sequence of 1,024 tokens, AdamW, float32, random weights. Each
way trains in a fresh process. The ways take turns, round by round:

- ``own``: the Trainer's own loss, cross-entropy on the model's logits;
- ``AL``: the loss of ``examples/huggingface_trainer.py``;
- ``alpha = 0``: the same with plain cross-entropy.

A process takes ``--steps`` steps. Its time is the median without the first two. Its memory is the
peak of the last step above the memory in use before it, which holds model and optimizer but no
gradients. "in all" is the peak of the process.

    python benchmarks/huggingface.py
    python benchmarks/huggingface.py --layers 2 --tokens 256 --rounds 1

Needs 'tiedlm[hf]' and accelerate.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

WAYS = ("own", "AL", "alpha = 0")
_EXAMPLES = Path(__file__).parents[1] / "examples"


def measure(way: str, tokens: int, layers: int, steps: int) -> dict[str, float]:
    """Train in a fresh process and return the seconds and the bytes of a step."""
    command = [sys.executable, __file__, "--child", way, "--tokens", str(tokens)]
    command += ["--layers", str(layers), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr.strip()[-500:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def rows(tokens: int, layers: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    """Return one row per way: milliseconds and MiB, and both beside the Trainer's own loss."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            found[way].append(measure(way, tokens, layers, steps))
    best = {
        way: {key: min(one[key] for one in runs) for key in runs[0]} for way, runs in found.items()
    }
    own = best["own"]
    return [
        {
            "way": way,
            "ms": 1e3 * one["seconds"],
            "time": one["seconds"] / own["seconds"],
            "MiB": one["step"] / 2**20,
            "memory": one["step"] / own["step"],
            "in all": one["peak"] / 2**20,
        }
        for way, one in best.items()
    ]


def _train(way: str, tokens: int, layers: int, steps: int) -> dict[str, float]:
    """Train for some steps in this process."""
    import torch
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    sys.path.insert(0, str(_EXAMPLES))
    import huggingface_trainer as example

    class Clock(TrainerCallback):
        """Take the time of each step, and the memory of the last."""

        def __init__(self) -> None:
            self.seconds: list[float] = []
            self.before = 0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            _start_peak()
            self.before, self.started = _resident("VmRSS"), time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds.append(time.perf_counter() - self.started)

    torch.manual_seed(0)
    config = GPT2Config(n_layer=layers, output_hidden_states=way != "own")
    model = GPT2LMHeadModel(config)
    data = [torch.randint(config.vocab_size, (tokens,)) for _ in range(steps)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=steps,
            per_device_train_batch_size=1,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        options: dict[str, Any] = {"data_collator": example.collate}
        if way == "own":
            options = {"data_collator": lambda rows: dict.fromkeys(_LABELLED, torch.stack(rows))}
        else:
            alpha = 13.0 if way == "AL" else 0.0
            options["compute_loss_func"] = partial(example.augmented_loss, model, alpha=alpha)
        Trainer(model, arguments, train_dataset=data, callbacks=[clock], **options).train()
    peak = _resident("VmHWM")
    seconds = statistics.median(clock.seconds[2:])
    return {"seconds": seconds, "step": peak - clock.before, "peak": peak}


_LABELLED = ("input_ids", "labels")


def _start_peak() -> None:
    """Reset the peak of resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> int:
    """Return a size of this process in bytes: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def main() -> None:
    """Measure the ways and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--layers", type=int, default=12, help="layers of GPT-2")
    parser.add_argument("--steps", type=int, default=5, help="steps of a process; at least 3")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each way")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        one = _train(options.child, options.tokens, options.layers, options.steps)
        print(json.dumps(one))
        return
    print("| loss | ms a step | beside own | MiB of a step | beside own | MiB in all |")
    print("|---|---|---|---|---|---|")
    for row in rows(options.tokens, options.layers, options.steps, options.rounds):
        print(
            f"| {row['way']} | {row['ms']:,.0f} | {row['time']:.2f} | {row['MiB']:,.0f} "
            f"| {row['memory']:.2f} | {row['in all']:,.0f} |"
        )


if __name__ == "__main__":
    main()
