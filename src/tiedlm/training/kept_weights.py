"""Keep the weights of a run after given numbers of words, each as a run folder of its own.

``checkpoints/1M/`` in a run folder has ``config.json``, ``vocabulary.txt``, ``model.safetensors``
and ``env.json``. So every command that reads a run can read it. The folder is written under a
temporary name and then renamed, so it is complete or absent.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tiedlm import files, folders
from tiedlm.training import run, run_files
from tiedlm.training.word_counts import parse_word_list, short_words

if TYPE_CHECKING:
    from tiedlm.model import LanguageModel
    from tiedlm.training.checkpoint import Progress
    from tiedlm.training.settings import Settings


class KeptWeights:
    """Keeps the weights of a run after given numbers of words.

    Args:
        out: the run folder.
        settings: ``keep_at`` names the numbers of words.
    """

    def __init__(self, out: Path, settings: Settings) -> None:
        self.out = out
        self.every = settings.evaluate_every
        self.marks = parse_word_list(settings.keep_at)

    def folder(self, mark: int) -> Path:
        """Return the folder of the weights kept after ``mark`` words."""
        return self.out / run_files.KEPT / short_words(mark)

    def notes(self, seen: int, total: int) -> list[str]:
        """Return a line for each request that the run cannot meet.

        Args:
            seen: words read so far.
            total: words read at the end of the last epoch.
        """
        found = []
        for mark in self.marks:
            if mark > total:
                found.append(
                    f"--keep-at {short_words(mark)} is beyond the {total:,} words of this run: "
                    "nothing is kept there"
                )
            elif mark <= seen and not self._is_kept(mark):
                found.append(
                    f"--keep-at {short_words(mark)}: the run has already read {seen:,} words, so "
                    "nothing is kept there"
                )
        if self.every is not None and self.every >= total:
            found.append(
                f"--evaluate-every {short_words(self.every)} is not inside the {total:,} words of "
                "this run: only the ends of its epochs are evaluated"
            )
        return found

    def keep(self, model: LanguageModel, before: int, seen: int, progress: Progress) -> list[str]:
        """Keep a model at the marks that the last update reached, unless it is kept there already.

        Args:
            model: as it would be evaluated now.
            before: words read before the update.
            seen: words read after it.
            progress: its epoch and step are recorded.

        Returns:
            A line for each folder written.

        Raises:
            UserError: if a folder cannot be written; nothing of it is left.
        """
        reached = [mark for mark in self.marks if before < mark <= seen and not self._is_kept(mark)]
        for mark in reached:
            with folders.atomic_folder(self.folder(mark)) as new:
                config = files.read_json(self.out / run_files.CONFIG)
                place = {"keep_at": mark, "tokens": seen}
                place |= {"epoch": progress.epoch, "step": progress.step}
                files.write_json(new / run_files.CONFIG, config | {run_files.CHECKPOINT: place})
                for name in run_files.BESIDE_WEIGHTS:
                    if (self.out / name).is_file():
                        files.write_bytes(new / name, (self.out / name).read_bytes())
                run.save_weights(model, new / run_files.WEIGHTS, config.get("id", ""))
        return [f"kept {self.folder(mark)} after {seen:,} words" for mark in reached]

    def _is_kept(self, mark: int) -> bool:
        return (self.folder(mark) / run_files.CONFIG).is_file()
