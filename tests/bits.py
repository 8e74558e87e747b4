"""Record the exact results of this checkout, or compare them with a record.

A change that only moves code must not change a bit:

    python tests/bits.py record /tmp/before.json    # in the checkout before the change
    python tests/bits.py check /tmp/before.json     # in the checkout after it

Each case is a digest. There are three kinds of cases:

- 200 training steps of the four variants, with the compiled kernels on and off, in float32 and, if
  the processor has it, bfloat16;
- evaluation, scoring and an export of these runs;
- single calls of the loss.

The program uses only commands and public functions, so it runs before and after the change. Both
runs need the same machine and the same PyTorch.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
VARIANTS = ("small", "small-al", "small-re", "small-real")
SHAPE = [
    "--d-embed",
    "40",
    "--d-hidden",
    "48",
    "--batch-size",
    "8",
    "--bptt",
    "20",
    "--epochs",
    "1",
    "--threads",
    "1",
]


def write_text(folder: Path) -> Path:
    """Write a corpus of 32,000 words, frequent and rare ones, enough for 200 training steps."""
    draw = random.Random(0)
    words = [f"w{number}" for number in range(2000)]
    weights = [1 / (rank + 5) for rank in range(len(words))]
    folder.mkdir()
    for part, lines in (("train", 3048), ("valid", 150), ("test", 150)):
        text = "".join(
            " ".join(draw.choices(words, weights, k=draw.randint(4, 15))) + "\n"
            for _ in range(lines)
        )
        (folder / f"{part}.txt").write_text(text)
    return folder


def digest(content: bytes | str) -> str:
    """Return a short hash."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()[
        :16
    ]


def digest_of_tensors(path: Path) -> str:
    """Return a hash of the tensors of a file, without its metadata."""
    from safetensors import safe_open

    found = hashlib.sha256()
    with safe_open(path, "pt") as file:
        for name in sorted(file.keys()):
            found.update(name.encode() + file.get_tensor(name).contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def command(*arguments: object, native: bool) -> str:
    """Run `tiedlm` in this process and return its output."""
    from tiedlm.cli import main as tiedlm

    os.environ["TIEDLM_NATIVE"] = str(int(native))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            tiedlm([str(argument) for argument in arguments])
        except SystemExit as leaving:
            if leaving.code:
                raise
    return printed.getvalue()


def runs(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the name and digest of each command's result."""
    import torch

    text = write_text(folder / "text")
    has_bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    for native in (True, False):
        for precision in ("fp32", "bf16") if has_bf16 else ("fp32",):
            for recipe in VARIANTS:
                case = f"{recipe} {precision} {'compiled' if native else 'pytorch'}"
                out = folder / case.replace(" ", "-")
                more = [*SHAPE, "--precision", precision, "--quiet"]
                command("train", recipe, "--data", text, "--out", out, *more, native=native)
                yield f"{case} weights", digest_of_tensors(out / "model.safetensors")
                line = json.loads((out / "metrics.jsonl").read_text())
                result = json.loads((out / "result.json").read_text())
                kept = [line["step"], line["train_ppl"], line["aug"], result["valid_ppl"]]
                yield f"{case} steps and perplexities", repr([*kept, result["test_ppl"]])
                if precision == "fp32":
                    yield from uses(case, out, text, native)


def uses(case: str, run: Path, text: Path, native: bool) -> Iterator[tuple[str, str]]:
    """Yield the results of evaluation, scoring and export of a run."""
    evaluated = json.loads(command("evaluate", run, "--split", "test", "--json", native=native))
    yield f"{case} evaluate", repr(evaluated["nll"])
    sampled = json.loads(command("evaluate", run, "--mc", 2, "--json", native=native))
    yield f"{case} evaluate --mc", repr(sampled["nll"])
    yield f"{case} score", digest(command("score", run, text / "test.txt", native=native))
    yield f"{case} predict", digest(command("predict", run, "w1 w2", "--json", native=native))
    yield f"{case} generate", digest(command("generate", run, "--words", 30, native=native))
    exported = run.with_name(run.name + "-hf")
    command("export", run, "--to", "hf", exported, native=native)
    yield f"{case} export", digest_of_tensors(exported / "model.safetensors")


def losses() -> Iterator[tuple[str, str]]:
    """Yield the values and gradients of single calls of the loss."""
    import torch

    from tiedlm import augmented_cross_entropy

    torch.set_num_threads(1)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for tied in (True, False):
            for options in (
                {}, {"alpha": 0.0}, {"target_grad": False}, {"reduction": "none"},
                {"reduction": "sum", "temperature": 3.0}, {"impl": "reference"},
                {"impl": "quadratic"},
            ):  # fmt: skip
                torch.manual_seed(1)
                classifier = torch.randn(5000, 24, dtype=dtype).requires_grad_()
                embedding = None if tied else torch.randn(5000, 40, dtype=dtype).requires_grad_()
                bias = torch.randn(5000, dtype=dtype).requires_grad_()
                hidden = torch.randn(9, 77, 24, dtype=dtype).requires_grad_()
                targets = (torch.rand(9, 77) ** 3 * 5000).long()
                targets[0, :3] = -100
                out = augmented_cross_entropy(
                    hidden, classifier, targets, bias, embedding, **options
                )
                (out.loss * torch.linspace(1, 2, out.loss.numel()).view(out.loss.shape)).sum(
                    ).backward()  # fmt: skip
                found = hashlib.sha256()
                for tensor in (*out, *(
                    x.grad for x in (hidden, classifier, bias, embedding) if x is not None
                )):  # fmt: skip
                    if tensor is not None:
                        found.update(tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()
                                     if tensor.dim() else repr(tensor.item()).encode())  # fmt: skip
                name = f"loss {dtype} {'tied' if tied else 'untied'} {options}"
                yield name, found.hexdigest()[:16]


def main() -> None:
    """Record the results or check them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", choices=("runs", "losses"), help="leave out the other cases")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE / "src"))
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"TIEDLM_CACHE": folder + "/cache", "OMP_NUM_THREADS": "1"}
        if options.only != "runs":
            found |= dict(losses())
        if options.only != "losses":
            found |= dict(runs(Path(folder)))
    if options.what == "record":
        options.file.write_text(json.dumps(found, indent=1))
        print(f"{len(found)} digests in {options.file}")
        return
    expected = json.loads(options.file.read_text())
    wrong = [name for name, value in found.items() if expected.get(name) != value]
    for name in wrong:
        print(f"{name}: {expected.get(name)} before, {found[name]} now")
    print(f"{len(found) - len(wrong)} of {len(found)} the same")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
