"""List the kept runs: what each folder of results/ holds, its numbers, and what supersedes it.

Everything comes from the folders. A run is described by its settings, a study by the first line of
its program. A folder may say more in ``about.json``:

- ``what``: what it holds, where nothing else says it;
- ``superseded_by``: the name, without its date, of the folder that replaces it, and ``because``.

A run is also superseded by a later one of the same model, seed and session.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tiedlm.errors import UserError
from tiedlm.experiments.cells import what_it_is, which_run
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table
from tiedlm.files import read_json
from tiedlm.training.run_files import perplexity_of_result
from tiedlm.training.settings import Settings

ABOUT = "about.json"
STUDIES = Path(__file__).parents[1]
DATE = len("2026-11-24")

HEAD = """# Kept runs

One line for each folder, newest first. `python -m studies.reproduction` generates this page from
the folders, together with the tables of README.md and docs/.

- Numbers are validation / test perplexity. Of a study with several runs they are the lowest and the
  highest.
- A superseded folder is kept as a record. The paper's tables take the newer run.
- `config.json` has the settings, `metrics.json` the results with the curve of every epoch, and
  `env.json` the machine and the command. A study may also have a `table.md`.
- `about.json`, where there is one, says what a folder holds or what supersedes it.

"""
PARTS = ("valid", "test")
HEADER = ("date", "folder", "what", "numbers", "superseded by")

# Settings that a run's name or number says already.
_SAID = {"alpha", "decoder_bias", "init_from", "recipe", "seed", "soft_target_from", "tied"}


class Kept(NamedTuple):
    """A folder of kept results."""

    path: Path
    config: Mapping[str, Any]
    metrics: Any
    about: Mapping[str, str]

    @property
    def name(self) -> str:
        """Return the name without the date."""
        return self.path.name[DATE + 1 :]

    @property
    def settings(self) -> Settings | None:
        """Return the settings of a single run; None for a study."""
        if "settings" not in self.config:
            return None
        return Settings.from_dict(self.config["settings"]).resolved()


def kept_folders(results: Path) -> list[Kept]:
    """Read the folders of ``results/``, oldest first."""
    return [
        Kept(
            path.parent,
            read_json(path.with_name("config.json")),
            read_json(path),
            read_json(path.with_name(ABOUT)) if path.with_name(ABOUT).is_file() else {},
        )
        for path in sorted(results.glob("????-??-??_*/metrics.json"))
    ]


def model_of(settings: Settings) -> str:
    """Return the name of a run's model, such as "VD-LSTM + REAL, gamma 0.65"."""
    addition = {(0, 0): "", (0, 1): " + AL", (1, 0): " + RE", (1, 1): " + REAL"}
    network = settings.network if settings.network == "transformer" else settings.network.upper()
    name = f"VD-{network}{addition[settings.tied, settings.alpha > 0]}"
    if settings.tied and not settings.decoder_bias:
        name += ", b = 0"
    return f"{name}, gamma {settings.alpha / settings.temperature:g}" if settings.alpha else name


def changes(settings: Settings) -> list[str]:
    """Return the settings in which a run differs from its recipe."""
    try:
        recipe = get_recipe(settings.recipe)
    except UserError:
        return []
    own, base = (what_it_is(one.to_dict()).to_dict() for one in (settings, recipe))
    return [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in own.items()
        if name not in _SAID and value != base[name]
    ]


def what(kept: Kept) -> str:
    """Describe what a folder holds, in a line."""
    if "what" in kept.about:
        return kept.about["what"]
    settings = kept.settings
    if settings is not None:
        session = "" if settings.init_from is None else ", second session"
        text = f"{model_of(settings)}, {settings.d_hidden} units, {settings.data}"
        text += f", seed {settings.seed}{session}"
        return "; ".join([text, *changes(settings)])
    stem, _, part = kept.name.rpartition("-")  # a study may have a folder for each text
    for name, which in ((kept.name, ""), (stem, f" ({part})")):
        program = STUDIES / f"{name.replace('-', '_')}.py"
        if program.is_file():
            doc = ast.get_docstring(ast.parse(program.read_text(encoding="utf-8")))
            return str(doc).splitlines()[0] + which
    return f"`{read_json(kept.path / 'env.json')['command']}`"


def numbers(kept: Kept) -> str:
    """Format a folder's results, in a few words."""
    metrics = kept.metrics
    if kept.settings is not None:
        return _pair(*(perplexity_of_result(metrics, part) for part in PARTS))
    if "runs" in metrics and "valid_ppl" in metrics["runs"][0]:
        runs = metrics["runs"]
        ends = (
            _pair(*(end(perplexity_of_result(run, part) for run in runs) for part in PARTS))
            for end in (min, max)
        )
        return f"{len(runs)} runs, {' to '.join(ends)}"
    if kept.name in metrics:  # Figure 1
        distances = [run["distance"] for run in metrics[kept.name]]
        return f"{len(distances)} runs, distance {_range(distances, '.3f')}"
    if isinstance(metrics, list):
        return f"{len(metrics)} models, test {_range([row['test_ppl'] for row in metrics], '.1f')}"
    return f"{len(metrics.get('runs', metrics))} models, see `metrics.json`"


def superseded_by(kept: Kept, folders: Iterable[Kept]) -> str:
    """Return the name of the folder that supersedes this one and the reason, or an empty text.

    Raises:
        UserError: if ``about.json`` names a folder that does not exist.
    """
    others = [one for one in folders if one.path != kept.path]
    if "superseded_by" in kept.about:
        named = [one for one in others if one.name == kept.about["superseded_by"]]
        if not named:
            raise UserError(
                f"{kept.path / ABOUT}: superseded_by is {kept.about['superseded_by']!r}, and "
                f"{kept.path.parent} has no such folder"
            )
        reason = f": {kept.about['because']}" if "because" in kept.about else ""
        return f"`{named[-1].path.name}`{reason}"
    settings = kept.settings
    if settings is None:
        return ""
    later = [
        one
        for one in others
        if one.path.name > kept.path.name
        and one.settings is not None
        and _same(settings, one.settings)
    ]
    return f"`{later[-1].path.name}`: the same model, seed and session" if later else ""


def index(results: Path) -> str:
    """Return the page ``results/README.md``."""
    folders = kept_folders(results)
    groups: dict[str, list[tuple[str, ...]]] = {"Runs": [], "Studies": []}
    for kept in reversed(folders):
        by = superseded_by(kept, folders)
        link = f"[{kept.name}]({kept.path.name})"
        groups["Studies" if kept.settings is None else "Runs"].append(
            (kept.path.name[:DATE], f"~~{link}~~" if by else link, what(kept), numbers(kept), by)
        )
    tables = (
        f"## {title}\n\n{markdown_table(HEADER, rows)}" for title, rows in groups.items() if rows
    )
    return HEAD + "\n".join(tables)


def _same(one: Settings, other: Settings) -> bool:
    """Return whether two runs have the same cell, seed and session."""
    sessions = [settings.init_from is None for settings in (one, other)]
    first, second = (which_run(settings.replace(init_from=None)) for settings in (one, other))
    return first == second and sessions[0] == sessions[1]


def _pair(valid: float, test: float) -> str:
    return f"{valid:.1f} / {test:.1f}"


def _range(values: list[float], form: str) -> str:
    return " to ".join(dict.fromkeys(format(end, form) for end in (min(values), max(values))))
