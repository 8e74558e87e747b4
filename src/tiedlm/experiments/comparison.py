"""Compare runs by means over seeds, their spread, and differences with intervals."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlm.errors import UserError
from tiedlm.training import same_run
from tiedlm.training.run_files import (
    CONFIG,
    RESULT,
    check_is_run,
    perplexity_of_result,
    predicted_text,
    read_config,
    read_metrics,
    read_result,
)
from tiedlm.training.settings import Settings

# Two-sided 95% quantiles of Student's t for 1, 2, ... degrees of freedom, and of the normal.
_T95 = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip
_Z95 = 1.959964

MOST_SESSIONS = 10
_IN_NAME = 2  # settings that tell rows apart


@dataclass(frozen=True)
class RunSummary:
    """The summary of one run, finished or under way.

    Args:
        folder: the run folder.
        settings: settings of the run, without the seed.
        seed: seed of the run.
        valid_ppl: validation perplexity of the best epoch so far, per word.
        test_ppl: test perplexity, per word; None while the run is under way, since the test split
            is read once, at the end.
        parameters: number of parameters; None while the run is under way.
        epochs: number of epochs finished so far.
        finished: whether the folder has a result.json.
        text: identity of the predicted text, from :func:`predicted_text`.
    """

    folder: Path
    settings: dict[str, Any]
    seed: int
    valid_ppl: float
    test_ppl: float | None
    parameters: int | None
    epochs: int
    finished: bool
    text: dict[str, Any]


def summarize_run(folder: Path) -> RunSummary:
    """Return the summary of a run folder.

    Raises:
        UserError: if the folder is not a run folder, or no epoch has ended yet.
    """
    check_is_run(folder)
    config = read_config(folder)
    settings = Settings.from_dict(config["settings"]).resolved().to_dict()
    text = predicted_text(config, folder)
    seed = int(settings.pop("seed"))
    if (folder / RESULT).is_file():
        result = read_result(folder)
        valid, test = (perplexity_of_result(result, part) for part in ("valid", "test"))
        return RunSummary(
            folder, settings, seed, valid, test, result["parameters"], result["epochs"], True, text
        )
    metrics = read_metrics(folder)
    if not metrics:
        raise UserError(
            f"{folder}: no epoch has ended in it, so there is nothing to compare; for weights "
            "of --keep-at, use `tiedlm evaluate`"
        )
    best = min(line.get("word_perplexity", line["valid_ppl"]) for line in metrics)
    return RunSummary(folder, settings, seed, best, None, None, len(metrics), False, text)


def is_of_pieces(run: RunSummary) -> bool:
    """Return whether a run is of pieces, so that its perplexities were made per word."""
    return isinstance(run.text["words"], dict)


@dataclass(frozen=True)
class SeedMean:
    """A mean over seeds.

    Args:
        mean: mean of the values.
        spread: standard deviation of the values; None for one value.
        count: number of values.
    """

    mean: float
    spread: float | None
    count: int

    def short(self) -> str:
        """Format the mean and the spread without the number of seeds."""
        return f"{self.mean:.2f}" + ("" if self.spread is None else f" ± {self.spread:.2f}")

    def __str__(self) -> str:
        if self.spread is None:
            return f"{self.mean:.2f} (1 seed)"
        return f"{self.mean:.2f} ± {self.spread:.2f} ({self.count} seeds)"


def seed_mean(values: list[float]) -> SeedMean:
    """Return the mean and the spread of values, one per seed."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return SeedMean(statistics.fmean(values), spread, len(values))


def t95(freedom: int) -> float:
    """Return the two-sided 95% quantile of Student's t.

    For more degrees of freedom than the table has, an expansion around the normal quantile is exact
    to four digits.

    Args:
        freedom: degrees of freedom, 1 or more.
    """
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    first = (_Z95**3 + _Z95) / 4
    second = (5 * _Z95**5 + 16 * _Z95**3 + 3 * _Z95) / 96
    return _Z95 + first / freedom + second / freedom**2


def interval95(differences: list[float]) -> float | None:
    """Return the half-width of the 95% interval of a mean difference; None for one value."""
    count = len(differences)
    if count < 2:
        return None
    return t95(count - 1) * statistics.stdev(differences) / math.sqrt(count)


def mean_log_ratio(
    pairs: Sequence[tuple[float, float]],
) -> tuple[float, tuple[float, float] | None]:
    """Return the mean of ``log(other / base)`` over pairs, and the ends of its 95% interval.

    Args:
        pairs: ``(other, base)`` perplexities, at least one pair. A single pair has no interval.
    """
    logs = [math.log(other / base) for other, base in pairs]
    mean, half = statistics.fmean(logs), interval95(logs)
    return mean, None if half is None else (mean - half, mean + half)


