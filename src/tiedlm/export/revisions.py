"""Export a run and its checkpoints by words seen, each as the folder of a revision.

BabyLM's evaluation pipeline asks a repository for the revisions ``chck_1M``, ``chck_2M``, ... On
the Hub, revisions are branches. Here each revision is a folder that can be loaded directly.

Source: https://github.com/babylm/evaluation-pipeline-2025
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from tiedlm import files, folders
from tiedlm.errors import UserError
from tiedlm.export.hf import MARKER, HuggingFaceReport, prepare, refuse_difference, write
from tiedlm.training.run_files import CHECKPOINT, CONFIG, KEPT, runs_inside
from tiedlm.training.word_counts import short_words

BEST = "main"
_KEPT = "chck_"  # begins the name of the revision of a checkpoint


def revisions_of(run: Path) -> dict[str, Path]:
    """Return the folders to export, by the name of their revision, in the order of training.

    Raises:
        UserError: if the run has no checkpoints by words seen.
    """
    marks = {}
    for kept_run in runs_inside(run / KEPT):
        if place := files.read_json(kept_run / CONFIG).get(CHECKPOINT):
            marks[int(place["keep_at"])] = kept_run
    if not marks and (run / CONFIG).is_file():  # otherwise it is not a run, which `load` reports
        raise UserError(
            f"--revisions: {run} has no checkpoints by words seen; train with --keep-at 1M,2M to "
            "keep them, or leave --revisions out"
        )
    kept = {f"{_KEPT}{short_words(mark)}": marks[mark] for mark in sorted(marks)}
    return {BEST: run} | kept


def export_revisions(
    run: Path,
    folder: Path,
    *,
    check: bool = True,
    licence: str | None = None,
    language: str | None = None,
    start: str = "none",
) -> list[HuggingFaceReport]:
    """Export a run's best model and its checkpoints, all of them or none.

    Args:
        run: a run folder with checkpoints by words seen.
        folder: a new or empty folder, or an earlier export of revisions.
        check: as in :func:`tiedlm.export.hf.export_hf`.
        licence: licence of the weights for the model card.
        language: language of the text for the model card.
        start: "eos" or "none", as in :func:`tiedlm.export.hf.export_hf`.

    Returns:
        A report for each folder written, ``main`` first, then by the number of words.

    Raises:
        UserError: as :func:`tiedlm.export.hf.export_hf`, if there is nothing to export, or if
            ``folder`` has a checkpoint that the run does not have.
    """
    sources = revisions_of(run)
    folders.check_folder(folder, f"{BEST}/{MARKER}", "revisions")
    _refuse_others(folder, sources)
    is_new = not folder.exists()
    reports = []
    try:
        with ExitStack() as stack:  # the folders appear when the last one is written
            for name, source in sources.items():
                out = folder / name
                model = prepare(source, out, check)
                new = stack.enter_context(folders.files_together(out, MARKER, "export"))
                difference = write(
                    model, source, new, check=check, licence=licence, language=language, start=start
                )
                refuse_difference(difference, out)
                reports.append(HuggingFaceReport(out, model.num_params(), difference))
    finally:
        if is_new:
            with suppress(OSError):  # fails unless the folder is empty, as after an error
                folder.rmdir()
    return reports


def _refuse_others(folder: Path, sources: Mapping[str, Path]) -> None:
    """Refuse a folder with another run's checkpoints, which would be uploaded with this run's."""
    exported = {path.parent.name for path in folder.glob(f"{_KEPT}*/{MARKER}")}
    if others := sorted(exported - sources.keys()):
        raise UserError(
            f"{folder} has checkpoints of another run ({', '.join(others)}); remove them, or name "
            "a new folder"
        )
