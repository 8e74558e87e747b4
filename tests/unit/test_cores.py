"""The number of cores follows the affinity mask and the quotas of control groups v1 and v2."""

import os

import pytest

from tiedlm import cores


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that makes a tree of control groups on a machine with eight cores."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def make(own, **files):
        named = tmp_path / "own"
        named.write_text(own)
        for path, text in files.items():
            file = tmp_path / "cgroup" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / "cgroup", named

    return make


def v1(folder, quota, period=100_000):
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "400000 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "400000 100000\n"}, 1),
        ("0::/docker/f00\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/../neighbour\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "3200000 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "nonsense\n"}, 8),
        ("4:cpu,cpuacct:/a\n1:name=systemd:/b\n", v1("cpu,cpuacct/a", 200_000), 2),
        ("4:cpu,cpuacct:/a\n0::/\n", v1("cpu/a", 250_000, 50_000), 5),
        ("4:cpu:/a/b\n", v1("cpu/a/b", -1) | v1("cpu/a", 100_000), 1),
        ("4:cpu:/docker/f00\n", v1("cpu", 100_000), 1),
        ("4:cpuset:/a\n", v1("cpu/a", 100_000), 8),
        ("", {}, 8),
    ],
)
def test_cores_follow_the_smallest_quota_on_the_way_to_the_root(machine, own, files, expected):
    assert cores.available_cores(*machine(own, **files)) == expected


def test_without_control_groups_the_affinity_mask_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 5, 6}, raising=False)
    nothing = tmp_path / "no groups", tmp_path / "no file"
    assert cores.available_cores(*nothing) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.available_cores(*nothing) == 1


def test_the_limit_of_the_cores_is_named(machine, monkeypatch):
    free = machine("0::/\n")
    assert cores.cores_and_limits(*free) == "8 cores"
    quota = machine("0::/\n", **{"cpu.max": "150000 100000\n"})
    assert cores.cores_and_limits(*quota) == "1 of 8 cores: a CPU quota of 1.5"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    assert (
        cores.cores_and_limits(*quota)
        == "1 of 8 cores: an affinity mask of 2 and a CPU quota of 1.5"
    )
