"""Write a folder of the cache: completely or not at all, and by one process at a time."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedlm import files
from tiedlm.data.facts import state_of
from tiedlm.data.text import digest
from tiedlm.environment_variables import CACHE
from tiedlm.errors import UserError
from tiedlm.progress import ProgressView

if TYPE_CHECKING:
    from filelock import FileLock

INFO = "info.json"


class CacheError(UserError):
    """The cache cannot be written, for another reason than a full disk."""


@contextmanager
def alone(lock: Path, name: str, progress: bool) -> Iterator[bool]:
    """Hold a lock while a text is prepared; other processes wait for it.

    The system releases the lock when its holder dies. If the file system has no locks, nobody
    waits, and the first complete folder is used.

    Args:
        lock: the file to lock.
        name: of the text, for a line to a user who waits.
        progress: whether to show that line.

    Yields:
        Whether the lock is held.
    """
    held = _locked(lock, name, progress)
    try:
        yield held is not None
    finally:
        if held is not None:
            held.release()


def _locked(lock: Path, name: str, progress: bool) -> FileLock | None:
    """Return the lock once this process holds it; None if the file system has no locks."""
    with suppress(OSError, NotImplementedError):
        try:
            return files.held_lock(lock, patience=0)
        except TimeoutError:
            if progress:
                ProgressView().line(f"another process prepares {name}; waiting for it")
            return files.held_lock(lock)
    return None


def remove_unfinished(place: Path) -> None:
    """Remove the files of processes that were killed while they wrote ``place``.

    Call it only while holding the lock, so that no other process is writing there.
    """
    for path in place.parent.glob(".*.tmp"):
        if path.name.startswith(f".{place.name}."):
            shutil.rmtree(path, ignore_errors=True)


def write_info(folder: Path, info: dict[str, Any], names: Iterable[str]) -> None:
    """Write ``info.json``: facts about a corpus, and the hashes and states of its files."""
    hashes = {name: digest(folder / name) for name in names}
    states = {name: state_of(folder / name) for name in hashes}
    files.write_json(folder / INFO, {"info": info, "sha256": hashes, "states": states})


@contextmanager
def whole_folder(place: Path, is_whole: Callable[[], bool]) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``place`` on success and is deleted on failure.

    Args:
        place: the folder to create. If another process creates it first, that one is kept.
        is_whole: returns whether ``place`` is complete; a damaged folder is replaced.
    """
    unfinished = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Only the user can read a folder made by tempfile, but a cache can be shared.
        unfinished = files.temporary_name(place)
        unfinished.mkdir()
        yield unfinished
        if not is_whole():
            shutil.rmtree(place, ignore_errors=True)
            try:
                unfinished.rename(place)
            except OSError:
                if not is_whole():
                    raise
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"cannot write {place.parent}: {reason}; make room there or set {CACHE} to another "
                "folder"
            ) from error
        raise CacheError(
            f"cannot write {place.parent}: {reason}; set {CACHE} to another folder"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
