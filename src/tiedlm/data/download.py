"""Downloads that resume where they were cut and are checked before they count."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tiedlm import files
from tiedlm.data.progress import byte_progress
from tiedlm.errors import UserError

_CHUNK = 1 << 16
_ATTEMPTS = 4  # a connection that is cut this often is given up; the next run resumes
_TIMEOUT = 30.0


class UnreachableError(Exception):
    """The server cannot be reached or does not have the file."""


def download(url: str, path: Path, sha256: str, progress: bool = True) -> None:
    """Fetch ``url`` to ``path``.

    The bytes go to ``<path>.part``, which stays if the connection is cut: the next attempt, in
    this process or another, asks for the rest only. ``path`` appears when its hash is right.

    Raises:
        UnreachableError: if no byte can be had.
        UserError: if what came has another hash, or the disk cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(_ATTEMPTS):
            try:
                _fetch_rest(url, part, progress)
                break
            except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
                if attempt == _ATTEMPTS - 1:
                    raise UnreachableError(f"the connection was cut {_ATTEMPTS} times") from error
        found = hashlib.sha256(part.read_bytes()).hexdigest()
        if found != sha256:
            part.unlink()
            raise UserError(
                f"{url} gave a file with SHA-256 {found[:16]}… instead of {sha256[:16]}…; it was "
                f"removed: try again, or put the right file at {path}"
            )
        part.replace(path)
    except urllib.error.URLError as error:
        raise UnreachableError(str(error.reason)) from error
    except OSError as error:
        raise files.explain(error, part) from error


def _fetch_rest(url: str, part: Path, progress: bool) -> None:
    """Append to ``part`` what it lacks of ``url``."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "tiedlm"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416:  # the part is whole, or longer than the file: its hash will tell
            raise
        return
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        expected = int(length) if length else None
        start = done if resumed else 0
        total = start + expected if expected is not None else None
        with (
            part.open("ab" if resumed else "wb") as file,
            byte_progress(part.stem, total, start, progress) as advance,
        ):
            received = 0
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                received += len(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if expected is not None and received < expected:
            raise http.client.IncompleteRead(b"", expected - received)
