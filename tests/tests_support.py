"""Share helpers between tests."""

import csv
import io
import itertools
import json
import re
import signal
import subprocess
import time

import numpy as np
from torch.profiler import ProfilerActivity, profile

from tiedlm.cli import main


def blocks(text, language):
    """Return the fenced code blocks of a language in a Markdown text."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def peak_numbers(function):
    """Return the peak number of float32 values allocated above the starting level."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    events = profiler.profiler.kineto_results.events()
    sizes = [event.nbytes() for event in events if event.name() == "[memory]"]
    return max(itertools.accumulate(sizes)) // 4


def is_a_best_word(word, logits_V):
    """Return whether a word has the highest logit, up to rounding."""
    return bool(logits_V[word] >= logits_V.max() - 1e-4)


def run_command(capsys, *arguments):
    """Run ``tiedlm`` in this process and return (exit status, standard output, standard error)."""
    status = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        status = leaving.code or 0
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def outcome(out):
    """Return what exact resume promises, without what measures time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((out / "result.json").read_text())
    for line in [*lines, result]:
        for key in ("seconds", "tokens_per_second"):
            line.pop(key, None)
    return (out / "model.safetensors").read_bytes(), lines, result


def kill_when_saved(program, out):
    """Train in a process until ``out`` can be resumed, kill it, and return its epochs."""
    process = subprocess.Popen(program)
    deadline = time.monotonic() + 120
    while not list((out / "last").glob("*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return len((out / "metrics.jsonl").read_text().splitlines())


def surprisals(text):
    """Return the surprisals of a table, NaN for NA."""
    rows = csv.DictReader(io.StringIO(text), delimiter="\t")
    return np.array([float(row["surprisal"].replace("NA", "nan")) for row in rows])
