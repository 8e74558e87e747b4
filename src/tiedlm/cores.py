"""Count the cores this process may use, by its affinity mask and its container's CPU quota."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def available_cores(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    A quota of 1.5 cores counts as one: the system would stop a second thread again and again, and
    the first thread would wait for it.

    Args:
        cgroups: folder where Linux mounts control groups.
        own_groups: file that lists the groups of this process.
    """
    cores, quota = allowed_cores(), cpu_quota(cgroups, own_groups)
    return cores if quota is None else max(1, min(cores, int(quota)))


def cores_and_limits(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> str:
    """Return the number of cores and its limit, such as ``1 of 2 cores: a CPU quota of 1``."""
    machine, allowed = os.cpu_count() or 1, allowed_cores()
    quota = cpu_quota(cgroups, own_groups)
    reasons = [f"an affinity mask of {allowed}"] if allowed < machine else []
    if quota is not None and int(quota) < allowed:
        reasons.append(f"a CPU quota of {quota:g}")
    of = f"{available_cores(cgroups, own_groups)} of " if reasons else ""
    return f"{of}{machine} cores" + (f": {' and '.join(reasons)}" if reasons else "")


def allowed_cores() -> int:
    """Return the number of cores in the affinity mask of this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> float | None:
    """Return the smallest CPU quota of this process's control groups, in cores, or None.

    The quota of every enclosing group limits a process, too. In a container the folder ``cgroups``
    is often the process's own group: then the path that the system names does not exist below it,
    and the folder itself has the quota.
    """
    quotas = [_quota(folder) for folder in _groups(cgroups, own_groups)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(cgroups: Path, own_groups: Path) -> Iterator[Path]:
    """Yield the folders that may hold a quota: this process's groups and their parents."""
    try:
        lines = own_groups.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:  # version 2
            roots = [cgroups, cgroups / "unified"]
        elif "cpu" in controllers.split(","):
            roots = [cgroups / controllers, cgroups / "cpu"]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            for depth in range(len(parts), -1, -1):
                yield root.joinpath(*parts[:depth])


def _quota(folder: Path) -> float | None:
    """Return the quota of one group of cgroups version 1 or 2, in cores, or None."""
    with suppress(OSError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        used = int((folder / "cpu.cfs_quota_us").read_text())
        return used / int((folder / "cpu.cfs_period_us").read_text()) if used > 0 else None
    return None
