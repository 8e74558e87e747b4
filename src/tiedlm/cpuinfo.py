"""Read what the system tells about the processor; ``native/processor.py`` tries it out."""

from __future__ import annotations

import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")  # where Linux describes the processor


def description(path: Path = CPUINFO) -> dict[str, str]:
    """Return what the system tells about a core, by name; nothing where there is no such file.

    If the cores differ, the last one counts.
    """
    parts = (line.partition(":") for line in _lines(path))
    return {name.strip(): value.strip() for name, _, value in parts}


def processor_name(path: Path = CPUINFO) -> str:
    """Return the processor's name as the system gives it, and never an empty text.

    Linux gives no name on ARM, but a number of the design.
    """
    known = description(path)
    if "model name" in known:
        return known["model name"]
    if "CPU part" in known:
        return f"{platform.machine()}, part {known['CPU part']}"
    return platform.processor() or platform.machine()


def processor_lines(path: Path = CPUINFO) -> list[str]:
    """Return the different names and instruction sets of all cores, on which fast code depends."""
    names = ("flags", "Features", "model name", "CPU part")
    lines = {line for line in _lines(path) if line.partition(":")[0].strip() in names}
    return sorted(lines) or [platform.processor()]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
