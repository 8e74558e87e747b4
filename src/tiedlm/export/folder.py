"""What both exports share: packages that may be absent, and folders that must not be spoiled."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError


def require(module: str, extra: str, purpose: str) -> Any:
    """Import a module of an optional dependency.

    Raises:
        UserError: naming the extra, if the module is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != package:
            raise
        raise UserError(f"{purpose} needs {package}: pip install 'tiedlm[{extra}]'") from error


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
