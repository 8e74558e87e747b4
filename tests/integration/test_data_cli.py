from __future__ import annotations

import functools
import json
import os
import re
import resource
import subprocess
import sys
import textwrap
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiedlm import files
from tiedlm.cli import main
from tiedlm.data import find, load_corpus
from tiedlm.data.sotu import speeches
from tiedlm.errors import UserError

SENTENCES = ["The cat sat, and the dog ran.", "It didn't rain; it snowed.", "We saw 3 of them."]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


def run(cwd: Path, *arguments: str, limit: int | None = None, **environment: str):
    """Run ``tiedlm data`` as a user would, with a cache of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("TIEDLM_")}
    cache = {"TIEDLM_CACHE": str(cwd / "cache"), "COLUMNS": "200"}

    def limit_file_size() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", "tiedlm", "data", *arguments],
        cwd=cwd,
        env=kept | cache | environment,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=limit_file_size,
    )


def assert_one_line_error(result, *parts: str) -> None:
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("tiedlm: error: ")
    assert result.stderr.count("\n") == 1
    for part in parts:
        assert part in result.stderr


@pytest.fixture
def book(tmp_path: Path) -> Path:
    path = tmp_path / "book.txt"
    path.write_text("\n".join(SENTENCES[n % 3] for n in range(300)) + "\n", encoding="utf-8")
    return path


def test_list_names_every_corpus_and_the_place_of_missing_ones(tmp_path: Path):
    result = run(tmp_path, "list")
    assert result.returncode == 0
    for name in ("sotu", "sotu-modern", "sotu-short", "ptb", "wikitext-2"):
        assert name in result.stdout
    assert "929,589" in result.stdout
    assert f"put ptb.train.txt, ptb.valid.txt, ptb.test.txt into {tmp_path}" in result.stdout
    listed = json.loads(run(tmp_path, "list", "--json").stdout)
    assert [source["types"] for source in listed if source["name"] == "ptb"] == [10_000]


def test_prepared_text_loads_as_the_same_corpus(book: Path, tmp_path: Path):
    result = run(tmp_path, "prepare", str(book), "--out", "prepared", "--vocab-size", "12")
    assert result.returncode == 0, result.stderr
    assert "written to prepared" in result.stdout
    names = {path.name for path in (tmp_path / "prepared").iterdir()}
    assert names == {"train.txt", "valid.txt", "test.txt", "vocabulary.txt", "prepared.json"}
    assert (tmp_path / "prepared" / "train.txt").read_text().startswith("the cat <unk> , and")
    cache = tmp_path / "cache"
    first = load_corpus(str(book), vocab_size=12, cache=cache)
    second = load_corpus(str(tmp_path / "prepared"), cache=cache)
    assert second.vocabulary == first.vocabulary
    assert second.info["tokenizer"] is None
    for part in ("train", "valid", "test"):
        assert getattr(second, part).tolist() == getattr(first, part).tolist()


def test_check_counts_and_warns(book: Path, tmp_path: Path):
    shown = run(tmp_path, "check", str(book))
    assert shown.returncode == 0, shown.stderr
    assert "blocks of 3 consecutive lines" in shown.stdout
    assert "warning: valid is tiny" in shown.stdout
    assert "are also in train" in shown.stdout
    found = json.loads(run(tmp_path, "check", str(book), "--json").stdout)
    assert found["parts"]["train"]["lines"] == 240
    assert found["parts"]["valid"]["seen_lines_share"] == 1.0
    assert found["parts"]["test"]["unk_share"] == 0.0
    assert found["tokenizer"] == "tiedlm"
    assert any("same text" in warning for warning in found["warnings"])


def test_check_warns_of_a_text_that_is_wrapped(tmp_path: Path):
    paragraph = "The cat sees the dog, and the dog sees the old cat. It goes on to the barn. "
    lines = textwrap.wrap(paragraph * 60, 40)
    (tmp_path / "wrapped.txt").write_text("\n".join(lines) + "\n")
    shown = run(tmp_path, "check", str(tmp_path / "wrapped.txt"))
    assert "of the lines of train end in mid-sentence, as in wrapped text" in shown.stdout
    (tmp_path / "whole.txt").write_text((paragraph + "\n") * 60)
    shown = run(tmp_path, "check", str(tmp_path / "whole.txt"))
    assert shown.returncode == 0
    assert "wrapped" not in shown.stdout.replace("wrapped.txt", "")


@pytest.mark.skipif(speeches() is None, reason="the package sotu is not installed")
def test_check_verifies_the_demo_corpus(tmp_path: Path):
    result = run(tmp_path, "check", "sotu-short")
    assert "SHA-256 of the files: verified" in result.stdout
    assert "warning" not in result.stdout


def test_prepare_does_not_overwrite_its_input(tmp_path: Path):
    text = "Some words, and some words.\n" * 12
    (tmp_path / "train.txt").write_text(text)
    result = run(tmp_path, "prepare", "train.txt", "--out", str(tmp_path / "."))
    assert_one_line_error(result, "train.txt is part of the text itself")
    assert (tmp_path / "train.txt").read_text() == text


def test_prepare_does_not_write_beside_the_files_that_a_folder_stands_for(tmp_path: Path):
    """Otherwise the folder would mean the prepared text from then on."""
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.jsonl").write_text('{"text": "Some words, and some words."}\n')
    result = run(tmp_path, "prepare", ".", "--out", str(tmp_path / "."))
    assert_one_line_error(result, "is the folder of the text itself; choose another folder")
    assert len(list(tmp_path.glob("*.txt"))) == 0


@pytest.mark.skipif(speeches() is None, reason="the package sotu is not installed")
def test_a_corpus_may_be_prepared_in_a_folder_of_its_name(tmp_path: Path):
    assert run(tmp_path, "prepare", "sotu-short", "--out", "sotu-short").returncode == 0
    assert (tmp_path / "sotu-short" / "train.txt").is_file()


def test_a_user_without_a_home_folder_prepares_a_text(book: Path, tmp_path: Path, monkeypatch):
    def homeless(given=None):
        if given is None:
            raise UserError("this user has no home folder")
        return given

    def found(*arguments, cache=None, **more):  # a corpus with a name asks for the cache again
        return real(*arguments, cache=homeless(cache), **more)

    real = find.find_source
    monkeypatch.setattr(find, "find_source", found)
    monkeypatch.setattr(files, "cache_folder", homeless)
    monkeypatch.chdir(tmp_path)
    main(["data", "prepare", str(book), "--out", "prepared"])
    assert (tmp_path / "prepared" / "train.txt").is_file()


def test_a_text_that_this_command_did_not_write_is_not_overwritten(book: Path, tmp_path: Path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "train.txt").write_text("mine\n")
    result = run(tmp_path, "prepare", str(book), "--out", "other")
    assert_one_line_error(result, "train.txt was not written by this command")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["train.txt"]
    for _ in range(2):  # it replaces a text that it wrote itself
        assert run(tmp_path, "prepare", str(book), "--out", "prepared").returncode == 0


def test_a_run_is_not_overwritten_by_a_text(book: Path, tmp_path: Path):
    """Every run and export has a vocabulary.txt."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "vocabulary.txt").write_text("mine\n")
    (tmp_path / "run" / "config.json").write_text("{}")
    result = run(tmp_path, "prepare", str(book), "--out", "run")
    assert_one_line_error(result, "vocabulary.txt was not written by this command")
    assert (tmp_path / "run" / "vocabulary.txt").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00" * 20, "is not a text file"),
        (b"r\xe9sum\xe9 one\n" * 20, "is not UTF-8 text (byte 0xe9 in line 1)"),
        (b"it \x92s\n" * 20, "iconv -f cp1252"),
        (b"one line\rand another\r" * 20, "carriage returns"),
        (b"word " * 2_100_000, "longer than 10 MB"),
        (b"one line\n", "too few to split"),
    ],
    ids=["empty", "binary", "latin1", "cp1252", "old Mac", "endless line", "too short"],
)
def test_bad_text_is_one_clear_line(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "bad.txt").write_bytes(content)
    assert_one_line_error(run(tmp_path, "prepare", "bad.txt"), "bad.txt", message)
    assert not list(tmp_path.glob("cache/corpora/*"))


