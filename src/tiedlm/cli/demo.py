"""``tiedlm demo``: train the paper's four models on a small corpus, in minutes."""

from __future__ import annotations

import shlex
from pathlib import Path

from tiedlm.cli import leave, leave_after
from tiedlm.cli.numbers import MaybeSeed, MaybeWhole
from tiedlm.errors import UserError


def demo(
    *,
    out: Path | None = None,
    network: str = "lstm",
    jobs: MaybeWhole = None,
    epochs: MaybeWhole = None,
    seed: MaybeSeed = None,
) -> None:
    """Train VD-LSTM, +AL, +RE and +REAL on a small corpus and write a report.

    Parameters
    ----------
    out
        Folder for the runs, results.json, the plots and report.html. Default: runs/demo, or
        runs/demo-NETWORK.
    network
        Network of the four models: lstm, gru, rhn or transformer.
    jobs
        Number of models to train at once; one per core by default.
    epochs
        Passes over the training text; the recipe decides by default.
    seed
        Seed for the initial weights and the dropout masks; 1 by default.
    """
    from tiedlm.experiments.demo import run_demo
    from tiedlm.experiments.supervisor import ChildDied
    from tiedlm.experiments.tables import print_demo_table
    from tiedlm.files import read_json
    from tiedlm.progress import ProgressView
    from tiedlm.training.outcomes import Diverged, Stopped

    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs: expected at least 1, got {jobs}")
    out = out or Path("runs/demo" if network == "lstm" else f"runs/demo-{network}")
    changes = {"epochs": epochs, "seed": seed}
    given = {name: value for name, value in changes.items() if value is not None}
    try:
        with ProgressView() as view:
            report = run_demo(out, view, jobs, network, **given)
    except Stopped as stopped:
        leave(str(stopped), 130)
    except Diverged as diverged:
        leave(f"error: {diverged}", 1)
    except ChildDied as died:
        leave_after(died)
    print_demo_table(read_json(out / "results.json"))
    print(f"report: {report}")
    print(f"explore: tiedlm explore {shlex.quote(str(out))}/vd-{network}*")
