"""Copy the settings, metrics and environment of finished runs to results/<date>_<name>/.

python -m studies.keep RUN [RUN ...] --name NAME --command "the command that trained them"
"""

from __future__ import annotations

from pathlib import Path

from studies.harness import start, study_parser
from tiedlm.experiments.results import keep


def main() -> None:
    """Write one results folder."""
    parser = study_parser("keep", __doc__, out="folder of kept results", default=Path("results"))
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="finished run folder")
    parser.add_argument("--name", required=True, help="name of the folder, after the date")
    parser.add_argument("--command", required=True, help="the command that trained the runs")
    options = parser.parse_args()
    print(keep(options.runs, options.name, options.out, options.command))


if __name__ == "__main__":
    start(main)
