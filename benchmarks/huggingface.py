"""Measure the cost of the augmented loss in a Hugging Face Trainer on GPT-2 small's shape.

V = 50,257, d = 768, 12 layers, one sequence of 1,024 tokens, AdamW, float32, random weights. Each
way trains in fresh processes. The ways take turns, round by round:

- ``own``: the Trainer's own loss, cross-entropy on the model's logits;
- ``AL``: the loss of ``examples/huggingface_trainer.py``;
- ``alpha = 0``: the same with plain cross-entropy.

Time is the median of ``--steps`` steps without the first two. Memory is measured in a process of
its own, in which the C library returns freed memory at once, so that resident memory is what is in
use. Weights and optimizer states are not counted. "MiB of a step" is the peak above them until the
update: activations, loss and gradients. "MiB of the loss" is the share of the head and the loss. It
is measured from the moment when the last layer has computed its output until the gradient of this
output is used: the peak above the memory in use at the beginning.

    python benchmarks/huggingface.py
    python benchmarks/huggingface.py --layers 2 --tokens 256 --rounds 1
    python benchmarks/huggingface.py --memory-only --checkpointing --batch 4

Needs 'tiedlm[hf]' and accelerate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tiedlm.experiments.reproduce import markdown_table

WAYS = ("own", "AL", "alpha = 0")
_EXAMPLES = Path(__file__).parents[1] / "examples"
_LABELLED = ("input_ids", "labels")
# Freed blocks of 64 KiB or more return to the system at once, and so does the end of the heap.
_RETURNS_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0",
}  # fmt: skip


class Run(NamedTuple):
    """What a process trains."""

    tokens: int
    batch: int
    layers: int
    steps: int
    checkpointing: bool

    def measure(self, way: str, of: str) -> dict[str, float]:
        """Train in a fresh process; return its seconds or its bytes."""
        command = [sys.executable, __file__, "--child", way, of, json.dumps(self)]
        environment = os.environ | (_RETURNS_MEMORY if of == "memory" else {})
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"{way}: {done.stderr.strip()[-500:]}")
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result

    def train(self, way: str, of: str) -> dict[str, float]:
        """Train for some steps in this process."""
        import torch
        from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

        sys.path.insert(0, str(_EXAMPLES))
        import huggingface_trainer as example

        torch.manual_seed(0)
        config = GPT2Config(n_layer=self.layers, output_hidden_states=way != "own")
        model = GPT2LMHeadModel(config)
        steps = 1 if of == "memory" else self.steps
        data = [torch.randint(config.vocab_size, (self.tokens,)) for _ in range(steps * self.batch)]
        clock = _memory(model) if of == "memory" else _time()
        options: dict[str, Any] = {"data_collator": example.collate}
        if way == "own":
            options = {"data_collator": lambda rows: dict.fromkeys(_LABELLED, torch.stack(rows))}
        else:
            alpha = 13.0 if way == "AL" else 0.0
            options["compute_loss_func"] = partial(example.augmented_loss, model, alpha=alpha)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=self.batch,
                gradient_checkpointing=self.checkpointing,
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                remove_unused_columns=False,
            )
            Trainer(model, arguments, train_dataset=data, callbacks=[clock], **options).train()
        found: dict[str, float] = clock.found()
        return found


def _time() -> Any:
    """Return a callback that takes the time of each step."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.seconds.append(time.perf_counter() - self.started)

        def found(self) -> dict[str, float]:
            return {"seconds": statistics.median(self.seconds[2:])}

    return Clock()


def _memory(model: Any) -> Any:
    """Return a callback that measures the peak of a step, and the share of the loss."""
    from transformers import TrainerCallback

    class Peaks(TrainerCallback):
        def __init__(self) -> None:
            self.peaks: list[int] = []
            last = model.transformer.ln_f
            last.register_forward_hook(lambda *_: self.begin_loss())
            last.register_full_backward_pre_hook(lambda *_: self.peaks.append(_end_of_peak()))

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            _start_peak()
            self.before = _resident("VmRSS")

        def begin_loss(self) -> None:
            self.peaks.append(_end_of_peak())
            self.activations = _resident("VmRSS")

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            self.peaks.append(_end_of_peak())

        def found(self) -> dict[str, float]:
            return {
                "loss": self.peaks[1] - self.activations,
                "step": max(self.peaks) - self.before,
            }

    return Peaks()


def _end_of_peak() -> int:
    """Return the peak of resident memory in bytes, and reset it."""
    peak = _resident("VmHWM")
    _start_peak()
    return peak


def _start_peak() -> None:
    """Reset the peak of resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> int:
    """Return a size of this process in bytes: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def cells_of(value: float, own: float, unit: float) -> tuple[str, str]:
    """Return a value in a unit, and relative to the Trainer's own loss."""
    return f"{value / unit:,.0f}", f"{value / own:.2f}"


def main() -> None:
    """Measure the ways and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--batch", type=int, default=1, help="sequences of a step")
    parser.add_argument("--layers", type=int, default=12, help="layers of GPT-2")
    parser.add_argument("--steps", type=int, default=5, help="steps of a process; at least 3")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each way")
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--memory-only", action="store_true", help="measure no time")
    parser.add_argument(
        "--checkpointing", action="store_true", help="make activations again in backward"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, of, run_ = options.child
        print(json.dumps(Run(*json.loads(run_)).train(way, of)))
        return
    run = Run(options.tokens, options.batch, options.layers, options.steps, options.checkpointing)
    found = {way: run.measure(way, "memory") for way in options.ways}
    units = {"step": ("MiB of a step", 2**20), "loss": ("MiB of the loss", 2**20)}
    if not options.memory_only:
        rounds = [
            {way: run.measure(way, "time")["seconds"] for way in options.ways}
            for _ in range(options.rounds)
        ]
        for way in options.ways:
            found[way]["seconds"] = min(one[way] for one in rounds)
        units = {"seconds": ("ms a step", 1e-3), **units}
    own = found[options.ways[0]]
    heading = [cell for name, _ in units.values() for cell in (name, f"beside {options.ways[0]}")]
    body = [
        (
            way,
            *(
                cell
                for key, (_, unit) in units.items()
                for cell in cells_of(one[key], own[key], unit)
            ),
        )
        for way, one in found.items()
    ]
    print(markdown_table(("loss", *heading), body))


if __name__ == "__main__":
    main()
