"""The newest two checkpoints of a run are kept."""

from pathlib import Path

import pytest

from tiedlm import LanguageModel, ModelConfig
from tiedlm.training.checkpoint import Progress, restore_checkpoint, save_checkpoint


@pytest.fixture
def model():
    return LanguageModel(ModelConfig(vocab_size=5, d_embed=4, d_hidden=4, n_layers=1))


def test_a_checkpoint_from_a_backup_and_those_after_it_outlive_damaged_later_ones(tmp_path, model):
    def save(step):
        save_checkpoint(tmp_path, model, None, Progress(step=step), "id")

    save(1)
    backup = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for step in (7, 8, 9):
        save(step)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(b"damaged")
    for path, data in backup.items():
        path.write_bytes(data)
    for step in (2, 3):
        save(step)
        notes = []
        restored = restore_checkpoint(tmp_path, model, notes.append, "id")
        assert restored.progress.step == step
        assert len(notes) == 2
    for step in (10, 11):
        save(step)
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == [
        "000000010-00001", "000000011-00001"
    ]  # fmt: skip


def test_a_checkpoint_that_another_program_reads_is_removed_at_a_later_save(
    tmp_path, monkeypatch, model
):
    """Windows removes no file that is open, for example in a program that makes backups."""

    def save(step):
        save_checkpoint(tmp_path, model, None, Progress(step=step), "id")
        return sorted(path.name for path in tmp_path.iterdir())

    def refuse(self, missing_ok=False):
        if self.suffix in (".json", ".safetensors"):
            raise PermissionError(13, "The file is in use", str(self))

    names = [
        f"{step:09d}-00001{kind}" for step in (1, 2, 3, 4) for kind in (".json", ".safetensors")
    ]
    for step in (1, 2):
        save(step)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        assert save(3) == names[:6]
    assert save(4) == names[4:]
