"""Folders that an export must not spoil."""

from __future__ import annotations

from pathlib import Path

from tiedlm.errors import UserError


def check_folder(folder: Path, marker: str) -> None:
    """Refuse a folder that holds something else than an earlier export.

    Args:
        folder: where an export is to go.
        marker: a file that every export of this kind has and nothing else does.

    Raises:
        UserError: if the folder is a file, or holds files but not ``marker``.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder for the export")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / marker).is_file():
        raise UserError(
            f"{folder} holds other files; name a new folder, or that of an earlier export"
        )
