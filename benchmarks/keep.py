"""Keep what is worth keeping of finished runs: ``results/<date>_<name>/``.

python benchmarks/keep.py RUN [RUN ...] --name NAME --command "the command that made them"
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiedlm.experiments.results import keep


def main() -> None:
    """Write one results folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--results", type=Path, default=Path("results"))
    options = parser.parse_args()
    print(keep(options.runs, options.name, options.results, options.command))


if __name__ == "__main__":
    main()
