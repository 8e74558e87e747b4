"""Answer only the page that this command opened.

Any web site can make a browser send requests to 127.0.0.1. Four checks keep such requests out:

- ``Host`` must be this server's address, so that no other name can point here (DNS rebinding);
- ``Origin`` and ``Sec-Fetch-Site``, which browsers add, must name this server's own page;
- a random token must come with each request: in the address, in a cookie or in a header;
- the answers forbid the page to load, run or contact anything but this server.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ADDRESS = "127.0.0.1"
TOKEN_HEADER = "x-tiedlm-token"
# plotly empties style attributes; this is the hash of "".
_EMPTY = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"


def policy(nonce: str = "") -> str:
    """Return the content security policy of an answer.

    Args:
        nonce: allows the style elements that have it: plotly's. Scripts only come from files.
    """
    styles = f"'self' 'nonce-{nonce}'" if nonce else "'self'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src {styles}",
            f"style-src-attr 'unsafe-hashes' {_EMPTY}",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_CLOSED = "open the address that `tiedlm explore` printed when it started"


def new_token() -> str:
    """Return a random text of 256 bits."""
    return secrets.token_urlsafe(32)


class Guard:
    """Pass on the requests of the page that has the token; refuse all others with status 403.

    Args:
        app: what answers.
        token: the token.
        port: the port of this server.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"{ADDRESS}:{port}", f"localhost:{port}"}
        # Cookies are shared by all ports, so that two servers need two names.
        self.cookie = f"tiedlm-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no web socket is opened
        request = Request(scope)
        why_not = self._why_not(request)
        has_address = self._is_token(request.query_params.get("token"))

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Content-Security-Policy", policy())
                headers.setdefault("Cache-Control", "no-store")
                if has_address and not why_not:
                    headers.append(
                        "Set-Cookie",
                        f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict",
                    )
            await send(message)

        if why_not:
            await PlainTextResponse(f"refused: {why_not}\n", 403)(scope, receive, guarded)
        else:
            await self.app(scope, receive, guarded)

    def _why_not(self, request: Request) -> str:
        """Return why a request is refused, or ``""``."""
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            return "this is not the server's address"
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{hosts[0].lower()}":
            return "another page asks"
        is_link = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            # A link may come from anywhere, but it must contain the token.
            if not is_link:
                return "another page asks"
            return "" if self._is_token(request.query_params.get("token")) else _CLOSED
        given = (
            request.query_params.get("token"),
            request.cookies.get(self.cookie),
            request.headers.get(TOKEN_HEADER),
        )
        return "" if any(map(self._is_token, given)) else _CLOSED

    def _is_token(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), self.token.encode())
