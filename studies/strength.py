"""How strong and how warm should the augmented loss be, and is it semantic when it is strong?

The paper takes gamma from 0.5 to 0.8 and says that moderate changes of gamma and temperature do no
harm. This study changes them by more. The soft target is the model's own or one without meaning,
with its gradient and without. Text, model and schedule are the same as in studies.semantic --long.
The study prints the tables of the finished runs and writes them to results/. The same command
resumes what was stopped. Runs at the paper's gamma and temperature are also runs of
studies.semantic. Both studies share them if they have the same --out.

    python -m studies.strength --out runs/semantic-long

The second table says what the loss does to the models. Its numbers are means over tokens of the
validation text:

- scores: the standard deviation over the vocabulary of a token's scores z, without the bias;
- similarities: the same of the similarities L^T u of its target;
- cosine: of the scores and the similarities, both centred;
- entropy: of the prediction, in nats.

Shape letters: T tokens, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
from studies.inside import TOKENS, scores
from studies.semantic import BASE, REAL, jobs
from tiedlm import LanguageModel, load
from tiedlm.arithmetic import arithmetic
from tiedlm.evaluation.perplexity import hidden_windows
from tiedlm.experiments.comparison import seed_mean
from tiedlm.experiments.parallel import Job
from tiedlm.experiments.reproduce import markdown_table

# Soft target, gamma, temperature; alpha is the product of the two. Gamma 0 is RE.
Point = tuple[str, float, float]
RE: Point = ("none", 0.0, 20.0)
OWN: tuple[Point, ...] = (
    *(("own", gamma, 20.0) for gamma in (0.25, 0.65, 1.3, 2.6, 5.2, 10.4, 20.8)),
    ("own", 0.65, 5.0), ("own", 0.65, 50.0),
)  # fmt: skip
OTHERS: tuple[Point, ...] = tuple(
    (target, gamma, 20.0)
    for target, gammas in {
        "detached": (0.65, 5.2),
        "uniform": (0.65, 2.6, 5.2, 10.4, 20.8),
        "permuted": (0.65, 5.2, 10.4, 20.8),
        "permuted-grad": (0.65, 5.2, 10.4),
        "permuted-band": (0.65, 5.2, 10.4),
        "permuted-band-grad": (0.65, 5.2, 10.4),
    }.items()
    for gamma in gammas
)
GRID = (RE, *OWN, *OTHERS)
Numbers = dict[str, list[float]]  # the second table by point: means, and the number of seeds
# Points that are runs of semantic.py. Other strengths of a target change the settings of its run.
SHARED = {
    RE: BASE, ("own", 0.65, 20.0): REAL, ("detached", 0.65, 20.0): "own, detached",
    ("uniform", 0.65, 20.0): "uniform", ("permuted", 0.65, 20.0): "permuted rows",
    ("permuted-grad", 0.65, 20.0): "permuted rows, with gradient",
    ("permuted-band", 0.65, 20.0): "permuted in bands of frequency",
    ("permuted-band-grad", 0.65, 20.0): "permuted in bands, with gradient",
}  # fmt: skip
OF_TARGET = {target: name for (target, _, _), name in SHARED.items()}


def table(found: dict[tuple[Point, int], Job]) -> str:
    """Return the table in Markdown: means over seeds, and differences paired by seed.

    Differences are against RE, and against the own target at the same gamma and temperature.
    """
    base = values_by_seed(found, (RE,), "test_ppl")
    body = []
    for point in GRID:
        target, gamma, temperature = point
        valid, test = (
            values_by_seed(found, (point,), value) for value in ("valid_ppl", "test_ppl")
        )
        if not test:
            continue
        same = values_by_seed(found, (("own", gamma, temperature),), "test_ppl")
        pairs, from_own = differences(test, base), differences(test, same)
        body.append(
            (
                target, f"{gamma:g}", f"{temperature:g}" if gamma else "-",
                str(seed_mean(list(valid.values()))), str(seed_mean(list(test.values()))),
                paired(pairs) if gamma and pairs else "-",
                paired(from_own) if target != "own" and from_own else "-",
            )
        )  # fmt: skip
    return markdown_table(
        (
            "soft target", "gamma", "temperature", "validation", "test",
            "test, against RE, paired", "against own, paired",
        ),
        body,
    )  # fmt: skip


def apart(job: Job) -> list[float]:
    """Return the second table's numbers of one run."""
    model, corpus = load(job.out), job.settings.load_corpus(progress=False)
    windows = hidden_windows(model, corpus.valid[:TOKENS])
    return torch.cat([spreads(model, *one) for one in windows], 1).mean(1).tolist()


def spreads(model: LanguageModel, hidden_TE: Tensor, targets_T: Tensor) -> Tensor:
    """Return the second table's numbers of some tokens, ``(4, T)``."""
    found = scores(model, hidden_TE, targets_T)
    entropy_T = torch.distributions.Categorical(logits=found.logits_TV).entropy()
    centred = [x_TV - x_TV.mean(1, keepdim=True) for x_TV in (found.scores_TV, found.similar_TV)]
    cosine_T = torch.nn.functional.cosine_similarity(*centred, dim=1)
    spread_T, similar_T = (x_TV.square().mean(1).sqrt() for x_TV in centred)
    return torch.stack([spread_T, similar_T, cosine_T, entropy_T])


@arithmetic(kernels=True)
def effects(found: dict[tuple[Point, int], Job], known: Numbers) -> Numbers:
    """Return the second table's numbers; keep known ones that come from more seeds."""
    numbers = dict(known)
    for point in GRID:
        jobs = [job for (own, _), job in found.items() if own == point and has_weights(job)]
        if jobs and len(jobs) >= numbers.get(str(point), [0])[-1]:
            means = torch.tensor([apart(job) for job in jobs]).mean(0)
            numbers[str(point)] = [*means.tolist(), len(jobs)]
    return numbers


def effects_table(numbers: Numbers) -> str:
    """Return the second table of means over seeds in Markdown."""
    body = []
    for point in GRID:
        if str(point) in numbers:
            *means, seeds = numbers[str(point)]
            body.append((point[0], f"{point[1]:g}", *(f"{mean:.2f}" for mean in means), str(seeds)))
    return markdown_table(
        ("soft target", "gamma", "scores", "similarities", "cosine", "entropy", "seeds"), body
    )


def main() -> None:
    """Train the missing runs, print the tables and write them."""
    options = training_parser("strength", __doc__, seeds=1, precision=True, show=True).parse_args()
    shared = jobs(options.out, options.seeds, options.precision, long=True)[1]
    found = {}
    for point in GRID:
        target, gamma, temperature = point
        for seed in range(1, options.seeds + 1):
            job = shared[OF_TARGET[target], seed]
            if point not in SHARED:
                changes = {"alpha": gamma * temperature, "temperature": temperature}
                name = f"gamma{gamma:g}-tau{temperature:g}-seed{seed}"
                settings = job.settings.replace(**changes)
                prefix = "" if target == "own" else f"{target}-"
                job = Job(settings, options.out / (prefix + name))
            found[point, seed] = job
    found = trained("strength", found, list(found.values()), options)
    measured = effects(found, kept_measurements("strength", options))
    text = table(found) + "\n" + effects_table(measured)
    keep_table("strength", [job.out for job in found.values()], options, text, measured)


if __name__ == "__main__":
    start(main)
