"""The newest two checkpoints of a run are kept."""

from pathlib import Path

from tiedlm import LanguageModel, ModelConfig
from tiedlm.training.checkpoint import Progress, save_checkpoint


def test_a_checkpoint_that_another_program_reads_is_removed_at_a_later_save(tmp_path, monkeypatch):
    """Windows removes no file that is open, for example in a program that makes backups."""
    model = LanguageModel(ModelConfig(vocab_size=5, d_embed=4, d_hidden=4, n_layers=1))

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
