"""Run shell blocks of the documentation's pages in seconds, with a ``tiedlm`` of tiny models.

    with tiny_tiedlm(folder) as run:
        status, out, err = run("tiedlm train small-real --data my.txt", cwd)

Each command is as the page has it, in bash. ``tiedlm`` there is a small client: a server that has
imported tiedlm forks for each call. The server differs from the real program in this only:

- every recipe has width 16, windows of 8 x 10 words and one epoch (``TINY``), unless a flag of the
  command says otherwise;
- a million words is ``MILLION`` words, for ``--keep-at 1M``;
- ``tiedlm explore`` asks its page once and then ends, as by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

TINY = {
    "d_embed": 16, "d_hidden": 16, "batch_size": 8, "bptt": 10, "epochs": 1, "threads": 1,
    "fraction": 0.1,
}  # fmt: skip
SHORT = {"sotu-short", "ptb", "wikitext-2"}  # corpora of which recipes read a tenth
MILLION = 100

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"."], [0, 1, 2])
    server.sendall(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode())
    server.shutdown(socket.SHUT_WR)
    status = server.recv(1)
sys.exit(status[0] if status else "the process died")
"""


@contextlib.contextmanager
def tiny_tiedlm(folder: Path):
    """Start the server, and yield a function that runs a script: (text, cwd) -> (status, out, err).

    Args:
        folder: for the client and the socket.
    """
    address = os.path.relpath(folder / "socket") if len(str(folder)) > 90 else folder / "socket"
    client = folder / "bin" / "tiedlm"
    client.parent.mkdir(parents=True)
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    client.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{client.parent}:{os.environ['PATH']}", "HOME": str(folder), "COLUMNS": "100",
        "HF_HUB_OFFLINE": "1", "TIEDLM_NATIVE": "0",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, __file__, address], env=environment, stdout=subprocess.PIPE, text=True
    )

    def run(script: str, cwd: Path, timeout: float = 600) -> tuple[int, str, str]:
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script], cwd=cwd, env=environment,
            capture_output=True, text=True, check=False, timeout=timeout, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    try:
        assert server.stdout.readline() == "ready\n"
        yield run
    finally:
        server.kill()
        server.communicate()


def make_tiny() -> None:
    """Import tiedlm, and let its recipes train for a moment."""
    from tiedlm.training import word_counts

    word_counts._UNITS.update(k=MILLION // 100, m=MILLION)
    word_counts.short_words = lambda count: (
        f"{count // MILLION}M" if count % MILLION == 0 else str(count)
    )
    import filelock  # noqa: F401

    import tiedlm.cli.data
    import tiedlm.cli.evaluate
    import tiedlm.cli.export
    import tiedlm.cli.rescore
    import tiedlm.cli.score
    import tiedlm.cli.train
    import tiedlm.data.check
    import tiedlm.training.loop  # noqa: F401
    from tiedlm.experiments.recipes import RECIPES

    for name, recipe in RECIPES.items():
        changes = TINY | ({} if recipe.data in SHORT else {"fraction": 0.3})
        RECIPES[name] = recipe.replace(**changes)


def serve(address: str) -> None:
    """Fork a process for each call of the client."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if not os.fork():
                listening.close()
                os._exit(answer(connection))
            connection.close()


def answer(connection: socket.socket) -> int:
    """Run a command with the caller's streams, folder and environment; send and return its status.

    The process ends after it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    arguments, folder, environment = json.loads(received)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if "explore" in arguments:
        end_after_one_question()
    status = run_main(arguments)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    connection.sendall(bytes([status]))
    return status


def run_main(arguments: list[str]) -> int:
    """Run the command line and return its status."""
    from tiedlm.cli import main

    try:
        main(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end_after_one_question() -> None:
    """Let ``tiedlm explore`` end, as by Ctrl-C, once its page has been asked for."""
    import builtins
    import threading
    import types
    import urllib.request

    from tiedlm.cli import explore

    def ask(address: str) -> None:
        with urllib.request.urlopen(address, timeout=60) as page:
            assert b"<html" in page.read()
        os.kill(os.getpid(), signal.SIGINT)

    def seen(*words: object, **options: object) -> None:
        shown(*words, **options)
        if str(words[0]).startswith("http"):
            threading.Thread(target=ask, args=[str(words[0]).split()[0]], daemon=True).start()

    shown, builtins.print = builtins.print, seen
    explore.os = types.SimpleNamespace(_exit=sys.exit)  # the client still waits for the status


if __name__ == "__main__":
    make_tiny()
    serve(sys.argv[1])
