"""Open text files as bytes, whether they are compressed or not."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from tiedlm.errors import UserError, require

GZIP = b"\x1f\x8b"
# A Zstandard file begins with text or, as pzstd writes it, with a frame that readers skip.
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")
_MAGIC = 4  # bytes that show how a file is compressed
_SUFFIXES = (".gz", ".zst")
_LONGEST_WINDOW = 1 << 31  # bytes, as `zstd --ultra --long=31` writes
_READ = 1 << 14  # compressed bytes read at a time; unpacked, they may be thousands of times longer
_BUFFER = 1 << 17


def plain_name(name: str) -> str:
    """Return a file name without the suffix of its compression."""
    suffix = Path(name).suffix
    return name[: -len(suffix)] if suffix.lower() in _SUFFIXES else name


@contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read its bytes; gzip and Zstandard are unpacked on the way.

    The first bytes tell how a file is compressed, not its name.

    Raises:
        UserError: if it is missing, cannot be read, or its compressed data is damaged or cut off;
            also while the caller reads.
    """
    try:
        with path.open("rb") as file:
            yield _unpacked(file, path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        reason = "it ends early" if isinstance(error, EOFError) else str(error)
        raise UserError(
            f"{path} is damaged: {reason}; copy or download it again, or compress it again"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _unpacked(file: io.BufferedReader, path: Path) -> IO[bytes]:
    start = file.peek(_MAGIC)
    if start.startswith(GZIP):
        unpacked: Any = gzip.GzipFile(fileobj=file)  # it can be read like a raw file
        return io.BufferedReader(unpacked, _BUFFER)
    if _ZSTD.match(start):
        return io.BufferedReader(_Zstandard(file, path), _BUFFER)
    return file


class _Zstandard(io.RawIOBase):
    """A stream of the bytes in a Zstandard file of one or more frames."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        self._zstandard = require("zstandard", "zstd", str(path))
        self._file = file
        self._frame: Any = None  # the frame under way
        self._packed = b""
        self._text = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._text:
            self._packed = self._packed or self._file.read(_READ)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = (
                self._frame
                or self._zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW).decompressobj()
            )
            try:
                self._text = memoryview(self._frame.decompress(self._packed))
            except self._zstandard.ZstdError as error:
                raise zlib.error(str(error)) from error
            self._packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        view = memoryview(buffer)
        size = min(len(view), len(self._text))
        view[:size] = self._text[:size]
        self._text = self._text[size:]
        return size
