"""What both exports share."""

import sys

import pytest

from tiedlm.errors import UserError
from tiedlm.export.folder import check_folder, require


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


def test_a_new_folder_an_empty_one_and_an_earlier_export_are_taken(tmp_path):
    check_folder(tmp_path / "new", "step.onnx")
    check_folder(tmp_path, "step.onnx")
    (tmp_path / "step.onnx").touch()
    check_folder(tmp_path, "step.onnx")


def test_a_folder_with_other_files_and_a_file_are_refused(tmp_path):
    other = tmp_path / "config.json"
    other.touch()
    with pytest.raises(UserError, match="holds other files"):
        check_folder(tmp_path, "step.onnx")
    with pytest.raises(UserError, match="is a file"):
        check_folder(other, "step.onnx")