@dataclass(frozen=True)
class Row:
    """The seeds of one recipe, and their difference from the first row over shared seeds.

    Args:
        name: the recipe; for a single run also its folder, and for several seeds the settings in
            which it differs from other rows of the recipe.
        recipe: recipe of all the runs.
        runs: the runs, either all finished or all under way.
        valid: best validation perplexity.
        test: test perplexity; None if the runs are not finished.
        difference: difference of test perplexity if both rows are finished, otherwise of
            validation perplexity.
        is_of_test: whether the difference is of test perplexity.
        interval: half-width of the difference's 95% interval.
        shared_seeds: number of seeds averaged in the difference.
    """

    name: str
    recipe: str
    runs: list[RunSummary]
    valid: SeedMean
    test: SeedMean | None
    difference: float | None
    is_of_test: bool
    interval: float | None
    shared_seeds: int


def compare_runs(folders: list[Path]) -> list[Row]:
    """Group runs that differ only in their seed, and compare each group with the first.

    Second sessions form a group if each began from the first session of its own seed, or if all
    began from the same run. Finished runs are not averaged with unfinished ones. A repeated seed
    gets a row of its own.

    Differences are paired by seed. They compare test perplexity if both groups are finished, and
    validation perplexity otherwise.
    """
    groups: list[tuple[dict[str, Any], list[RunSummary]]] = []
    unique = {folder.resolve(): folder for folder in folders}
    for summary in map(summarize_run, unique.values()):
        settings = Settings.from_dict({**summary.settings, "seed": summary.seed})
        decides = _what_decides(settings, summary.seed, summary.folder)
        for of_group, group in groups:
            is_alike = of_group == decides
            is_alike &= group[0].finished == summary.finished and same_text(group[0], summary)
            if is_alike and summary.seed not in [run.seed for run in group]:
                group.append(summary)
                break
        else:
            groups.append((decides, [summary]))
    first = groups[0][1]
    return _told_apart([_row(group, first) for _, group in groups])


def _told_apart(rows: list[Row]) -> list[Row]:
    """Add the settings that differ to the names of rows that share a recipe."""
    named = []
    for row in rows:
        alike = [one for one in rows if one.name == row.name]
        if len(alike) > 1:
            values = changed_settings(alike)
            own = [f"{name} {found[alike.index(row)]}" for name, found in values.items()]
            row = dataclasses.replace(row, name=", ".join([row.name, *own[:_IN_NAME]]))
        named.append(row)
    return named


def _what_decides(
    settings: Settings, seed: int, beside: Path, sessions: int = MOST_SESSIONS
) -> dict[str, Any]:
    """Return the settings that decide a run's result, also of the runs that it began from.

    They exclude the seed and the location of the text, since :func:`same_text` compares the texts.

    Args:
        settings: settings of the run.
        seed: seed of the last run in the chain.
        beside: the run folder; an earlier run is also looked for next to it.
        sessions: number of earlier sessions to follow. Renamed runs can form a cycle, so the
            number is limited.
    """
    found = same_run.of_result(settings)
    for name in same_run.PLACES & found.keys():
        place = found[name]
        if place is None or sessions == 0:
            continue
        for folder in (Path(place), beside.parent / Path(place).name):
            if (folder / CONFIG).is_file():
                earlier = Settings.of_run(folder)
                found[name] = {
                    **_what_decides(earlier, seed, folder, sessions - 1),
                    "seed": "its own" if earlier.seed == seed else earlier.seed,
                }
                break
    return found


def same_text(run: RunSummary, other: RunSummary) -> bool:
    """Return whether two runs predict the same words, so that their perplexities are comparable.

    The vocabularies must agree, too, because a text is easier to predict with fewer words. Runs
    with different pieces on the same text can be compared, because pieces can spell every word. A
    run of words cannot be compared with them, because its ``<unk>`` stands for many words.
    """
    return run.text == other.text


def _row(group: list[RunSummary], first: list[RunSummary]) -> Row:
    tests = [run.test_ppl for run in group if run.test_ppl is not None]
    use_test = all(run.test_ppl is not None for run in [*group, *first])
    differences = []
    if group is not first and same_text(group[0], first[0]):
        by_seed = {run.seed: run for run in first}
        for run in group:
            if run.seed in by_seed:
                old = by_seed[run.seed]
                pair = (run.test_ppl, old.test_ppl) if use_test else (run.valid_ppl, old.valid_ppl)
                assert pair[0] is not None
                assert pair[1] is not None
                differences.append(pair[0] - pair[1])
    recipe = str(group[0].settings["recipe"])
    return Row(
        name=f"{recipe} ({group[0].folder.resolve().name})" if len(group) == 1 else recipe,
        recipe=recipe,
        runs=group,
        valid=seed_mean([run.valid_ppl for run in group]),
        test=seed_mean(tests) if tests else None,
        difference=statistics.fmean(differences) if differences else None,
        is_of_test=use_test,
        interval=interval95(differences),
        shared_seeds=len(differences),
    )


def changed_settings(rows: list[Row]) -> dict[str, list[Any]]:
    """Return the settings that differ between rows, with one value per row."""
    names = rows[0].runs[0].settings.keys() - {"recipe"}
    values = {name: [row.runs[0].settings.get(name) for row in rows] for name in sorted(names)}
    return {name: found for name, found in values.items() if any(v != found[0] for v in found)}
