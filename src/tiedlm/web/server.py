"""Serve the page on 127.0.0.1: its files, its views and their answers.

``GET /VIEW`` returns a page, and ``POST /api/VIEW`` returns its answer to a JSON object. An address
keeps the state of a view behind ``#``, and a browser does not send that part. So no request line
contains a text or a word.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from tiedlm.errors import UserError
from tiedlm.json_text import parse_json, to_json
from tiedlm.training.hardware import default_threads
from tiedlm.web.asked import Asked, BadRequest
from tiedlm.web.runs import Run, open_runs
from tiedlm.web.security import ADDRESS, App, Guard, new_token, policy
from tiedlm.web.turns import Superseded, Turns
from tiedlm.web.views import VIEWS, View

PORT = 8765
MOST_BYTES = 2_000_000  # of a request
MOST_NAME = 100  # characters of the name of the page that asks
ASKER_HEADER = "x-tiedlm-page"
JAVASCRIPT, CSS, SVG = "text/javascript", "text/css", "image/svg+xml"
_KINDS = {".js": JAVASCRIPT, ".css": CSS, ".svg": SVG}
_FOR_A_DAY = {"Cache-Control": "private, max-age=86400, immutable"}


def make_app(folders: Sequence[Path], token: str, port: int) -> App:
    """Return the application, and begin to load the runs.

    Args:
        folders: run folders.
        token: a request must have it.
        port: where it will be served.

    Raises:
        UserError: if a folder is not a run's.
    """
    # One thread answers. Another one loads models and does long computations. PyTorch's number of
    # threads belongs to the thread that sets it.
    answers, background = (
        ThreadPoolExecutor(1, name, torch.set_num_threads, (default_threads(),))
        for name in ("answers", "background")
    )
    site = _Site(open_runs(folders, background), Turns(answers))
    for run in site.runs:
        run.state()  # begins to load
    # After the loading, exclude what PyTorch has made on import from garbage collection. Otherwise
    # Python would search it now and then, for 0.15 s in the middle of an answer.
    background.submit(gc.freeze)
    routes = [
        Route("/", partial(site.page, VIEWS[0])),
        Route("/static/{name}", _static),
        Route("/plotly/{version}.js", _plotly),
        Route("/api/runs", site.list_runs, methods=["POST"]),
    ]
    for view in VIEWS:
        routes.append(Route(f"/{view.name}", partial(site.page, view)))
        routes.append(Route(f"/api/{view.name}", partial(site.answer, view), methods=["POST"]))
    return Guard(Starlette(routes=routes), token, port)


class _Site:
    """The pages and answers about some runs."""

    def __init__(self, runs: list[Run], turns: Turns) -> None:
        self.runs, self.turns = runs, turns
        self.templates = Environment(
            loader=PackageLoader("tiedlm.web"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip

    async def page(self, view: View, request: Request) -> Response:
        """Return the page of a view."""
        template = self.templates.get_template(f"{view.name}.html")
        nonce = new_token() if view.has_charts else ""
        plotly = f"/plotly/{_plotly_version()}.js"
        html = template.render(view=view, views=VIEWS, plotly=plotly, nonce=nonce)
        headers = {"Content-Security-Policy": policy(nonce)}
        return Response(html, media_type="text/html", headers=headers)

    async def list_runs(self, request: Request) -> Response:
        """Return the state of every run."""
        return await self._respond(request, lambda: [run.state() for run in self.runs], "runs")

    async def answer(self, view: View, request: Request) -> Response:
        """Return the answer of a view to a request."""
        try:
            asked = Asked(await _body(request))
            chosen = asked.texts("runs", 1000)
        except BadRequest as error:
            return PlainTextResponse(f"{error}\n", 400)
        runs = [run for run in self.runs if chosen is None or run.name in chosen]
        module = importlib.import_module(f"tiedlm.web.views.{view.name}")
        if view.is_long:
            steps = self.turns.stream(
                _asker(request, view.name), lambda: module.answer(runs, asked)
            )
            return StreamingResponse(_lines(steps), media_type="application/x-ndjson")
        return await self._respond(request, lambda: module.answer(runs, asked), view.name)

    async def _respond(self, request: Request, work: Callable[[], Any], name: str) -> Response:
        try:
            found = await self.turns.take(_asker(request, name), work)
        except Superseded:
            found = {"superseded": True}
        except BadRequest as error:
            return PlainTextResponse(f"{error}\n", 400)
        return Response(_json(found), media_type="application/json")


def _json(value: Any) -> bytes:
    return to_json(value, separators=(",", ":")).encode("ascii")


async def _lines(steps: AsyncIterator[Any]) -> AsyncIterator[bytes]:
    async for found in steps:
        yield _json(found) + b"\n"


def _asker(request: Request, name: str) -> str:
    return f"{request.headers.get(ASKER_HEADER, '')[:MOST_NAME]} {name}"


async def _body(request: Request) -> Any:
    """Return the JSON of a request.

    Raises:
        BadRequest: if it is too long or no JSON.
    """
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise BadRequest("expected application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            raise BadRequest(f"expected at most {MOST_BYTES:,} bytes")
    try:
        return parse_json(body.decode(), "the request")
    except ValueError as error:
        raise BadRequest(str(error)) from error


async def _static(request: Request) -> Response:
    """Return one of the page's own files."""
    name = request.path_params["name"]
    folder = resources.files("tiedlm.web").joinpath("static")
    kind = _KINDS.get(Path(name).suffix)
    if kind is None or name not in {file.name for file in folder.iterdir()}:
        return PlainTextResponse("there is no such file\n", 404)
    return Response(folder.joinpath(name).read_bytes(), media_type=kind)


def _plotly_version() -> str:
    from plotly.offline import get_plotlyjs_version

    return str(get_plotlyjs_version())


async def _plotly(request: Request) -> Response:
    """Return plotly's script from its package; a version never changes."""
    path = resources.files("plotly") / "package_data" / "plotly.min.js"
    return FileResponse(str(path), media_type=JAVASCRIPT, headers=_FOR_A_DAY)


def open_socket(port: int | None) -> socket.socket:
    """Return a socket that listens on 127.0.0.1 only.

    Args:
        port: the port; None is 8765, or any free one if that is taken.

    Raises:
        UserError: if the port is taken or may not be used.
    """
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows, two pages could then have the same port
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            opened.bind((ADDRESS, PORT if port is None else port))
        except OSError:
            if port is not None:
                raise
            opened.bind((ADDRESS, 0))
        opened.listen()
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"--port {port}: {reason}; choose another port, or leave it out") from error
    return opened


def serve(app: App, opened: socket.socket) -> None:
    """Serve until Ctrl-C, or until another signal ends the process. Only errors are logged."""
    import uvicorn

    config = uvicorn.Config(
        app, access_log=False, log_level="error", lifespan="off", ws="none", server_header=False,
        timeout_graceful_shutdown=1, http="h11", loop="asyncio",
    )  # fmt: skip
    server = uvicorn.Server(config)
    # At the end the server would report each answer that it cuts off.
    logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
    try:
        server.run(sockets=[opened])
    except KeyboardInterrupt:  # it stopped the server, and is raised again
        return
