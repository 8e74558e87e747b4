"""Errors are clear when a package is absent."""

import sys

import pytest

from tiedlm.cli import leave, note
from tiedlm.errors import UserError, require


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization", raising=False)
    for module in ("onnxruntime", "onnxruntime.quantization"):
        with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'tiedlm\[onnx\]'"):
            require(module, "onnx", "export to ONNX")


def test_a_package_with_a_missing_dependency_is_not_reported_as_absent(monkeypatch, tmp_path):
    (tmp_path / "half_installed.py").write_text("import a_part_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_missing"):
        require("half_installed", "hf", "checking the export")


def test_a_message_escapes_invisible_characters_and_stays_one_line(capsys):
    quoted = "a\tb  \x1b[1m\n\u202e\u2028\xa0\udcff c \\t é 猫"
    shown = r"a\tb  \x1b[1m\n\u202e\u2028\xa0\udcff c \t é 猫"
    assert str(UserError(quoted)) == shown
    assert str(UserError(str(UserError(quoted)))) == shown
    note(quoted)
    with pytest.raises(SystemExit):
        leave(quoted, 2)
    assert capsys.readouterr().err == f"note: {shown}\ntiedlm: {shown}\n"
