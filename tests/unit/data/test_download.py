from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tiedlm.data import download as module
from tiedlm.data import load_corpus
from tiedlm.data.download import UnreachableError, download
from tiedlm.data.standard import STANDARD, Standard
from tiedlm.errors import UserError
from tiedlm.progress import byte_progress

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server that can cut a download and records the requested ranges."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/file": CONTENT}
        self.asked: list[str | None] = []
        self.cut_after: list[int] = []
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append(asked)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and self.server.ranges:
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            body = body[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cut_after:
            body = body[: self.server.cut_after.pop(0)]
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_two_callers_at_once_download_a_file_once(server, tmp_path):
    path = tmp_path / "new" / "file"
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(download, f"{server.url}/file", path, SHA256, False) for _ in range(2)]
    assert [one.result() for one in both] == [None, None]
    assert path.read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_a_file_arrives_whole(server: Server, tmp_path: Path):
    download(f"{server.url}/file", tmp_path / "new" / "file", SHA256)
    assert (tmp_path / "new" / "file").read_bytes() == CONTENT
    assert {path.name for path in (tmp_path / "new").iterdir()} - {".lock"} == {"file"}


def test_a_cut_download_asks_for_the_rest_only(server: Server, tmp_path: Path):
    server.cut_after = [100_000, 50_000]
    download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_the_next_run_resumes_a_failed_download(server: Server, tmp_path: Path):
    server.cut_after = [100_000, 0, 0, 0]
    with pytest.raises(UnreachableError, match="cut 4 times"):
        download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert not (tmp_path / "file").exists()
    server.asked.clear()
    download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert server.asked == ["bytes=100000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_anew(server: Server, tmp_path: Path):
    server.ranges = False
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_complete_partial_file_is_used(server: Server, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT)
    download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_corrupt_download_is_removed(server: Server, tmp_path: Path):
    server.files["/file"] = CONTENT[:-1] + b"!"
    with pytest.raises(UserError, match=r"instead of .* removed: try again, or put the right file"):
        download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert {path.name for path in tmp_path.iterdir()} == {".lock"}


def test_a_missing_file_and_a_dead_server_are_unreachable(server: Server, tmp_path: Path):
    with pytest.raises(UnreachableError, match=r"Not Found|not found"):
        download(f"{server.url}/none", tmp_path / "file", SHA256)
    with pytest.raises(UnreachableError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file", SHA256)


def test_a_folder_that_cannot_be_written_is_named(server: Server, tmp_path: Path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*taken"):
        download(f"{server.url}/file", tmp_path / "taken" / "file", SHA256)


@pytest.fixture
def small_ptb(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve a treebank of three lines from a mirror."""
    real = STANDARD["ptb"]
    texts = {part: f"the {part} line of <unk>\n".encode() for part in real.files}
    hashes = {part: hashlib.sha256(text).hexdigest() for part, text in texts.items()}
    monkeypatch.setitem(STANDARD, "ptb", Standard(real.origin, real.files, real.urls, hashes))
    for part, text in texts.items():
        server.files[f"/base/ptb/ptb.{part}.txt"] = text
    monkeypatch.setenv("TIEDLM_MIRROR", f"{server.url}/base/")


@pytest.mark.usefixtures("small_ptb")
def test_a_missing_corpus_is_downloaded_once(server: Server, cache: Path):
    corpus = load_corpus("ptb")
    assert corpus.vocabulary.decode(corpus.test) == ["the", "<unk>", "line", "of", "<unk>", "<eos>"]
    assert len(server.asked) == 3
    load_corpus("ptb", min_count=1)
    assert len(server.asked) == 3
    assert (cache / "sources" / "ptb" / "ptb.train.txt").is_file()


@pytest.mark.usefixtures("small_ptb")
def test_offline_one_line_says_where_to_put_which_file(cache: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("TIEDLM_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(UserError) as error:
        load_corpus("ptb")
    message = str(error.value)
    assert "\n" not in message
    assert f"put ptb.train.txt, ptb.valid.txt, ptb.test.txt into {cache}/sources/ptb" in message
    monkeypatch.setenv("TIEDLM_DATA", str(tmp_path / "mine"))
    with pytest.raises(UserError, match=f"into {tmp_path}/mine/ptb"):
        load_corpus("ptb", download=False)


def test_a_mirror_that_is_not_an_address_is_named(monkeypatch):
    monkeypatch.setenv("TIEDLM_MIRROR", "my/mirror")
    with pytest.raises(UserError, match="TIEDLM_MIRROR is 'my/mirror'"):
        load_corpus("wikitext-2")


@pytest.mark.parametrize("mirror", ["http://host/my data", "http://host:port", "http://[host"])
def test_a_mirror_that_is_not_well_formed_is_not_called_a_broken_connection(monkeypatch, mirror):
    monkeypatch.setenv("TIEDLM_MIRROR", mirror)
    with pytest.raises(UserError, match=r"cannot download .* \(not an address: .*put ptb"):
        load_corpus("ptb", progress=False)


def test_progress_shows_on_a_terminal(server: Server, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(module, "_CHUNK", 1 << 18)
    download(f"{server.url}/file", tmp_path / "file", SHA256)
    assert "downloading file" in capsys.readouterr().err


def test_progress_off_a_terminal_is_a_plain_line_now_and_then(monkeypatch, capsys):
    with byte_progress("encoding", 2_000_000) as advance:
        advance(1_000_000)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("tiedlm.progress.BYTES_EVERY", -1.0)
    with byte_progress("encoding", 2_000_000) as advance:
        advance(1_000_000)
    assert capsys.readouterr().err == "encoding: 1.0 of 2.0 MB\n"
    with byte_progress("encoding", 2_000_000, show=False) as advance:
        advance(1_000_000)
    assert capsys.readouterr().err == ""
