"""The plain files of a run folder are read and checked."""

import json

import pytest

from tiedlm.errors import UserError
from tiedlm.files import write_json
from tiedlm.training.run_files import check_is_run, read_metrics


@pytest.mark.parametrize(
    "line", ["[" * 99_999, '{"valid_ppl": []}', "[1]", '{"valid_ppl": 1, "valid_ppl": 2}', "{"]
)
def test_damaged_metrics_are_one_line(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(
        UserError, match=r"metrics\.jsonl is damaged; the run's own command"
    ) as found:
        read_metrics(tmp_path)
    assert "\n" not in str(found.value)


def test_evaluations_inside_an_epoch_are_left_out_of_the_metrics(tmp_path):
    lines = [{"inside_epoch": 1, "valid_ppl": None}, {"epoch": 1, "valid_ppl": 2.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_metrics(tmp_path) == lines[1:]


def test_metrics_are_a_dictionary_an_epoch(tmp_path):
    assert read_metrics(tmp_path) == []
    lines = [{"epoch": 1, "valid_ppl": 2.5}, {"epoch": 2, "valid_ppl": 2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_metrics(tmp_path) == lines


def test_half_written_run_folders_are_not_suggested(tmp_path):
    for name in ("1M", ".2M.17-0a1b2c3d.tmp"):
        write_json(tmp_path / name / "config.json", {})
    with pytest.raises(UserError, match="but it has some: 1M; give one of them"):
        check_is_run(tmp_path)
