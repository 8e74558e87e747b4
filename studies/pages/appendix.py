"""Generate docs/questions_appendix.md, the numbers behind docs/questions.md, from results/."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from studies import noise
from studies.harness import differences, paired
from studies.pages.results_index import Kept, kept_folders, model_of, superseded_by
from tiedlm.experiments.cells import NO_BIAS, Cell, table1, table2
from tiedlm.experiments.comparison import mean_log_ratio
from tiedlm.experiments.recipes import VARIANTS
from tiedlm.experiments.reproduce import Found, markdown_table, runs_of
from tiedlm.experiments.results import kept_runs
from tiedlm.training.settings import Settings

Runs = Sequence[tuple[Settings, Found]]  # the result of find_results
PARTS = ("valid_ppl", "test_ppl")
WITHOUT = ", b = 0"  # ends the names of noise.kinds without a bias
EPOCHS = (1, 5, 10, 15, 20, 30, 45, 55)  # shown of a curve

HEAD = """# Appendix to the questions

The numbers behind [questions.md](questions.md). `python -m studies.reproduction` generates this
page from `results/`; nothing in it is written by hand. [reproduction.md](reproduction.md) has the
paper's tables, the studies' tables and their intervals.

- a / b is validation / test perplexity.
- A session is one pass through the schedule. The second begins from the best weights of the first.
- Tied classifiers have a bias unless a row says "b = 0". Gamma is 0.65 on Penn Treebank and 1.25 on
  WikiText-2 unless a row says otherwise.
- `±` is the half-width of a 95% interval, paired by seed. Without one there is a single pair.

"""


def cells() -> dict[str, Cell]:
    """Return the cells of Tables 1 and 2 by name."""
    return {cell.name: cell for cell in (*table1(), *table2())}


def by_seed(cell: Cell, found: Runs, session: int) -> dict[int, Found]:
    """Return the newest kept runs of a cell and session by seed."""
    return {run.seed: run for run in runs_of(cell, found, session)}


def title(cell: Cell) -> str:
    """Return the words for a cell, such as "VD-LSTM + REAL, b = 0, small"."""
    name, _, gamma = cell.name.partition("-gamma")
    stem = name.removesuffix(NO_BIAS)
    suffix = next(s for s in sorted(VARIANTS, key=len, reverse=True) if stem.endswith(s))
    size = stem.removesuffix(suffix).removeprefix("ptb-").replace("-small", ", small")
    words = VARIANTS[suffix]
    words += f", gamma {gamma}" if gamma else ""
    words += ", b = 0" if name != stem else ""
    return f"{words}, {size}"


def baseline(cell: Cell) -> str:
    """Return the name of the cell's VD-LSTM."""
    stem = cell.name.partition("-gamma")[0].removesuffix(NO_BIAS)
    return stem.removesuffix("-real").removesuffix("-al").removesuffix("-re")


def pair(run: Found) -> str:
    """Format the perplexities of a run."""
    return " / ".join(f"{run.metrics[part]:.1f}" for part in PARTS)


def percent(ratio: float) -> str:
    """Format a ratio of perplexities as a change."""
    return f"{ratio - 1:+.1%}"


def runs_table(found: Runs) -> str:
    """Return a row for each cell and seed: both sessions, and the change against the baseline."""
    rows = []
    known = cells()
    for cell in known.values():
        sessions = [by_seed(cell, found, session) for session in (1, 2)]
        base = [by_seed(known[baseline(cell)], found, session) for session in (1, 2)]
        for seed in sorted(set().union(*sessions)):
            changes = [
                percent(own[seed].metrics["test_ppl"] / other[seed].metrics["test_ppl"])
                if seed in own and seed in other and cell.name != baseline(cell)
                else "-"
                for own, other in zip(sessions, base, strict=True)
            ]
            numbers = [pair(own[seed]) if seed in own else "-" for own in sessions]
            theirs = f"{cell.paper.valid:.1f} / {cell.paper.test:.1f}"
            rows.append((title(cell), theirs, str(seed), *numbers, *changes))
    return markdown_table(
        ("model", "the paper", "seed", "first session", "second session",
         "test against VD-LSTM, first", "second"),
        rows,
    )  # fmt: skip


def sessions_table(found: Runs) -> str:
    """Return by how much a second session lowers the perplexity, by cell and seed."""
    rows = []
    for cell in cells().values():
        first, second = (by_seed(cell, found, session) for session in (1, 2))
        for seed in sorted(first.keys() & second.keys()):
            gains = (first[seed].metrics[p] - second[seed].metrics[p] for p in PARTS)
            shares = (percent(second[seed].metrics[p] / first[seed].metrics[p]) for p in PARTS)
            rows.append(
                (title(cell), str(seed), " / ".join(f"{gain:.1f}" for gain in gains),
                 " / ".join(shares))
            )  # fmt: skip
    return markdown_table(("model", "seed", "lower by", "change"), rows)


