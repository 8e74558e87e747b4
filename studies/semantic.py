"""Is AL's gain semantic, or only regularisation?

Trains the small RE with several soft targets on Penn Treebank's first 22.5%, with the words seen
twice or more as its vocabulary:

- none: RE itself;
- from the model's own embedding, with and without its gradient: REAL;
- from the embedding with its rows permuted, among all words or among words of like frequency;
- a uniform distribution, or the unigram frequencies;
- from a moving average of the embedding;
- from the frozen vectors of an RE that was trained on the next 22.5%;
- label smoothing of several strengths.

The same command resumes what was stopped. It prints the tables of the finished runs and writes them
to results/. With --long the schedule is the paper's, three times as long: the gain of the augmented
loss comes late. studies.strength asks the same question of stronger soft targets.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.gradient_paths import path_norms
from studies.harness import (
    differences,
    has_weights,
    keep_table,
    kept_measurements,
    paired,
    start,
    trained,
    training_parser,
    values_by_seed,
)
from studies.target_grad import PTB
from tiedlm import load
from tiedlm.arithmetic import arithmetic
from tiedlm.data import Corpus
from tiedlm.errors import UserError
from tiedlm.evaluation.perplexity import token_losses
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.prediction_study import BANDS, bootstrap_interval, frequency_masks
from tiedlm.experiments.recipes import get_recipe
from tiedlm.experiments.reproduce import markdown_table

ELSEWHERE = "vectors-from-elsewhere"
BASE = "RE"
REAL = "own, with gradient (REAL)"
SMOOTHING = (0.02, 0.05, 0.1, 0.2, 0.3)  # label smoothing: e in (1 - e) one-hot + e / V
# At temperature 1 a uniform target is label smoothing, except that y^ leaves the bias out.
AT_ONE = {"smoothing": "label smoothing", "uniform": "uniform at 1,"}

# Changes to RE. REAL's alpha and temperature come from its recipe.
VARIANTS: dict[str, dict[str, Any]] = {
    BASE: {"alpha": 0.0},
    REAL: {},
    "own, detached": {"target_grad": False},
    "permuted rows": {"soft_target": "permuted"},
    "permuted rows, with gradient": {"soft_target": "permuted-grad"},
    "permuted in bands of frequency": {"soft_target": "permuted-band"},
    "permuted in bands, with gradient": {"soft_target": "permuted-band-grad"},
    "uniform": {"soft_target": "uniform"},
    "unigram": {"soft_target": "unigram"},
    "moving average": {"soft_target": "average"},
    "frozen, from elsewhere": {"soft_target": "frozen"},
    **{
        f"{name} {e:g}": {"soft_target": target, "temperature": 1.0, "alpha": e / (1 - e)}
        for target, name in AT_ONE.items()
        for e in SMOOTHING
    },
}  # fmt: skip


def jobs(
    out: Path, seeds: int, precision: str, long: bool = False
) -> tuple[Job, dict[tuple[str, int], Job]]:
    """Return the run that gives the frozen vectors, and the study's runs by (variant, seed)."""
    text = {name: PTB[name] for name in ("fraction", "min_count")} if long else PTB
    base = get_recipe("ptb-small-real").replace(**text, threads=1, precision=precision)
    elsewhere = Job(base.replace(alpha=0.0, skip=PTB["fraction"]), out / ELSEWHERE)
    found = {}
    for seed in range(1, seeds + 1):
        for variant, changes in VARIANTS.items():
            name = "".join(c if c.isalnum() or c == "." else "-" for c in variant).strip("-")
            is_frozen = changes.get("soft_target") == "frozen"
            source = str(elsewhere.out) if is_frozen else None
            settings = base.replace(seed=seed, **changes, soft_target_from=source)
            folder = out / f"{name}-seed{seed}"
            found[variant, seed] = Job(settings, folder, elsewhere.out if is_frozen else None)
    return elsewhere, found


