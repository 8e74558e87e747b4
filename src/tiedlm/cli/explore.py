"""``tiedlm explore``: a local page about what models predict and have learnt."""

from __future__ import annotations

import os
from pathlib import Path

from tiedlm.cli import until_the_end
from tiedlm.cli.numbers import MaybeWhole
from tiedlm.errors import UserError, require

EXTRA = "web"


def explore(run: Path, /, *more: Path, port: MaybeWhole = None, open_: bool = False) -> None:
    """Show models in a page of your browser, side by side.

    Parameters
    ----------
    run
        Run folder; it may be one that is being trained.
    more
        More run folders.
    port
        Port on 127.0.0.1. Default: 8765, or another one if that is taken.
    open_
        Open the page in the default browser.
    """
    for module in ("starlette", "uvicorn", "plotly"):
        require(module, EXTRA, "tiedlm explore")
    from tiedlm.training.hardware import fast_arithmetic
    from tiedlm.web.security import ADDRESS, new_token
    from tiedlm.web.server import make_app, open_socket, serve

    if port is not None and not 1 <= port <= 65535:
        raise UserError(f"--port: expected 1 to 65535, got {port}")
    until_the_end(fast_arithmetic())
    token = new_token()
    with open_socket(port) as opened:
        number = opened.getsockname()[1]
        app = make_app([run, *more], token, number)
        address = f"http://{ADDRESS}:{number}/?token={token}"
        print(f"{address}\nOpen this address on this machine; Ctrl-C ends the page.", flush=True)
        if open_:
            import webbrowser

            webbrowser.open(address)
        serve(app, opened)
    os._exit(0)  # Python would wait for the threads, which may be computing something long
