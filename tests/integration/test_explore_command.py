"""`tiedlm explore` listens on this machine only, answers, and ends when it is told to."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("plotly")

from tests_support import run_command
from tiedlm.errors import UserError
from tiedlm.web.server import PORT, open_socket
from tiedlm.web.views import VIEWS
from web_support import make_run


@pytest.fixture
def command(tmp_path):
    """Return a function that starts the command, and end what it started."""
    make_run(tmp_path / "run")
    started = []

    def start(*arguments, program=("-m", "tiedlm")):
        process = subprocess.Popen(
            [sys.executable, *program, "explore", str(tmp_path / "run"), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "TIEDLM_NATIVE": "0"},  # compiles nothing
        )  # fmt: skip
        started.append(process)
        address = process.stdout.readline().strip()
        assert "Ctrl-C ends the page" in process.stdout.readline()
        return process, re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=([\w-]{43})", address)

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(port, token, path="/api/words", **question):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"x-tiedlm-token": token, "content-type": "application/json"}
    connection.request("POST", path, json.dumps(question), headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


LATER = [pytest.param(name, marks=pytest.mark.slow) for name in ("TERM", "HUP")]


@pytest.mark.parametrize("how", ["INT", *LATER])
def test_it_answers_at_the_address_it_prints_until_it_is_ended(command, how):
    process, found = command("--port", str(free_port()))
    port, token = int(found[1]), found[2]
    deadline = time.monotonic() + 60
    while b'"entropy"' not in (answer := ask(port, token, text="the ")[1]):
        assert b"is being loaded" in answer
        assert time.monotonic() < deadline
    assert ask(port, "another")[0].status == 403
    response, _ = ask(port, token)
    assert response.headers["server"] is None
    # A long answer is on its way when the end comes.
    long = socket.create_connection(("127.0.0.1", port))
    body = json.dumps({"text": "cat " * 40_000})
    long.sendall(
        f"POST /api/surprisal HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Tiedlm-Token: {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert long.recv(10).startswith(b"HTTP/1.1 2")
    number = getattr(signal, f"SIG{how}")
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=20)
    long.close()
    assert process.returncode == (0 if how == "INT" else -number)
    assert err == ""
    with pytest.raises(ConnectionRefusedError):
        ask(port, token)


SLOW = """
import sys, time
import tiedlm.cli, tiedlm.web.runs
tiedlm.web.runs.load = lambda folder: time.sleep(60)
tiedlm.cli.main(sys.argv[1:])
"""


def test_ctrl_c_does_not_wait_for_what_is_being_computed(command):
    process, found = command("--port", str(free_port()), program=("-c", SLOW))
    assert b"is being loaded" in ask(int(found[1]), found[2])[1]
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")


@pytest.mark.slow
def test_the_benchmark_measures_every_view():
    benchmark = Path(__file__).parents[2] / "benchmarks" / "explore.py"
    found = subprocess.run(
        [sys.executable, benchmark, "--width", "8", "--vocab", "60", "--answers", "1", "--json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    for view in VIEWS:
        assert any(row["view"].startswith(view.menu) for row in rows), view.menu
    assert all(0 < row["median"] <= row["largest"] for row in rows)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as opened:
        return opened.getsockname()[1]


def test_it_listens_on_this_machine_only_and_takes_a_free_port():
    with open_socket(None) as first, open_socket(None) as second:
        (host, port), (other_host, other) = first.getsockname(), second.getsockname()
        assert host == other_host == "127.0.0.1"
        assert port != other
        assert PORT in (port, other) or port != PORT
        with pytest.raises(UserError, match=rf"--port {port}: .*choose another port"):
            open_socket(port)


@pytest.mark.parametrize(("system", "reused"), [("posix", True), ("nt", False)])
def test_on_windows_the_port_is_not_shared(monkeypatch, system, reused):
    """There ``SO_REUSEADDR`` lets a second program have a port that is in use."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", system)
        opened = open_socket(None)
    with opened:
        assert bool(opened.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)) == reused


def test_what_is_no_run_and_no_port_is_an_error(tmp_path, capsys):
    make_run(tmp_path / "run")
    status, _, err = run_command(capsys, "explore", tmp_path)
    assert status == 2
    assert f"{tmp_path} is not a run folder, but it has some: run; give one of them" in err
    status, _, err = run_command(capsys, "explore", tmp_path / "run", "--port", "99999")
    assert status == 2
    assert "--port: expected 1 to 65535, got 99999" in err


@pytest.mark.parametrize("module", ["starlette", "uvicorn", "plotly"])
def test_a_missing_library_names_the_extra(tmp_path, capsys, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    status, _, err = run_command(capsys, "explore", tmp_path)
    assert status == 2
    assert f"tiedlm explore needs {module}: pip install 'tiedlm[web]'" in err