def measure(
    found: dict[tuple[str, int], Job], load_corpus: Callable[[], Corpus], known: dict[str, Any]
) -> dict[str, Any]:
    """Return losses by frequency band and gradient norms by path.

    Runs with weights are measured and added to the known measurements. Without such runs the corpus
    is not loaded. Seeds are strings, as in JSON.
    """
    if not any(has_weights(job) for job in found.values()):
        return {"bands": {}, "paths": {}} | known
    corpus = load_corpus()
    masks = frequency_masks(corpus)
    losses = {
        key: token_losses(load(job.out), corpus.test)
        for key, job in found.items()
        if has_weights(job)
    }
    bands: dict[str, Any] = known.get("bands", {})
    paths: dict[str, Any] = known.get("paths", {})
    for (variant, seed), losses_N in losses.items():
        base_N = losses.get((BASE, seed))
        if base_N is not None and variant != BASE:
            bands.setdefault(variant, {})[str(seed)] = {
                name: {
                    "tokens": int(mask_N.sum()),
                    "difference": float((losses_N - base_N)[mask_N].mean()),
                    "interval95": bootstrap_interval((losses_N - base_N)[mask_N]),
                }
                for name, mask_N in masks.items()
            }
        job = found[variant, seed]
        if job.settings.soft_target == "own":
            norms = path_norms(load(job.out), job.settings, corpus)
            paths.setdefault(variant, {})[str(seed)] = norms._asdict()
    return {"bands": bands, "paths": paths}


def tables(found: dict[tuple[str, int], Job], measured: dict[str, Any]) -> str:
    """Return the three tables in Markdown."""
    base = values_by_seed(found, (BASE,), "test_ppl")
    body = []
    for variant in VARIANTS:
        valid, test = (
            values_by_seed(found, (variant,), value) for value in ("valid_ppl", "test_ppl")
        )
        if not test:
            continue
        pairs = differences(test, base)
        difference = paired(pairs) if pairs and variant != BASE else "-"
        body.append(
            (
                variant,
                str(seed_mean(list(valid.values()))),
                str(seed_mean(list(test.values()))),
                difference,
            )
        )
    text = markdown_table(("soft target", "validation", "test", "test, against RE, paired"), body)

    body = []
    for variant, by_seed in measured["bands"].items():
        row = [variant]
        for band in ("all", *BANDS):
            means = [values[band]["difference"] for values in by_seed.values()]
            spans = ", ".join(
                f"{low:+.3f} to {high:+.3f}"
                for low, high in (values[band]["interval95"] for values in by_seed.values())
            )
            row.append(f"{sum(means) / len(means):+.3f} ({spans})")
        body.append(tuple(row))
    header = ("soft target", *(f"nats, {band}" for band in ("all", *BANDS)))
    text += "\n" + markdown_table(header, body)

    body = []
    for variant, by_seed in measured["paths"].items():
        norms = [
            sum(values[name] for values in by_seed.values()) / len(by_seed)
            for name in ("input", "output", "soft_target", "total")
        ]
        share = sum(norms[:3])
        body.append(
            (variant, *(f"{n:.3f} ({n / share:.0%})" for n in norms[:3]), f"{norms[3]:.3f}")
        )
    header = ("model", "by input", "by output", "by soft target", "norm of the sum")
    return text + "\n" + markdown_table(header, body)


def main() -> None:
    """Train the missing runs, measure them, print the tables and write them."""
    parser = training_parser("semantic", __doc__, seeds=3, precision=True, show=True)
    parser.set_defaults(out=None)
    parser.add_argument(
        "--only", nargs="+", metavar="VARIANT",
        help="train only the soft targets whose names begin like this",
    )  # fmt: skip
    parser.add_argument(
        "--long", action="store_true",
        help="train for the paper's 45 epochs instead of 15; --out defaults to runs/semantic-long",
    )  # fmt: skip
    options = parser.parse_args()
    name = "semantic-long" if options.long else "semantic"
    options.out = options.out or Path("runs", name)
    elsewhere, found = jobs(options.out, options.seeds, options.precision, options.long)
    chosen = {
        variant
        for name in options.only or [""]
        for variant in VARIANTS
        if variant == name or (name not in VARIANTS and variant.startswith(name))
    }
    wanted = [job for (variant, _), job in found.items() if variant in chosen]
    if not wanted:
        raise UserError(
            f"--only {' '.join(options.only)}: no soft target of this name; there are: "
            + "; ".join(VARIANTS)
        )
    if any(job.after for job in wanted):
        wanted = [elsewhere, *wanted]
    finished = trained(name, {(ELSEWHERE, 1): elsewhere, **found}, wanted, options)
    found = {key: job for key, job in finished.items() if key in found}

    def load_corpus() -> Corpus:
        return wanted[-1].settings.load_corpus(progress=False)

    with arithmetic(kernels=True):
        measured = measure(found, load_corpus, kept_measurements(name, options))
    runs = [job.out for job in finished.values()]
    keep_table(name, runs, options, tables(found, measured), measured)


if __name__ == "__main__":
    start(main)
