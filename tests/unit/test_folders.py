"""Folders are written whole or not at all, and what killed processes left is removed."""

import contextlib
import errno
import os
import signal
import subprocess
import sys

import pytest

from tiedlm.errors import UserError
from tiedlm.folders import atomic_folder, check_folder, files_together, remove_temporary


def test_a_new_folder_an_empty_one_and_an_earlier_export_are_accepted(tmp_path):
    check_folder(tmp_path / "new", "step.onnx", "export")
    check_folder(tmp_path, "step.onnx", "export")
    (tmp_path / "step.onnx").touch()
    check_folder(tmp_path, "step.onnx", "export")


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    other = tmp_path / "config.json"
    other.touch()
    with pytest.raises(UserError, match="holds other files"):
        check_folder(tmp_path, "step.onnx", "export")
    with pytest.raises(UserError, match="is a file"):
        check_folder(other, "step.onnx", "export")


def test_a_folder_is_written_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "out"

    def fail(error):
        with files_together(folder, "b", "export") as new:
            (new / "a").write_text("half")
            raise error

    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert not folder.exists()
    with files_together(folder, "b", "export") as new:
        assert new.name == "out"
        for name in "abc":
            (new / name).write_text("first")
        assert not list(folder.glob("[!.]*")), "nothing before all is there"
    (folder / "notes").write_text("mine")
    with pytest.raises(UserError, match=r"cannot write .*out: No space left"):
        fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with files_together(folder, "b", "export") as new:
        (new / "b").write_text("second")
    found = {path.name: path.read_text() for path in folder.iterdir()}
    assert found == {"a": "first", "b": "second", "c": "first", "notes": "mine"}
    with pytest.raises(UserError, match="holds other files"), files_together(folder, "z", "export"):
        pass


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    for died in (True, False):
        with contextlib.suppress(KeyError), atomic_folder(tmp_path / "a" / "b") as new:
            (new / "file").write_text("text")
            assert not (tmp_path / "a" / "b").exists()
            if died:
                raise KeyError
        assert (tmp_path / "a" / "b").exists() != died
    assert (tmp_path / "a" / "b" / "file").read_text() == "text"
    assert len(list((tmp_path / "a").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write .*file/b: Not a directory"),
        atomic_folder(tmp_path / "file" / "b"),
    ):
        pass


def test_temporary_files_and_folders_of_killed_processes_are_removed(tmp_path):
    (tmp_path / ".a.1.tmp").write_text("")
    (tmp_path / ".b.1.tmp" / "inside").mkdir(parents=True)
    (tmp_path / "kept").write_text("")
    remove_temporary(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


WRITER = """
import sys
from pathlib import Path
from tiedlm.folders import files_together
with files_together(Path(sys.argv[1]), "b", "export") as new:
    (new / "b").write_text(sys.argv[2])
    print(flush=True)
    sys.stdin.readline()
"""


@contextlib.contextmanager
def writer(folder, text):
    """Yield a process that has written its temporary folder, and waits for a line."""
    program = [sys.executable, "-c", WRITER, str(folder), text]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"\n"
        yield process


def test_what_a_killed_process_left_is_removed_and_a_living_one_is_let_be(tmp_path):
    folder = tmp_path / "out"
    with writer(folder, "killed") as process:
        process.send_signal(signal.SIGKILL)
    assert len(os.listdir(folder)) == 1
    with writer(folder, "living") as process:
        assert len(os.listdir(folder)) == 1, "what was left is removed"
        with files_together(folder, "b", "export") as new:
            (new / "b").write_text("own")
            assert len(os.listdir(folder)) == 2
        assert (folder / "b").read_text() == "own"
        process.communicate(b"\n")
        assert process.returncode == 0
    assert os.listdir(folder) == ["b"]
    assert (folder / "b").read_text() == "living"


def test_a_folder_without_locks_is_written_and_nothing_else_is_removed(tmp_path, monkeypatch):
    left = tmp_path / ".files.1-ab.tmp" / "out"
    left.mkdir(parents=True)

    def no_locks(*_, **__):
        raise NotImplementedError

    monkeypatch.setattr("tiedlm.files.held_lock", no_locks)
    with files_together(tmp_path, "b", "export") as new:
        (new / "b").touch()
    assert left.exists()
    monkeypatch.undo()
    with files_together(tmp_path, "b", "export") as new:
        (new / "b").touch()
    assert os.listdir(tmp_path) == ["b"]
