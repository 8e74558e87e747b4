"""Write files atomically (temporary name, sync, rename), read JSON, and hold locks."""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tiedlm.environment_variables import CACHE, XDG_CACHE_HOME, read
from tiedlm.errors import UserError
from tiedlm.json_text import parse_json

if TYPE_CHECKING:
    from filelock import FileLock

MOST_BYTES = 255  # longest file name on most file systems
_PATIENCE = 2.0  # seconds to wait for other readers of a file that is to be replaced


def cache_folder(given: Path | None = None) -> Path:
    """Return the given folder, else ``$TIEDLM_CACHE``, else tiedlm's folder in the user's cache.

    Raises:
        UserError: if the user's cache is needed and there is no home folder.
    """
    if given is not None:
        return given
    named = folder_in_environment(CACHE)
    if named is not None:
        return named
    base = read(XDG_CACHE_HOME)
    try:
        return (Path(base) if base else Path.home() / ".cache") / "tiedlm"
    except RuntimeError as error:
        raise UserError(
            f"this user has no home folder for the cache; set {CACHE} to a writable folder"
        ) from error


def folder_in_environment(name: str) -> Path | None:
    """Return the folder that an environment variable names, or None if it is not set.

    Raises:
        UserError: if it begins with ``~`` and no home folder is known.
    """
    value = read(name)
    if not value:
        return None
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{name}={value}: no home folder is known for its ~; give the full path"
        ) from error


def expand(path: str) -> Path:
    """Return a path with ``~`` expanded to a home folder.

    The path of an existing file, such as ``~$notes.txt``, is returned unchanged. So is a ``~``
    without a home folder.
    """
    plain = Path(path)
    if os.path.exists(plain):  # unlike Path.exists, False if the name is too long
        return plain
    try:
        return plain.expanduser()
    except RuntimeError:
        return plain


def explain(error: OSError, path: Path | str) -> UserError:
    """Return a ``UserError`` for an ``OSError``, with the path and what to do."""
    more_space = "free some space or choose another folder"
    advice = {  # by number: the texts differ from system to system
        errno.ENOSPC: more_space,
        errno.EDQUOT: more_space,
        errno.EFBIG: "choose a folder that may hold larger files",
        errno.EROFS: "choose a writable folder",
        errno.EACCES: "choose a folder that you may write, or change its permissions",
    }.get(error.errno or 0, "check the path")
    return UserError(f"cannot write {path}: {error.strerror or error}; {advice}")


@contextmanager
def reading(path: Path | str, missing: str = "") -> Iterator[None]:
    """Turn an ``OSError`` of reading ``path`` into a ``UserError``.

    Args:
        path: the file.
        missing: follows "PATH does not exist", such as "; expected a vocabulary file".
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist{missing}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an ``OSError`` of writing ``path`` into the ``UserError`` of :func:`explain`.

    A ``BrokenPipeError`` passes: its pipe may be the caller's standard output.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise explain(error, path) from error


def keep_input(out: Path | None, *inputs: Path | str, flag: str = "--out") -> None:
    """Refuse to overwrite an input file, under any of its names.

    Upper and lower case can name the same file, as on macOS and Windows.

    Args:
        out: the file to write, if any.
        inputs: the files that the command reads.
        flag: the flag that gave ``out``.

    Raises:
        UserError: if ``out`` is one of ``inputs``, or ``-``.
    """
    if str(out) == "-":
        raise UserError(f"{flag}: expected a file, got -, which stands for standard output")
    if out is None or not out.is_file():
        return
    for given in inputs:
        with suppress(OSError):  # a file that is missing, or standard input
            if os.path.samefile(out, given):
                raise UserError(f"{flag} {out} is an input of this command; choose another file")


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process uses, even on another machine."""
    beginning = cut_name(path.name, MOST_BYTES - 40)
    return path.with_name(f".{beginning}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path that becomes ``path`` on success and is removed on failure.

    The file is flushed to disk before it is renamed, so a crash leaves either the old file or the
    new one. Missing parent folders are created. Links are followed. A path that is not a regular
    file, such as ``/dev/null`` or a pipe, is written to directly. A ``BrokenPipeError`` passes: its
    pipe may be the caller's standard output.

    Raises:
        UserError: if the folder or the file cannot be written (read-only, full disk).
    """
    path = Path(path)
    with writing(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            yield path
            return
        if path.is_symlink():
            path = path.resolve()
        temporary = temporary_name(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            _replace(path, temporary)
        finally:
            with suppress(OSError):  # report the first error, not this one
                temporary.unlink()


def _replace(path: Path, temporary: Path) -> None:
    """Rename a temporary file to ``path``.

    On Windows this fails while another program reads ``path``, so it is tried for some time.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


@contextmanager
def text_file(path: Path) -> Iterator[IO[str]]:
    """Yield an open UTF-8 file that becomes ``path`` on success and is removed on failure.

    Raises:
        UserError: if :func:`atomic_path` fails.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yield file


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` atomically, as UTF-8.

    Raises:
        UserError: if the text has half a character, as from a file name that is not UTF-8, or if
            :func:`atomic_path` fails.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = text[error.start : error.end]
        raise UserError(
            f"cannot write {path}: {wrong!r} in it is not a character; if it comes from a file "
            "name that is not UTF-8, rename that file, otherwise correct the text"
        ) from error
    write_bytes(path, data)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` to ``path`` atomically, as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if the file is missing or is not JSON.
    """
    try:
        with reading(path):
            text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); it may be damaged") from error
    return parse_json(text, str(path))


