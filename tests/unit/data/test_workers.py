from __future__ import annotations

import errno
import io
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiedlm.data.encoder import WordEncoder
from tiedlm.data.workers import encode_blocks, serve
from tiedlm.errors import UserError

BLOCKS = [(number, [f"a b{number}", "", f"c{number % 3} d"]) for number in range(9)]


class Breaks:
    """An encoder that fails on a line, by an error or by its end."""

    key, tokenizer, vocabulary = "breaks", None, None

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def encode_lines(self, lines):
        if "a b4" not in lines:
            return WordEncoder(True).encode_lines(lines)
        if self.error is not None:
            raise self.error
        os.kill(os.getpid(), signal.SIGKILL)


def shown(blocks):
    return [(tag, b.ids.tolist(), b.lengths.tolist(), b.words) for tag, b in blocks]


@pytest.mark.parametrize("blocks", [BLOCKS, BLOCKS[:2], []], ids=["many", "two", "none"])
def test_processes_give_the_same_blocks_in_the_same_order(blocks):
    here = shown(encode_blocks(WordEncoder(True), blocks, 1))
    assert shown(encode_blocks(WordEncoder(True), blocks, 2)) == here
    assert [tag for tag, *_ in here] == [tag for tag, _ in blocks]


def test_an_error_in_a_process_is_raised_here(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_workers as by_name  # a name that the other process can import, too

    with pytest.raises(UserError, match="line 3: no"):
        list(encode_blocks(by_name.Breaks(UserError("line 3: no")), BLOCKS, 2))
    with pytest.raises(UserError, match=r"ended early \(SIGKILL\)"):
        list(encode_blocks(by_name.Breaks(None), BLOCKS, 2))


def test_ctrl_c_does_not_disturb_a_process_that_begins(tmp_path: Path, monkeypatch):
    data = tmp_path / "tiedlm" / "data"  # for the other processes, in place of the real one
    data.mkdir(parents=True)
    for folder in (data, data.parent):
        (folder / "__init__.py").touch()
    (data / "workers.py").write_text(
        "import os, pickle, signal, sys\n"
        "os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C while modules are imported\n"
        "def main(): pickle.dump(ValueError('undisturbed'), sys.stdout.buffer)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match="undisturbed"):
        list(encode_blocks(WordEncoder(True), BLOCKS, 2))


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL], ids=["POSIX", "Windows"])
def test_a_process_that_has_ended_is_one_line(monkeypatch, number):
    class Ended:
        def write(self, *_):
            raise OSError(number, os.strerror(number))

        close = flush = write

    process = SimpleNamespace(stdin=Ended(), stdout=io.BytesIO(), wait=lambda: 1, kill=lambda: None)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(UserError, match=r"ended early \(status 1\)"):
        list(encode_blocks(WordEncoder(True), BLOCKS, 2))


def test_a_process_ends_when_no_more_is_asked():
    requests = io.BytesIO(pickle.dumps(WordEncoder(True)) + pickle.dumps(b"a b\nc"))
    answers = io.BytesIO()
    serve(requests, answers)
    assert pickle.loads(answers.getvalue()).lengths.tolist() == [3, 2]


def test_a_script_without_a_guard_encodes_in_processes(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        "from tiedlm.data.encoder import WordEncoder\n"
        "from tiedlm.data.workers import encode_blocks\n"
        "blocks = [(n, ['a b', 'c']) for n in range(4)]\n"
        "print([tag for tag, _ in encode_blocks(WordEncoder(True), blocks, 2)])\n"
    )
    out = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert out.stdout == "[0, 1, 2, 3]\n"
