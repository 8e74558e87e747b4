"""Write a run's metrics as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiedlm.errors import require
from tiedlm.files import check_utf8
from tiedlm.training.run_files import INSIDE

FOLDER = "tensorboard"
_INSIDE = ("lr", "train_ppl", "valid_ppl", "word_perplexity", "bits_per_byte")


class TensorBoard:
    """Write each epoch's metrics once, and each evaluation inside an epoch.

    An epoch's values are plotted over epochs. Those inside an epoch are tagged ``inside_epoch/``
    and plotted over the words read.

    Event files can only grow. So the files of an earlier process are replaced, and a run that was
    killed and resumed has each epoch once.

    Args:
        out: the run folder; the files go to ``tensorboard/`` in it.

    Raises:
        UserError: if the package is not installed, or the folder's name is not UTF-8.
    """

    def __init__(self, out: Path) -> None:
        require("tensorboard", "tensorboard", "--tensorboard")
        check_utf8(out, "TensorBoard cannot write into such a folder")
        from torch.utils.tensorboard import SummaryWriter

        self.folder = out / FOLDER
        self._make_writer = SummaryWriter
        self._writer: Any = None
        self._written = 0

    def __call__(self, history: list[dict[str, Any]]) -> None:
        """Write the lines of ``history`` that are new."""
        if self._writer is None:
            for old in self.folder.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = self._make_writer(str(self.folder))
        for metrics in history[self._written :]:
            for name, value in metrics.items():
                if INSIDE not in metrics:
                    if name not in ("epoch", "step"):
                        self._writer.add_scalar(name, value, metrics["epoch"])
                elif name in _INSIDE and value is not None:
                    self._writer.add_scalar(f"{INSIDE}/{name}", value, metrics["tokens"])
        self._written = len(history)
        self._writer.flush()
