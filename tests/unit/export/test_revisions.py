"""The revisions of a run are its checkpoints by words seen."""

from tiedlm.export.revisions import revisions_of
from tiedlm.files import write_json
from tiedlm.training.run_files import CHECKPOINT, CONFIG, KEPT


def test_a_checkpoint_that_a_killed_process_left_half_written_is_no_revision(tmp_path):
    for name, mark in (("1M", 1_000_000), (".2M.17-0a1b2c3d.tmp", 2_000_000)):
        write_json(tmp_path / KEPT / name / CONFIG, {CHECKPOINT: {"keep_at": mark}})
    assert revisions_of(tmp_path) == {"main": tmp_path, "chck_1M": tmp_path / KEPT / "1M"}
