"""Write folders atomically, and refuse to write into folders that hold other files."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tiedlm import files
from tiedlm.errors import UserError

_INSIDE = "files"  # begins the name of the temporary folder inside a folder
_LOCK = ".lock"


def check_folder(folder: Path, marker: str, kind: str) -> None:
    """Refuse to write into a folder that holds anything but an earlier run or export.

    Hidden files are ignored, because a process that was stopped may have left a lock or a temporary
    file.

    Args:
        folder: a new or empty folder, or one that has ``marker``.
        marker: a file that every folder of this kind has, and no other folder.
        kind: what will be written, for the message.

    Raises:
        UserError: if ``folder`` is a file, or holds files but not ``marker``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the {kind}")
    if folder.is_dir() and not (folder / marker).is_file():
        strangers = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if strangers:
            raise UserError(
                f"{folder} holds other files ({min(strangers)}); name a new folder for the {kind}, "
                "or the folder of an earlier one"
            )


@contextmanager
def files_together(folder: Path, marker: str, kind: str) -> Iterator[Path]:
    """Yield a temporary folder of the same name; on success its files move to ``folder``.

    Temporary folders that killed processes left in ``folder`` are removed.

    Args:
        folder: a new or empty folder, or one that has ``marker``; its other files stay.
        marker: as in :func:`check_folder`.
        kind: as in :func:`check_folder`.

    Raises:
        UserError: if ``folder`` holds something else, or cannot be written.
    """
    check_folder(folder, marker, kind)
    is_new = not folder.exists()
    _remove_unfinished(folder)
    inside = files.temporary_name(folder / _INSIDE)
    held = None
    try:
        with files.writing(folder):
            with suppress(OSError, NotImplementedError):  # a file system may have no locks
                held = files.held_lock(inside / _LOCK)
            temporary = inside / folder.resolve().name
            temporary.mkdir(parents=True)  # after the lock: see _remove_unfinished
            yield temporary
            # The marker moves first, so that an interrupted export can be repeated.
            for path in sorted(temporary.iterdir(), key=lambda path: path.name != marker):
                path.replace(folder / path.name)
    finally:
        if held is not None:
            held.release()
        shutil.rmtree(inside, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # fails unless the folder is empty, as after an error
                folder.rmdir()


def _remove_unfinished(folder: Path) -> None:
    """Remove temporary folders of :func:`files_together` whose processes have ended.

    A running process holds a lock in its temporary folder. It takes the lock before it writes
    anything else there. So a folder that is empty or has only the lock file is kept: its process
    may be about to take the lock.
    """
    for inside in folder.glob(f".{_INSIDE}.*.tmp"):
        with suppress(OSError, NotImplementedError):  # held, or a file system without locks
            if any(path.name != _LOCK for path in inside.iterdir()):
                files.held_lock(inside / _LOCK, patience=0).release()
                shutil.rmtree(inside, ignore_errors=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``path`` on success and is removed on failure.

    Args:
        path: a folder that does not exist; missing parent folders are created.

    Raises:
        UserError: if it cannot be written.
    """
    temporary = files.temporary_name(path)
    try:
        with files.writing(path):
            temporary.mkdir(parents=True)
            yield temporary
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_temporary(folder: Path, names: Iterable[str] = ("",)) -> None:
    """Remove temporary files and folders that killed processes left in a folder.

    Args:
        folder: the folder.
        names: beginnings of the names that they were to get; by default any name.
    """
    for name in names:
        for path in folder.glob(f".{name}*.tmp"):
            if path.is_file():
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path, ignore_errors=True)
