"""Keep finished runs in ``results/<date>_<name>/{config,metrics,env}.json``.

``metrics.json`` holds the keys of ``result.json`` and the curve. Weights and text are never kept.
"""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tiedlm.errors import UserError
from tiedlm.files import read_json, write_json, write_text
from tiedlm.training.run_files import CONFIG, ENVIRONMENT, METRICS, RESULT, read_metrics


def summary(run: Path) -> dict[str, Any]:
    """Return the result of a finished run and its curve.

    Raises:
        UserError: if the run is not finished.
    """
    if not (run / RESULT).is_file():
        raise UserError(f"{run} is not finished: it has no {RESULT}; train it to its end first")
    return {**read_json(run / RESULT), "curve": read_metrics(run)}


def keep(runs: Sequence[Path], name: str, results: Path, command: str) -> Path:
    """Write a results folder for one run, or for the runs of a study.

    Args:
        runs: finished run folders.
        name: name of the results folder, without the date.
        results: the folder ``results``.
        command: the command that made the runs.

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


class KeptRun(NamedTuple):
    """A run kept in ``results/``.

    Args:
        folder: the results folder of the run, or of its study.
        config: the configuration of the run.
        metrics: its result and curve.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, Any]


def kept_runs(results: Path) -> Iterator[KeptRun]:
    """Yield all kept runs, oldest first, including the runs of studies.

    Folders without a date in their name are left out, because other programs write to ``results/``,
    too.
    """
    for path in sorted(results.glob("????-??-??_*/metrics.json")):
        config, metrics = read_json(path.with_name("config.json")), read_json(path)
        pairs = [(config, metrics)]
        if "runs" in config:
            pairs = list(zip(config["runs"], metrics["runs"], strict=True))
        for own_config, own_metrics in pairs:
            if "settings" in own_config:
                yield KeptRun(path.parent, own_config, own_metrics)


def unpack(run: KeptRun, folder: Path) -> None:
    """Restore a kept run into an empty folder, without its vocabulary and weights.

    The environment file is a copy of ``env.json`` in the results folder, with its command.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = dict(run.metrics)
    curve = "".join(json.dumps(line) + "\n" for line in result.pop("curve"))
    write_json(folder / CONFIG, run.config)
    write_json(folder / ENVIRONMENT, read_json(run.folder / "env.json"))
    write_text(folder / METRICS, curve)
    write_json(folder / RESULT, result)


def newest_study(name: str, results: Path) -> Any:
    """Return the newest measurements of a study that has no run folders, or None."""
    path = max(results.glob(f"????-??-??_{name}/metrics.json"), default=None)
    return None if path is None else read_json(path)


def _write(
    folder: Path, metrics: Any, config: Any, ran_in: Mapping[str, Any], command: str
) -> None:
    """Write the three files; ``metrics.json`` comes last, because readers look for it."""
    _write_part(folder / "config.json", config)
    write_json(folder / "env.json", {**ran_in, "command": command})
    _write_part(folder / "metrics.json", metrics)


def _write_part(path: Path, part: Any) -> None:
    """Write a file of a results folder. Several runs take a line each, so that it stays small."""
    if not isinstance(part, dict) or set(part) != {"runs"}:
        write_json(path, part)
        return
    lines = (json.dumps(run, ensure_ascii=False, allow_nan=False) for run in part["runs"])
    write_text(path, '{"runs": [\n' + ",\n".join(lines) + "\n]}\n")


def keep_study(
    name: str,
    metrics: Any,
    config: Any,
    results: Path,
    command: str,
    ran_in: Mapping[str, Any] | None = None,
) -> Path:
    """Write the results folder of a study that has no run folders.

    Args:
        name: name of the folder, without the date; older studies of this name are deleted.
        metrics: the measurements.
        config: the settings of the measurements.
        results: the folder ``results``.
        command: the command that made the study.
        ran_in: the environment of the study; None means the environment of this process.

    Returns:
        The folder written.
    """
    if ran_in is None:
        from tiedlm.training.run import environment  # loads PyTorch: only when needed

        ran_in = environment()
    folder = results / f"{datetime.date.today().isoformat()}_{name}"
    _write(folder, metrics, config, ran_in, command)
    for old in results.glob(f"????-??-??_{name}"):
        if old != folder:
            shutil.rmtree(old)
    return folder
