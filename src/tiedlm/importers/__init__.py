"""Import checkpoints of other programs as run folders."""

from __future__ import annotations

from tiedlm.importers.pytorch_examples import Imported, import_checkpoint, write_run

__all__ = ["Imported", "import_checkpoint", "write_run"]
