"""Find the text that a name, a path, a pattern or a list of paths stands for."""

from __future__ import annotations

import glob
import os
from collections import Counter
from pathlib import Path

from tiedlm import files
from tiedlm.data.documents import FIELD
from tiedlm.data.sotu import FIRST_YEAR, sotu_source
from tiedlm.data.source import Source, from_folder, from_many, from_one_file, text_files
from tiedlm.data.standard import STANDARD, standard_source
from tiedlm.errors import UserError, did_you_mean


def has_name(corpus: str) -> bool:
    """Return whether a corpus is known by name."""
    return corpus in FIRST_YEAR or corpus in STANDARD


def find_source(
    name_or_path: str,
    *,
    field: str = FIELD,
    data_root: Path | None = None,
    cache: Path | None = None,
    download: bool = True,
    progress: bool = True,
) -> Source:
    """Return the source of a corpus, given by name, path, pattern or list of paths.

    Raises:
        UserError: if it is neither a known name nor a readable file or folder.
    """
    if name_or_path in FIRST_YEAR:
        return sotu_source(name_or_path)
    if name_or_path in STANDARD:
        return standard_source(
            name_or_path, data_root, files.cache_folder(cache), download, progress
        )
    path = files.expand(name_or_path)
    is_several = _is_list(name_or_path) or _is_pattern(name_or_path)
    if is_several and not os.path.exists(path):  # a list may be longer than any path
        return _from_several(name_or_path, field, cache)
    if path.exists():
        files.check_utf8(path, "info.json of the cache cannot hold such a name")
    if path.is_dir():
        return from_folder(path, field, cache)
    if path.is_file():
        return from_one_file(path, field, cache)
    if path.exists():
        raise UserError(f"{name_or_path} is a pipe or a device; save the text as a file")
    if os.sep in name_or_path or path.suffix:
        raise UserError(f"{name_or_path} does not exist; give a text file, a folder or a corpus")
    known = [*FIRST_YEAR, *STANDARD]
    raise UserError(
        f"there is no corpus {name_or_path!r}{did_you_mean(name_or_path, known)}; give one of "
        f"{', '.join(known)}, or a file or folder of your own"
    )


def _is_list(given: str) -> bool:
    return "," in given


def _is_pattern(given: str) -> bool:
    return glob.has_magic(given)


def _from_several(given: str, field: str, cache: Path | None) -> Source:
    """Return the source made of several files: paths with commas between, patterns or both."""
    paths = [path for item in _items(given) for path in _files_of(item)]
    twice = next((path for path, times in Counter(paths).items() if times > 1), None)
    if twice is not None:
        raise UserError(f"{given} has {twice} twice; give each file once")
    if len(paths) == 1:
        return from_one_file(paths[0], field, cache)
    try:
        folder = Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))
    except ValueError as error:  # on Windows
        raise UserError(f"{given} has files on several drives; copy them to one folder") from error
    named = {Path(os.path.abspath(path)).relative_to(folder).as_posix(): path for path in paths}
    for path in paths:
        files.check_utf8(path, "info.json of the cache cannot hold such a name")
    return from_many(folder.name or "texts", given, named, field, cache)


def _items(given: str) -> list[str]:
    """Return the paths and patterns of a list.

    Raises:
        UserError: if one is empty, which would stand for the current folder.
    """
    items = given.split(",")
    if "" in items:
        raise UserError(f"{given!r} has a comma too many: a path in it is empty")
    return items


def _files_of(item: str) -> list[Path]:
    """Return the texts that a path or a pattern stands for, in the order of their names."""
    path = files.expand(item)
    is_text = path.is_file() or path.is_dir()  # a pipe is none
    found = [path] if is_text else [Path(name) for name in sorted(_matches(str(path)))]
    if not found:
        what = "no file matches" if _is_pattern(item) else "there is no file"
        raise UserError(f"{what} {item!r}; give text files, folders or patterns such as a/*.txt")
    return [file for one in found for file in (text_files(one) if one.is_dir() else [one])]


def _matches(pattern: str) -> list[str]:
    return glob.glob(pattern, recursive=True) if _is_pattern(pattern) else []


def place_of(name_or_path: str) -> str:
    """Return a corpus's name unchanged, or the absolute path of an existing text.

    So a run can find its text from any working directory. Each path of a list, and each pattern, is
    made absolute, unless the working directory has a comma in its name, which separates paths.

    Raises:
        UserError: if a path of a list is empty.
    """
    path = files.expand(name_or_path)
    if has_name(name_or_path):
        return name_or_path
    if os.path.exists(path):
        return os.path.abspath(path)
    if _is_list(name_or_path) or _is_pattern(name_or_path):
        items = [files.expand(item) for item in _items(name_or_path)]
        if all(item.exists() or _matches(str(item)) for item in items):
            places = list(map(_absolute, items))
            if not any("," in place for place in places):
                return ",".join(places)
    return name_or_path


def _absolute(item: Path) -> str:
    """Return the absolute path of a text or of a pattern."""
    if item.exists():
        return os.path.abspath(item)
    return os.path.normpath(os.path.join(glob.escape(os.getcwd()), item))


def is_missing(place: str) -> bool:
    """Return whether a place that :func:`place_of` made absolute has no text any more."""
    if os.sep not in place or os.path.exists(place):
        return False
    return not all(Path(item).exists() or _matches(item) for item in place.split(","))