def check_utf8(path: Path, why: str) -> None:
    """Refuse a path that is not UTF-8.

    Raises:
        UserError: if it is not; the message gives the path and ``why`` it matters.
    """
    try:
        str(path / path.resolve().name).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name {path} is not UTF-8: {why}; choose another") from error


def readable(text: str) -> str:
    """Return a text, such as a file name, with each byte that is not UTF-8 replaced by a mark."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def cut_name(name: str, most_bytes: int) -> str:
    """Return a file name cut to at most ``most_bytes`` bytes."""
    return name.encode("utf-8", "ignore")[:most_bytes].decode("utf-8", "ignore")


@contextmanager
def lock(
    folder: Path, patience: float = -1, *, advice: str = f"set {CACHE} to another folder"
) -> Iterator[None]:
    """Lock a folder, so that two processes never write into it at once.

    The system releases the lock when its holder dies. The file ``.lock`` stays, but does not mean
    that the folder is locked.

    Args:
        folder: the folder, which is created if missing.
        patience: seconds to wait for another holder; below 0 waits forever.
        advice: what the user can do if the folder is taken, for the message.

    Raises:
        UserError: if another process holds the lock, or the folder cannot be written or locked.
    """
    path = folder / ".lock"
    try:
        held = held_lock(path, patience)
    except TimeoutError as error:
        raise UserError(
            f"{folder} is in use by another process; wait for it or {advice}"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None)
        if getattr(error, "filename", None) is not None:
            raise explain(error, folder) from error  # type: ignore[arg-type]  # an OSError
        raise UserError(f"{path} cannot be locked: {reason or error}; {advice}") from error
    try:
        yield
    finally:
        held.release()


def held_lock(path: Path, patience: float = -1) -> FileLock:
    """Wait until no other process holds the lock on a file, and return the lock, held.

    Args:
        path: the file.
        patience: seconds to wait for another holder; below 0 waits forever.

    Raises:
        TimeoutError: if another process holds the lock.
        OSError: if the file cannot be written or locked.
        NotImplementedError: if the file system has no locks.
    """
    import filelock  # not for `tiedlm --help`

    path.parent.mkdir(parents=True, exist_ok=True)
    if filelock.FileLock is not filelock.SoftFileLock:  # that lock is the file itself
        path.touch()  # filelock reports some files that cannot be written as locked
    # The soft lock would take the file that was touched for another process's.
    held = filelock.FileLock(path, fallback_to_soft=False)
    held.acquire(timeout=patience)
    return held
