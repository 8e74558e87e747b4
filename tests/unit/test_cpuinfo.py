"""The processor has a name on any system, and its instruction sets are known."""

import platform

import pytest

from tiedlm.cpuinfo import description, processor_lines, processor_name


@pytest.mark.parametrize(
    ("described", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC: 9\n\nmodel name\t: AMD EPYC: 9\n", "AMD EPYC: 9"),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n", "aarch64, part 0xd40"),
        ("", "aarch64"),
        (None, "aarch64"),
    ],
    ids=["x86", "ARM", "neither", "no file"],
)
def test_the_processor_has_a_name_on_any_system(tmp_path, monkeypatch, described, name):
    """Two runs are computed alike only on the same processor, so its name may not be empty."""
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    if described is not None:
        (tmp_path / "cpuinfo").write_text(described)
    assert processor_name(tmp_path / "cpuinfo") == name


def test_the_lines_tell_processors_apart_but_not_their_cores(tmp_path):
    core = "processor\t: {}\nmodel name\t: one\nflags\t\t: avx2 bmi2\ncpu MHz\t: 3{}.5\n\n"
    path = tmp_path / "cpuinfo"
    path.write_text(core.format(0, 0) + core.format(1, 7))
    assert processor_lines(path) == ["flags\t\t: avx2 bmi2", "model name\t: one"]
    assert description(path)["flags"] == "avx2 bmi2"
    path.write_text(core.format(0, 0).replace("bmi2", "avx512f"))
    assert processor_lines(path)[0] == "flags\t\t: avx2 avx512f"


def test_nothing_but_a_name_is_known_without_a_description(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    assert description(tmp_path / "none") == {}
    assert processor_lines(tmp_path / "none") == ["arm"]


def test_a_name_that_is_not_utf8_is_still_a_name(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_bytes(b"model name\t: Core\xae\nflags\t\t: avx2\n")
    assert processor_name(path) == "Core\N{REPLACEMENT CHARACTER}"
    assert processor_lines(path)[0] == "flags\t\t: avx2"
