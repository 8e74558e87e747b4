"""What both exports share."""

import pytest

from tiedlm.errors import UserError
from tiedlm.export.folder import check_folder


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
