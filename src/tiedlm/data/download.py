"""Download a file; resume after a broken connection, and check the hash at the end."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tiedlm import files
from tiedlm.data.text import digest
from tiedlm.errors import UserError
from tiedlm.progress import byte_progress

_CHUNK = 1 << 16
_ATTEMPTS = 4  # broken connections before giving up; the next run resumes
_TIMEOUT = 30.0


class UnreachableError(Exception):
    """The server cannot be reached, lacks the file, or keeps dropping the connection."""


class _CutError(Exception):
    """The connection broke; the bytes received so far are in the ``.part`` file."""


def download(url: str, path: Path, sha256: str, progress: bool = True) -> None:
    """Download ``url`` to ``path`` and check its SHA-256.

    The bytes go to ``<path>.part``. That file stays if the connection breaks, and the next attempt
    asks only for the rest, even from another process. ``path`` appears once the hash is right.

    Raises:
        UnreachableError: if the file cannot be downloaded.
        UserError: if the file has another hash or cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with files.lock(path.parent):
            if not path.exists():  # another process may have fetched it meanwhile
                _fetch(url, path, part, sha256, progress)
    except urllib.error.URLError as error:
        raise UnreachableError(str(error.reason)) from error
    except OSError as error:
        raise files.explain(error, part) from error


def _fetch(url: str, path: Path, part: Path, sha256: str, progress: bool) -> None:
    """Complete ``part``, check its hash and rename it to ``path``."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _fetch_rest(url, part, progress)
            break
        except _CutError as error:
            if attempt == _ATTEMPTS:
                raise UnreachableError(f"the connection was cut {attempt} times") from error
    found = digest(part)
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{url} gave a file with SHA-256 {found[:16]}… instead of {sha256[:16]}…; it was "
            f"removed: try again, or put the right file at {path}"
        )
    part.replace(path)


def _fetch_rest(url: str, part: Path, progress: bool) -> None:
    """Append the missing bytes of ``url`` to ``part``."""
    done = part.stat().st_size if part.exists() else 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "tiedlm"})
        if done:
            request.add_header("Range", f"bytes={done}-")
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:
            raise
        return  # ``part`` is complete or belongs to another file; the check of the hash will tell
    except (ValueError, http.client.InvalidURL) as error:
        raise UnreachableError(f"not an address: {error}") from error
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        raise _CutError from error
    with response:
        resumed = response.status == 206
        start = done if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            byte_progress(f"downloading {part.stem}", total, start, progress) as advance,
        ):
            for chunk in _chunks(response):
                file.write(chunk)
                advance(len(chunk))
    if total is not None and part.stat().st_size < total:
        raise _CutError


def _chunks(response: IO[bytes]) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _CutError from error
        if not chunk:
            return
        yield chunk