# Additions: what is added, and the cells without and with it.
ADDITIONS = (
    ("AL", "", "-al"),
    ("AL, gamma 0.8", "", "-al-gamma0.8"),
    ("AL, gamma 2.6", "", "-al-gamma2.6"),
    ("AL, with RE", "-re", "-real"),
    ("AL, gamma 5.2, with RE", "-re", "-real-gamma5.2"),
    ("AL, with RE, b = 0", "-re-b0", "-real-b0"),
    ("RE", "", "-re"),
    ("RE, b = 0", "", "-re-b0"),
    ("REAL", "", "-real"),
    ("REAL, b = 0", "", "-real-b0"),
    ("the bias, with RE", "-re-b0", "-re"),
    ("the bias, with REAL", "-real-b0", "-real"),
)


def additions_table(found: Runs) -> str:
    """Return the change by each addition, in percent and in points, like with like."""
    rows = []
    known = cells()
    for group in ("ptb-small", "ptb-medium", "wikitext-2-first-half-small"):
        for name, without, with_it in ADDITIONS:
            if not {group + without, group + with_it} <= known.keys():
                continue
            base, other = known[group + without], known[group + with_it]
            for session in (1, 2):
                own, old = (by_seed(cell, found, session) for cell in (other, base))
                seeds = sorted(own.keys() & old.keys())
                if seeds:
                    size = group.removeprefix("ptb-").replace("-small", ", small")
                    rows.append((name, size, str(session), _seeds(seeds),
                                 *_changes(own, old, seeds), _paper(base, other)))  # fmt: skip
    return markdown_table(
        ("addition", "models", "sessions", "seeds", "test", "test, points", "validation",
         "validation, points", "the paper, test / validation"),
        rows,
    )  # fmt: skip


def _changes(own: dict[int, Found], old: dict[int, Found], seeds: list[int]) -> list[str]:
    """Return the change of test and of validation, each in percent and in points."""
    texts = []
    for part in reversed(PARTS):
        values = [(own[seed].metrics[part], old[seed].metrics[part]) for seed in seeds]
        mean, _ = mean_log_ratio(values)
        texts.append(f"{math.expm1(mean):+.1%}")
        texts.append(f"{statistics.fmean(a - b for a, b in values):+.1f}")
    return texts


def _paper(base: Cell, other: Cell) -> str:
    if base.paper == other.paper:
        return "-"
    assert base.paper.valid
    assert other.paper.valid
    return " / ".join(
        percent(a / b)
        for a, b in (
            (other.paper.test, base.paper.test),
            (other.paper.valid, base.paper.valid),
        )
    )


def _seeds(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))


def last_table(found: Runs) -> str:
    """Return the means after the last session, and by how much validation is above test."""
    rows = []
    for cell in cells().values():
        runs = runs_of(cell, found, 2) or runs_of(cell, found, 1)
        if not runs:
            continue
        valid, test = (statistics.fmean(run.metrics[p] for run in runs) for p in PARTS)
        assert cell.paper.valid
        rows.append(
            (
                title(cell), str(runs[0].session), _seeds(run.seed for run in runs),
                f"{valid:.1f} / {test:.1f}",
                f"{valid - cell.paper.valid:+.1f} / {test - cell.paper.test:+.1f}",
                f"{valid / test - 1:.1%}", f"{cell.paper.valid / cell.paper.test - 1:.1%}",
                f"{statistics.fmean(run.metrics['curve'][-1]['train_ppl'] for run in runs):.0f}",
            )
        )  # fmt: skip
    return markdown_table(
        ("model", "sessions", "seeds", "mean", "to the paper", "validation above test",
         "the same, the paper", "training perplexity"),
        rows,
    )  # fmt: skip


def spread_table(found: Runs) -> str:
    """Return by how much the two seeds of a cell differ after each session."""
    rows = []
    for cell in cells().values():
        for session in (1, 2):
            runs = runs_of(cell, found, session)
            if len(runs) == 2:
                apart = (abs(runs[0].metrics[p] - runs[1].metrics[p]) for p in PARTS)
                rows.append((title(cell), str(session), " / ".join(f"{a:.1f}" for a in apart)))
    return markdown_table(("model", "session", "the two seeds differ by"), rows)


def repeated_table(results: Path) -> str:
    """Return the runs that were made again with the same seed, and those that replaced them."""
    folders = kept_folders(results)
    again = {
        kept.path.name: by.split("`")[1]
        for kept in folders
        if kept.settings is not None and (by := superseded_by(kept, folders))
    }
    numbers = {kept.path.name: kept for kept in folders}
    rows = [
        (f"`{old}`", _kept_pair(numbers[old]), f"`{new}`", _kept_pair(numbers[new]))
        for old, new in again.items()
    ]
    return markdown_table(("earlier run", "", "later run", ""), rows)


