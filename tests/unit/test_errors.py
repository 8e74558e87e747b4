"""What a person reads when a package is absent."""

import sys

import pytest

from tiedlm.errors import UserError, require


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization", raising=False)
    for module in ("onnxruntime", "onnxruntime.quantization"):
        with pytest.raises(UserError, match=r"needs onnxruntime: pip install 'tiedlm\[onnx\]'"):
            require(module, "onnx", "export to ONNX")


def test_a_package_that_lacks_one_of_its_own_is_not_called_absent(monkeypatch, tmp_path):
    (tmp_path / "half_installed.py").write_text("import a_part_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_part_that_is_missing"):
        require("half_installed", "hf", "checking the export")
