"""Remember the hashes of long files, which take seconds to compute.

A file counts as unchanged if its size, its times and its place on the disk are unchanged.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tiedlm import files
from tiedlm.data.text import TextFacts
from tiedlm.errors import UserError

LONG = 16_000_000  # bytes; shorter files are hashed anew each time


def known_facts(
    paths: Sequence[Path], examine: Callable[[Path], TextFacts], cache: Path | None
) -> list[TextFacts]:
    """Return the result of ``examine`` for some files; for long files it is remembered.

    Args:
        paths: the files of one text.
        examine: reads a file.
        cache: the cache folder, in which ``facts/`` remembers; None remembers nothing.
    """
    states = [state_of(path) for path in paths]
    if cache is None or sum(state[0] if state else 0 for state in states) < LONG:
        return [examine(path) for path in paths]
    names = [os.path.abspath(path) for path in paths]
    key = hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()[:20]
    place = cache / "facts" / f"{key}.json"
    known = _read(place)
    found, is_new = [], False
    for path, name, state in zip(paths, names, states, strict=True):
        facts = known.get(name) if state is not None else None
        if facts is None or facts[0] != state:
            facts = (state, examine(path))
            is_new = True
            if state_of(path) != state:  # the file has changed meanwhile
                facts = ([], facts[1])
        known[name] = facts
        found.append(facts[1])
    if is_new:
        written = {name: [state, *facts] for name, (state, facts) in known.items()}
        with suppress(UserError):  # a cache that cannot be written remembers nothing
            files.write_json(place, written)
    return found


def when_written(paths: Sequence[Path]) -> tuple[list[int], ...]:
    """Return the size and the time of the last change of each file."""
    return tuple((state_of(path) or [])[:2] for path in paths)


def state_of(path: Path) -> list[int] | None:
    """Return the size, times and place of a file, which change when it does; None for no file."""
    with suppress(OSError):
        about = path.stat()
        return [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
    return None


def _read(place: Path) -> dict[str, tuple[list[int] | None, TextFacts]]:
    """Return what was remembered in a file; nothing if it is missing or damaged."""
    with suppress(UserError, ValueError, TypeError, AttributeError, KeyError):
        known: dict[str, tuple[list[int] | None, TextFacts]] = {}
        for name, (state, sha256, *numbers) in files.read_json(place).items():
            size, lines, blank = map(int, numbers)
            known[name] = (list(state), TextFacts(str(sha256), size, lines, blank))
        return known
    return {}