def _kept_pair(kept: Kept) -> str:
    return " / ".join(f"{kept.metrics[part]:.1f}" for part in PARTS)


def distances_table(found: Runs) -> str:
    """Return the distance of W and L^T in ordinary training, where the two are not tied."""
    rows = []
    for cell in cells().values():
        if cell.settings.tied:
            continue
        for session in (1, 2):
            for run in runs_of(cell, found, session):
                curve = run.metrics["curve"]
                ends = [curve[0].get("subspace_distance"), curve[-1].get("subspace_distance")]
                if None not in ends:
                    rows.append(
                        (title(cell), str(session), str(run.seed), *(f"{end:.3f}" for end in ends))
                    )
    header = ("model", "session", "seed", "after the first epoch", "after the last")
    widths = ", ".join(
        f"{math.sqrt(1 - width / 10_000):.3f} at d = {width}" for width in (200, 650)
    )
    return f"Two random spaces of Penn Treebank's vocabulary are at {widths}.\n\n" + markdown_table(
        header, rows
    )


def targets_table(results: Path) -> str:
    """Return the soft targets of 22.5% of Penn Treebank by seed, and their gains."""
    found = noise.kinds(results, least=1)
    rows = []
    for name, parts in found.items():
        no_target = "RE" + (WITHOUT if name.endswith(WITHOUT) else "")
        seeds = range(1, 1 + max(parts["test_ppl"]))
        numbers = [
            " / ".join(f"{parts[p][seed]:.1f}" for p in PARTS) if seed in parts["test_ppl"] else "-"
            for seed in (1, 2, 3)
        ]
        gains = differences(parts["test_ppl"], found[no_target]["test_ppl"])
        own = found.get(_own(name), {}).get("test_ppl", {})
        share = "-"
        if own and len(parts["test_ppl"]) == len(own) == len(seeds) > 1:
            ratio = statistics.fmean(gains) / statistics.fmean(
                differences(own, found[no_target]["test_ppl"])
            )
            share = f"{ratio:.0%}" if name != _own(name) else "-"
        means = " / ".join(f"{statistics.fmean(parts[p].values()):.1f}" for p in PARTS)
        to_own = differences(parts["test_ppl"], own)
        rows.append(
            (
                name, *numbers, means,
                "-" if name == no_target else paired(gains),
                paired(to_own) if to_own and name != _own(name) else "-",
                share,
            )
        )  # fmt: skip
    return markdown_table(
        ("soft target", "seed 1", "seed 2", "seed 3", "mean", "test against RE",
         "test against own, the same gamma", "share of own's gain"),
        rows,
    )  # fmt: skip


def _own(name: str) -> str:
    """Return the name of the model's own target, with its gradient, at the strength of a kind."""
    _, separator, rest = name.partition(", gamma")
    return f"own{separator}{rest}"


def curves_table(results: Path) -> str:
    """Return the validation perplexity of the single runs by epoch, newest first."""
    rows = []
    for kept in reversed(kept_folders(results)):
        settings = kept.settings
        if settings is None:
            continue
        by_epoch = {line["epoch"]: line["valid_ppl"] for line in kept.metrics["curve"]}
        numbers = (f"{by_epoch[e]:.1f}" if e in by_epoch else "-" for e in EPOCHS)
        session = "1" if settings.init_from is None else "2"
        rows.append((model_of(settings), session, *numbers, f"`{kept.path.name}`"))
    return markdown_table(("model", "session", *map(str, EPOCHS), "folder"), rows)


def appendix(found: Runs, results: Path) -> str:
    """Return docs/questions_appendix.md."""
    sections = {
        "Every run by seed": (
            "The change of test perplexity is against VD-LSTM of the same seed and session.",
            runs_table(found),
        ),
        "Means after the last session": (
            "The training perplexity is with dropout, in the last epoch.",
            last_table(found),
        ),
        "What each addition changes": (
            "Both models have the same number of sessions and the same seeds.",
            additions_table(found),
        ),
        "What a second session brings": ("", sessions_table(found)),
        "How far seeds are apart": ("", spread_table(found)),
        "Runs that were made again": (
            "These runs have the same model and session, and most of them the same seed. Other "
            "machines and later code round differently. "
            + noise.of_the_whole_text(kept_runs(results)),
            repeated_table(results),
        ),
        "The distance of W and L^T in ordinary training": ("", distances_table(found)),
        "Soft targets by seed": (
            "Small tied models on 22.5% of Penn Treebank, 45 epochs. The last column divides the "
            "gain over RE by that of the model's own target at the same gamma and temperature.",
            targets_table(results),
        ),
        "Curves": (
            "Validation perplexity by epoch. `metrics.json` of each folder has every epoch.",
            curves_table(results),
        ),
    }
    return HEAD + "\n".join(
        f"## {name}\n\n{text}{chr(10) * 2 if text else ''}{table}"
        for name, (text, table) in sections.items()
    )
