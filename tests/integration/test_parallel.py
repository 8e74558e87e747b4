"""Parallel models end cleanly when the process that started them is stopped or fails."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from tiedlm.experiments.parallel import Job, train_all
from tiedlm.progress import ProgressView
from tiedlm.training.settings import Settings

ENDLESS = {"d_embed": 12, "d_hidden": 12, "batch_size": 4, "bptt": 5, "epochs": 10_000}
PROGRAM = """
import sys
from pathlib import Path
from tiedlm.experiments.parallel import Job, train_all
from tiedlm.progress import ProgressView
from tiedlm.training.outcomes import Stopped
from tiedlm.training.settings import Settings

if __name__ == "__main__":
    settings = Settings(data=sys.argv[1], threads=1, {options})
    try:
        with ProgressView() as view:
            train_all([Job(settings, Path(sys.argv[2]) / name) for name in "ab"], 2, view)
    except Stopped as stopped:
        print(stopped)
"""


FIGURE1 = """
import sys
from pathlib import Path
from tiedlm.experiments.figure1 import run_figure1
from tiedlm.progress import ProgressView
from tiedlm.training.outcomes import Stopped

if __name__ == "__main__":
    changes = dict(data=sys.argv[1], threads=1, fraction=1.0, skip=0.0, {options})
    try:
        with ProgressView() as view:
            out = Path(sys.argv[2])
            run_figure1([(0.0, 10.0), (1.0, 10.0)], [1], out, view, 2, float("inf"), changes)
    except Stopped as stopped:
        print(stopped)
"""


def write_program(folder, before="", program=PROGRAM):
    """Write a program that trains two models at once without end, and return its path."""
    options = ", ".join(f"{name}={value}" for name, value in ENDLESS.items())
    file = folder / "program.py"
    file.write_text(before + program.format(options=options))
    return file


def children_of(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc here")
@pytest.mark.parametrize(
    ("number", "wait"),
    [(signal.SIGINT, 0.3), pytest.param(signal.SIGTERM, 1.0, marks=pytest.mark.slow)],
)
def test_a_signal_to_all_during_start_is_not_a_failure(tiny_corpus, tmp_path, number, wait):
    process = subprocess.Popen(
        [sys.executable, write_program(tmp_path), tiny_corpus, tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while len(children_of(process.pid)) < 3:  # two models and a resource tracker
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(wait)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert "the same command continues" in out, err
    assert "Traceback" not in err
    assert process.returncode == 0


def test_a_model_that_dies_is_noticed_while_others_report(tiny_corpus, tmp_path):
    victim = tmp_path / "a"

    class Watching(ProgressView):
        def watcher(self):
            watcher = super().watcher()
            real = watcher.step

            def step(*arguments):
                real(*arguments)
                if (victim / "config.json").exists() and not killed:
                    first = min(multiprocessing.active_children(), key=lambda child: child.pid)
                    first.kill()
                    killed.append(time.monotonic())

            watcher.step = step
            return watcher

    killed = []
    settings = Settings(data=str(tiny_corpus), threads=1, **ENDLESS)
    jobs = [Job(settings, tmp_path / name) for name in "ab"]
    expected = pytest.raises(RuntimeError, match="the process ended with -9")
    with Watching(Console(quiet=True)) as view, expected:
        train_all(jobs, 2, view)
    assert time.monotonic() - killed[0] < 30
    assert not multiprocessing.active_children()


DIES_AS_IT_WRITES = """
import os, signal, time
from tiedlm.experiments import parallel

train, parent = parallel._train, os.getppid()

def dies_as_it_writes(job, channel):
    if job.out.name == "b":
        return train(job, channel)
    other = job.out.parent / "b/config.json"
    while not other.exists() and os.getppid() == parent:
        time.sleep(0.01)
    os.write(channel.connection.fileno(), (100).to_bytes(4, "big") + b"half a message")
    os.kill(os.getpid(), signal.SIGKILL)

parallel._train = dies_as_it_writes
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe is no file there")
def test_a_model_that_is_killed_while_it_reports_blocks_nobody(tiny_corpus, tmp_path):
    done = subprocess.run(
        [sys.executable, write_program(tmp_path, DIES_AS_IT_WRITES), tiny_corpus, tmp_path],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert f"{tmp_path / 'a'}: the process ended with -9" in done.stderr
    assert list(tmp_path.glob("b/last/*.safetensors"))


def test_when_the_parent_fails_its_children_save_and_end(tiny_corpus, tmp_path):
    class Broken(ProgressView):
        def watcher(self):
            watcher = super().watcher()
            watcher.epoch_end = self.fail
            return watcher

        def fail(self, *_):
            raise BrokenPipeError("nobody reads")

    settings = Settings(data=str(tiny_corpus), threads=1, **ENDLESS)
    with Broken(Console(quiet=True)) as view, pytest.raises(BrokenPipeError, match="nobody reads"):
        train_all([Job(settings, tmp_path / name) for name in "ab"], 2, view)
    assert not multiprocessing.active_children()
    assert list(tmp_path.glob("?/last/*.safetensors"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc here")
@pytest.mark.parametrize("to_all", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_figure_1_leaves_no_process_behind(tiny_corpus, tmp_path, number, to_all):
    if to_all and number == signal.SIGKILL:
        pytest.skip("nothing could be left")
    process = subprocess.Popen(
        [sys.executable, write_program(tmp_path, program=FIGURE1), tiny_corpus, tmp_path],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    while len(children := children_of(process.pid)) < 3:  # two runs and a resource tracker
        assert process.poll() is None
        time.sleep(0.01)
    # Large memory shows that they train: torch is imported and the text is read.
    while any(
        int(Path(f"/proc/{child}/stat").read_text().split()[13]) < 50 for child in children[1:]
    ):
        time.sleep(0.05)
    (os.killpg if to_all else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert out.endswith("stopped with 2 runs left; the same command continues\n"), err
        assert "Traceback" not in err
        assert process.returncode == 0
    ends = time.monotonic() + 60
    while any(is_running(child) for child in children):
        assert time.monotonic() < ends
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
