"""What is worth keeping of a run: ``results/<date>_<name>/{config,metrics,env}.json``.

``metrics.json`` has the keys of ``result.json`` and the curve; never weights, never text.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError
from tiedlm.files import read_json, write_json
from tiedlm.training.run_files import CONFIG, ENVIRONMENT, RESULT, read_metrics


def summary(run: Path) -> dict[str, Any]:
    """Return the result of a finished run, with its curve.

    Raises:
        UserError: if the run is not finished.
    """
    if not (run / RESULT).is_file():
        raise UserError(f"{run} is not finished: it has no {RESULT}; train it to its end first")
    return {**read_json(run / RESULT), "curve": read_metrics(run)}


def keep(runs: Sequence[Path], name: str, results: Path, command: str) -> Path:
    """Write what is worth keeping of one run, or of the several runs of a study.

    Args:
        runs: finished run folders.
        name: of the folder, after the date.
        results: the folder ``results``.
        command: what made the runs.

    Returns:
        The folder written.
    """
    today = datetime.date.today().isoformat()
    folder = results / f"{today}_{name}"
    summaries = [summary(run) for run in runs]
    configs = [read_json(run / CONFIG) for run in runs]
    single = len(runs) == 1
    ran_in = read_json(runs[0] / ENVIRONMENT)
    config = configs[0] if single else {"runs": configs}
    _write(folder, summaries[0] if single else {"runs": summaries}, config, ran_in, command)
    return folder


def _write(
    folder: Path, metrics: Any, config: Any, ran_in: Mapping[str, Any], command: str
) -> None:
    """Write the three files, last the one by which a result is found."""
    write_json(folder / "config.json", config)
    write_json(folder / "env.json", {**ran_in, "command": command})
    write_json(folder / "metrics.json", metrics)


def keep_study(
    name: str,
    metrics: Any,
    config: Any,
    results: Path,
    command: str,
    ran_in: Mapping[str, Any] | None = None,
) -> Path:
    """Write a study that is not made of run folders.

    Args:
        name: of the folder, after the date; an older study of this name goes.
        metrics: what was measured.
        config: with which settings.
        results: the folder ``results``.
        command: what made it.
        ran_in: the environment that it was made in; None is this process's.

    Returns:
        The folder written.
    """
    if ran_in is None:
        from tiedlm.training.run import environment  # PyTorch: not for reading results

        ran_in = environment()
    folder = results / f"{datetime.date.today().isoformat()}_{name}"
    _write(folder, metrics, config, ran_in, command)
    for old in results.glob(f"????-??-??_{name}"):
        if old != folder:
            shutil.rmtree(old)
    return folder
