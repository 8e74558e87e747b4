"""Files that are either whole or not there: written to a temporary name, synced, renamed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tiedlm.environment_variables import CACHE, XDG_CACHE_HOME, read
from tiedlm.errors import UserError

MOST_BYTES = 255  # of the name of a file, on most file systems


def cache_folder(given: Path | None = None) -> Path:
    """Return the folder given, else ``$TIEDLM_CACHE``, else tiedlm's in the user's cache.

    Raises:
        UserError: if there is neither, nor a home folder.
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
            f"this user has no home folder for the cache; set {CACHE} to a folder that can be "
            "written"
        ) from error


def folder_in_environment(name: str) -> Path | None:
    """Return the folder that an environment variable names; None where it is not set.

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
            f"{name}={value}: no home folder is known for its ~; give the whole path"
        ) from error


def expand(path: str) -> Path:
    """Return a path with its ``~`` replaced by a home folder.

    A file that is there under the name as it is written, such as ``~$notes.txt``, stays, and so
    does a ``~`` that names no home.
    """
    plain = Path(path)
    if plain.exists():
        return plain
    try:
        return plain.expanduser()
    except RuntimeError:
        return plain


def explain(error: OSError, path: Path | str) -> UserError:
    """Turn an ``OSError`` into one line that names the path and says what to do."""
    reason = error.strerror or str(error)
    advice = {
        "No space left on device": "free some space or choose another folder",
        "Read-only file system": "choose a folder that can be written",
        "Permission denied": "choose a folder that you may write, or change its permissions",
    }.get(reason, "check the path")
    return UserError(f"cannot write {path}: {reason}; {advice}")


def keep_input(out: Path | None, *inputs: Path | str) -> None:
    """Refuse to write over a file that is read.

    Raises:
        UserError: if ``out`` is one of ``inputs``.
    """
    if out is None or not out.is_file():
        return
    if out.resolve() in [Path(given).resolve() for given in inputs]:
        raise UserError(f"--out {out} is what is read; choose another file")


def temporary_name(path: Path) -> Path:
    """Return a name beside ``path`` that no other process has, also on another machine."""
    beginning = cut_name(path.name, MOST_BYTES - 40)
    return path.with_name(f".{beginning}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def remove_temporary(folder: Path) -> None:
    """Remove what processes that were killed while writing into a folder have left there."""
    for path in folder.glob(".*.tmp"):
        if path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary path that becomes ``path`` on success and vanishes on failure.

    The file is flushed to disk before it is renamed, so that a crash at any moment leaves either
    the old file or the new one. Missing parent folders are created. A link is followed; what is
    no file, such as ``/dev/null`` or a pipe, is written to and stays.

    Raises:
        UserError: if the folder or the file cannot be written (read-only, full disk).
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        try:
            yield path
        except OSError as error:
            raise explain(error, path) from error
        return
    if path.is_symlink():
        path = path.resolve()
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        with suppress(OSError):  # the error to report is the one that came first
            temporary.unlink()


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8 in one step.

    Raises:
        UserError: for half a character, as in the name of a file that is not UTF-8, and as
            :func:`atomic_path`.
    """
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = text[error.start : error.end]
        raise UserError(
            f"cannot write {path}: {wrong!r} in it is no character; is the name of a file not "
            "UTF-8? then rename it, else mend the text"
        ) from error
    write_bytes(path, data)


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` to ``path`` as indented JSON in one step."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if the file is missing or is not JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}); it may be damaged") from error
    return parse_json(text, str(path))


def parse_json(text: str, name: str) -> Any:
    """Parse JSON that someone else may have written.

    A whole number beyond every float is infinite, as ``1e999`` is.

    Args:
        text: JSON.
        name: what it is called in a message: a file, or a line of one.

    Raises:
        UserError: if it is not JSON or too deeply nested, an object has a key twice, or a text
            in it has half a character.
    """
    try:
        value = json.loads(text, parse_int=_whole_number, object_pairs_hook=_object)
        if "\\u" in text:  # half a character can be written only so
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise UserError(
            f"{name}: a text has {half!r}, which is half a character; its other half was cut off "
            "where this was written: mend or remove that text"
        ) from error
    except RecursionError as error:
        raise UserError(f"{name}: its lists or objects are nested too deeply to be read") from error
    except ValueError as error:
        raise UserError(f"{name} is not valid JSON ({error}); it may be damaged") from error
    return value


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) < 300 else float(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"an object has the key {twice!r} twice")
    return found


@contextmanager
def files_together(folder: Path, marker: str, kind: str) -> Iterator[Path]:
    """Give a temporary folder, of the same name, whose files appear in ``folder`` when all is well.

    Args:
        folder: a new or empty one, or one that has ``marker``; what else is in it stays.
        marker: as in :func:`check_folder`.
        kind: likewise.

    Raises:
        UserError: if it holds something else, or cannot be written.
    """
    check_folder(folder, marker, kind)
    is_new = not folder.exists()
    inside = temporary_name(folder / "files")
    try:
        temporary = inside / folder.resolve().name
        temporary.mkdir(parents=True)
        yield temporary
        # The marker first: if this is interrupted, it can be done again.
        for path in sorted(temporary.iterdir(), key=lambda path: path.name != marker):
            path.replace(folder / path.name)
    except OSError as error:
        raise explain(error, folder) from error
    finally:
        shutil.rmtree(inside, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # it is empty only after a failure
                folder.rmdir()


def check_utf8(path: Path, why: str) -> None:
    """Refuse a path that is not UTF-8 where something else is to read it that knows no other.

    Raises:
        UserError: naming the path and why it matters.
    """
    try:
        str(path / path.resolve().name).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the name {path} is not UTF-8: {why}; choose another") from error


def readable(text: str) -> str:
    """Return a text that may name files, with a mark for every byte that is not UTF-8."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def cut_name(name: str, most_bytes: int) -> str:
    """Return as much of the beginning of a file's name as fits: a limit that counts bytes."""
    return name.encode("utf-8", "ignore")[:most_bytes].decode("utf-8", "ignore")


def check_folder(folder: Path, marker: str, kind: str) -> None:
    """Refuse to write into a folder that holds something else than an earlier run or export.

    Hidden files do not count: what was stopped before its first file leaves a lock, or a temporary
    one.

    Args:
        folder: a new or empty one, or one that has ``marker``.
        marker: a file that everything of this kind has and nothing else does.
        kind: what is to be written, for the message.

    Raises:
        UserError: if it is a file, or holds files but not ``marker``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the {kind}")
    if folder.is_dir() and not (folder / marker).is_file():
        strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise UserError(
                f"{folder} holds other files ({min(strangers)}); name a new folder for the {kind}, "
                "or that of an earlier one"
            )


@contextmanager
def lock(folder: Path, patience: float = -1) -> Iterator[None]:
    """Hold a folder, so that two processes never write into it at once.

    The system drops the lock when its holder dies, so a stale one is never in the way. The file
    ``.lock``, which stays, means nothing.

    Args:
        folder: made if it is not there.
        patience: seconds to wait for another holder; below 0 without end.

    Raises:
        UserError: if another process holds it, or the folder cannot be written or locked.
    """
    import filelock  # not for `tiedlm --help`

    path = folder / ".lock"
    held = filelock.FileLock(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # the library takes some folders that cannot be written for busy
            probe = temporary_name(path)
            probe.touch()
            probe.unlink()
        held.acquire(timeout=patience)
    except filelock.Timeout as error:
        raise UserError(
            f"{folder} is in use by another process; wait for it or choose another --out"
        ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None)
        if getattr(error, "filename", None) is not None:
            raise explain(error, folder) from error  # type: ignore[arg-type]  # an OSError
        raise UserError(
            f"{path} cannot be locked: {reason or error}; choose an --out on another file system"
        ) from error
    try:
        yield
    finally:
        held.release()
