"""Print tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from tiedlm.experiments.findings import headline, verdict
from tiedlm.experiments.report import for_network
from tiedlm.progress import table_console

NAMES = {
    "vd-lstm": "VD-LSTM",
    "vd-lstm-al": "+ AL",
    "vd-lstm-re": "+ RE",
    "vd-lstm-real": "+ REAL",
}


def print_demo_table(results: dict[str, Any], console: Console | None = None) -> None:
    """Print the demo's table, one row per model, and its findings below."""
    table = Table("model", "valid", "test", "parameters", "distance", "P(<unk>)", "tokens/s")
    for column in table.columns[1:]:
        column.justify = "right"
    network = results.get("settings", {}).get("network", "lstm")
    for name, model in results["models"].items():
        table.add_row(
            for_network(NAMES[name], network),
            f"{model['valid_ppl']:.2f}",
            f"{model['test_ppl']:.2f}",
            f"{model['parameters']:,}",
            f"{model['subspace_distance']:.3f}",
            f"{model['mean_p_unk']:.4f}",
            f"{model['tokens_per_second']:,.0f}",
        )
    console = console or table_console()
    console.print(table)
    for sentence in (headline(results["models"]), verdict(results["models"])):
        sentence = for_network(sentence, network)
        console.print(sentence, highlight=False, soft_wrap=True)
