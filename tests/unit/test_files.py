"""Files are written whole or not at all."""

import errno
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tiedlm import files, native
from tiedlm.data import list_sources
from tiedlm.data.standard import data_root
from tiedlm.errors import UserError, did_you_mean
from tiedlm.files import (
    atomic_path,
    cache_folder,
    check_utf8,
    cut_name,
    expand,
    explain,
    keep_input,
    lock,
    read_json,
    readable,
    write_json,
    write_text,
)
from tiedlm.json_text import parse_json, to_json
from tiedlm.native import library


def test_a_file_is_replaced_whole_and_no_temporary_stays(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_text(path, "first")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failure_while_writing_leaves_the_old_file_and_no_temporary(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"


def test_a_file_is_replaced_once_its_readers_have_closed_it(tmp_path, monkeypatch):
    """Windows replaces no file that another program reads, such as the page of a running model."""
    path, replace, readers = tmp_path / "a.txt", Path.replace, 2

    def replace_unless_open(self, target):
        nonlocal readers
        if readers:
            readers -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(self))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_unless_open)
    write_text(path, "new")
    assert path.read_text() == "new"
    readers = 10**9
    monkeypatch.setattr(files, "_PATIENCE", 0.1)
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: Access is denied"):
        write_text(path, "newer")
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/a\.txt: File exists"):
        write_text(blocker / "a.txt", "x")


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "larger files"),
        (errno.EROFS, "choose a writable folder"),
        (errno.EACCES, "choose a folder that you may write"),
        (errno.ENOTDIR, "check the path"),
    ],
)
def test_the_advice_is_for_the_number_of_the_error_in_any_language(number, advice):
    error = explain(OSError(number, "in the words of the system"), "a.txt")
    assert str(error).startswith("cannot write a.txt: in the words of the system; ")
    assert advice in str(error)


def test_a_broken_character_is_named_with_the_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: '\\udce9' in it is not a char"):
        write_text(tmp_path / "a.txt", "x\udce9")
    assert not list(tmp_path.iterdir())


def test_an_input_is_not_overwritten_but_other_files_are(tmp_path):
    read, beside = tmp_path / "read.txt", tmp_path / "beside.txt"
    for path in (read, beside):
        path.write_text("")
    keep_input(None, read)
    keep_input(beside, read, tmp_path)
    keep_input(tmp_path / "new", tmp_path / "new")
    with pytest.raises(UserError, match="is an input of this command; choose another"):
        keep_input(tmp_path / "." / "read.txt", beside, str(read))


def test_an_input_is_not_overwritten_under_another_of_its_names(tmp_path):
    """On macOS and Windows upper and lower case give a file a second name, as a link does here."""
    (tmp_path / "read.txt").write_text("")
    os.link(tmp_path / "read.txt", tmp_path / "READ.txt")
    with pytest.raises(UserError, match="is an input of this command; choose another"):
        keep_input(tmp_path / "READ.txt", "-", tmp_path / "missing", tmp_path / "read.txt")


def test_json_round_trips_and_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"ä": [1, 2.5, None, True]})
    assert read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None, True]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()