def test_a_missing_part_is_one_clear_line(tmp_path: Path):
    (tmp_path / "train.txt").write_text("a b\n")
    result = run(tmp_path, "check", str(tmp_path))
    assert_one_line_error(result, "no valid.txt and no test.txt")


def test_an_unknown_name_is_one_clear_line(tmp_path: Path):
    assert_one_line_error(run(tmp_path, "check", "wikitxt-2"), "did you mean 'wikitext-2'?")


def test_offline_is_one_clear_line(tmp_path: Path):
    result = run(tmp_path, "prepare", "ptb", TIEDLM_MIRROR="http://127.0.0.1:9")
    assert_one_line_error(result, "cannot download", "put ptb.train.txt", "TIEDLM_DATA")


def test_a_corrupt_download_is_one_clear_line_and_is_removed(tmp_path: Path):
    served = tmp_path / "served" / "ptb"
    served.mkdir(parents=True)
    (served / "ptb.train.txt").write_text("not the treebank\n")
    handler = functools.partial(QuietHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        mirror = f"http://127.0.0.1:{server.server_address[1]}"
        result = run(tmp_path, "prepare", "ptb", TIEDLM_MIRROR=mirror)
        server.shutdown()
        thread.join()
    assert_one_line_error(result, f"{mirror}/ptb/ptb.train.txt gave a file with SHA-256", "removed")
    left = {path.name for path in tmp_path.glob("cache/sources/ptb/*")}
    assert left <= {".lock"}  # the file alone locks nothing


def test_a_full_disk_is_one_clear_line_and_leaves_nothing(book: Path, tmp_path: Path):
    result = run(tmp_path, "prepare", str(book), limit=1000)
    assert_one_line_error(result, "cannot write", "File too large", "TIEDLM_CACHE")
    assert list((tmp_path / "cache" / "corpora").iterdir()) == []


def test_a_full_disk_leaves_no_half_written_text(book: Path, tmp_path: Path):
    done = run(tmp_path, "prepare", str(book))
    assert done.returncode == 0
    place = Path(done.stdout.strip().rpartition("; in the cache: ")[2])
    assert place.parent == tmp_path / "cache" / "corpora"
    assert (place / "train.npy").is_file()
    result = run(tmp_path, "prepare", str(book), "--out", "prepared", limit=2000)
    assert_one_line_error(result, "cannot write prepared: ", "File too large")
    assert not list(tmp_path.glob("prepared/*"))


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="there is no /proc here")
def test_a_folder_that_cannot_be_written_is_one_clear_line(book: Path, tmp_path: Path):
    result = run(tmp_path, "prepare", str(book), TIEDLM_CACHE="/proc/cache")
    assert_one_line_error(result, "cannot write /proc/cache", "set TIEDLM_CACHE")
    assert run(tmp_path, "prepare", str(book)).returncode == 0
    result = run(tmp_path, "prepare", str(book), "--out", "/proc/text")
    assert_one_line_error(result, "cannot write /proc/text")


def test_torch_is_not_imported(tmp_path: Path):
    code = (
        "import sys\nfrom tiedlm.cli import main\n"
        "try:\n    main(['data', 'list'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path)


def test_a_text_is_checked_and_written_without_a_writable_cache(book: Path):
    cache = str(book / "is-a-file")  # no one can make a folder in a file
    expected = run(book.parent, "check", str(book), "--json").stdout
    for arguments in (["check", str(book), "--json"], ["prepare", str(book), "--out", "prepared"]):
        result = run(book.parent, *arguments, TIEDLM_CACHE=cache)
        assert result.returncode == 0
        assert re.fullmatch(
            r"note: cannot write .*/corpora: Not a directory; set TIEDLM_CACHE to another folder; "
            r"until then each command encodes the text again\n", result.stderr,
        )  # fmt: skip
        assert expected.startswith(result.stdout) or "written to prepared" in result.stdout
    assert_one_line_error(run(book.parent, "prepare", str(book), TIEDLM_CACHE=cache), "set TIEDLM")