def test_missing_and_damaged_json_are_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text('{"half": ')
    with pytest.raises(UserError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


def test_only_a_near_name_is_suggested():
    assert did_you_mean("sotuu", ["sotu", "ptb"]) == " (did you mean 'sotu'?)"
    assert did_you_mean("qqq", ["sotu", "ptb"]) == ""


def test_a_link_is_followed_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_text(tmp_path / "pipe", "through")
        assert read.result(timeout=20) == "through"
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe", "target"]


@pytest.fixture
def no_home(monkeypatch):
    """Simulate a user without a home folder: no HOME and no entry for the user id."""
    for name in ("HOME", "XDG_CACHE_HOME", "TIEDLM_CACHE", "TIEDLM_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.path.expanduser", lambda path: path)


def test_without_a_home_folder_the_cache_is_asked_for_by_name(no_home, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"no home folder for the cache; set TIEDLM_CACHE to"):
        cache_folder()
    monkeypatch.setenv("TIEDLM_CACHE", "~/cache")
    with pytest.raises(UserError, match=r"TIEDLM_CACHE=~/cache: no home folder is known for"):
        cache_folder()
    monkeypatch.setenv("TIEDLM_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_without_a_home_folder_the_corpora_are_listed(no_home, monkeypatch, tmp_path):
    ptb = next(source for source in list_sources() if source.name == "ptb")
    assert not ptb.present
    assert ptb.advice.endswith("into <folder>/ptb and set TIEDLM_DATA=<folder>")
    monkeypatch.setenv("TIEDLM_DATA", str(tmp_path))
    (tmp_path / "ptb").mkdir()
    for part in ("train", "valid", "test"):
        (tmp_path / "ptb" / f"ptb.{part}.txt").write_text("a")
    assert [source.name for source in list_sources() if source.place == str(tmp_path / "ptb")]


def test_without_a_home_folder_the_data_folder_is_named(no_home, monkeypatch):
    monkeypatch.setenv("TIEDLM_DATA", "~/data")
    with pytest.raises(UserError, match=r"TIEDLM_DATA=~/data: no home folder is known for its ~"):
        data_root(None)


def test_without_a_home_folder_the_kernels_say_so_and_pytorch_does_the_work(no_home):
    if native.why_not() and "TIEDLM_CACHE" not in native.why_not():
        pytest.skip(native.why_not())
    library._library.cache_clear()
    try:
        assert "set TIEDLM_CACHE" in native.why_not()
    finally:
        library._library.cache_clear()


def test_a_tilde_is_a_home_folder_unless_a_file_has_that_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expand("~/x") == tmp_path / "home" / "x"
    assert expand("~nosuch-user/x") == Path("~nosuch-user/x")
    for name in ("~$notes.txt", "~nosuch-user"):
        Path(name).write_text("a\n")
        assert expand(name) == Path(name)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert expand("~/x") == Path("~/x")


def test_a_name_is_cut_by_bytes_and_never_inside_a_character():
    assert cut_name("语" * 72, 80) == "语" * 26
    assert cut_name("a" * 100, 80) == "a" * 80
    assert cut_name("short", 80) == "short"
    assert cut_name("a\udcffb", 80) == "ab"


@pytest.mark.parametrize("name", ["x" * 255, "语" * 85])
def test_a_file_may_have_the_longest_name_that_the_file_system_allows(tmp_path, name):
    write_text(tmp_path / name, "content")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes")
def test_a_name_that_is_not_utf8_is_refused_only_where_it_cannot_be_read(tmp_path, monkeypatch):
    strange = tmp_path / os.fsdecode(b"b\xffd")
    write_text(strange / "a.txt", "content")
    assert (strange / "a.txt").read_text() == "content"
    check_utf8(tmp_path / "文", "nobody reads it")
    for name in (strange, strange / "folder"):
        with pytest.raises(UserError, match="is not UTF-8: nobody reads it; choose another"):
            check_utf8(name, "nobody reads it")
    monkeypatch.chdir(strange)
    with pytest.raises(UserError, match="is not UTF-8"):
        check_utf8(Path("."), "nobody reads it")
    check_utf8(Path("folder"), "it is read from here")
    assert readable(strange.name) == "b\N{REPLACEMENT CHARACTER}d"


def test_a_folder_is_held_by_one_at_a_time(tmp_path):
    with lock(tmp_path / "new"), pytest.raises(UserError, match="new is in use by another proc"):
        lock(tmp_path / "new", 0.1).__enter__()
    with lock(tmp_path / "new", 0.1):
        assert os.listdir(tmp_path / "new") == [".lock"]


def test_the_lock_of_a_killed_process_does_not_block(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from tiedlm.files import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="in use by another process"):
            lock(tmp_path, 0.1).__enter__()
        child.kill()
        child.wait()
    with lock(tmp_path, 1.0):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_named_at_once(tmp_path, monkeypatch, number):
    """Lustre without flock gives the first number, and some network disks give the second."""
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(UserError, match=r"\.lock cannot be locked: .*; set TIEDLM_CACHE"):
        lock(tmp_path, 60).__enter__()


def test_without_file_locks_in_python_one_at_a_time_holds_a_folder(tmp_path):
    program = (
        "import sys, warnings; sys.modules['fcntl'] = None; warnings.simplefilter('ignore')\n"
        "from pathlib import Path; from tiedlm.files import lock\n"
        "for _ in range(2):\n"
        "    with lock(Path(sys.argv[1]), 3.0): print('held')"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(arguments, capture_output=True).stdout.split() == [b"held"] * 2


def test_a_folder_that_cannot_be_made_cannot_be_held(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*file/run: Not a directory"):
        lock(tmp_path / "file" / "run").__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_folder_that_cannot_be_written_cannot_be_held():
    with pytest.raises(UserError, match=r"cannot write /proc"):
        lock(Path("/proc/self")).__enter__()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not valid JSON"),
        ("[" * 99_999, "nested too deeply"),
        ("[" * 99_999 + "]" * 99_999, "nested too deeply"),
        ('{"a": 1, "a": 2}', "the key 'a' twice"),
        ('["\\ud83d"]', r"'\\ud83d', which is half a character"),
    ],
)
def test_json_that_cannot_be_read_is_one_line_with_its_name(tmp_path, text, says):
    path = tmp_path / "a.json"
    path.write_text(text)
    for read in (lambda: read_json(path), lambda: parse_json(text, str(path))):
        with pytest.raises(UserError, match=says) as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_number_beyond_any_float_is_infinite():
    assert parse_json(f"[1{'0' * 400}, -1{'0' * 5000}]", "list") == [math.inf, -math.inf]
    assert parse_json("[1e999, 7]", "list") == [math.inf, 7]
    assert parse_json('["\\ud83d\\ude00 \\u00e9"]', "list") == ["\N{GRINNING FACE} é"]


def test_json_that_is_written_has_only_finite_numbers():
    value = {"a": [math.inf, (-math.inf, 1.5)], "b": math.nan, "c": "NaN"}
    assert json.loads(to_json(value)) == {"a": [None, [None, 1.5]], "b": None, "c": "NaN"}
    assert to_json([0.1, "é"], ensure_ascii=False) == '[0.1, "é"]'


def test_a_number_too_large_is_shown_as_it_was_written():
    written = f"[1{'0' * 400}, 1e999, -1e999, Infinity, -Infinity, NaN, 0.5]"
    assert repr(parse_json(written, "list")) == written
