"""`cfkit compare`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command("compare")
@click.argument("run_a", metavar="RUN_A")
@click.argument("run_b", metavar="RUN_B")
@click.option("--json", "as_json", is_flag=True, help="Print the differences as JSON instead of a table.")
def command(run_a: str, run_b: str, as_json: bool) -> None:
    """Compare two runs: every metric of each method that both have, paired where the films are the same."""
    from ..bench.compare import compare_runs

    compare_runs(Path(run_a), Path(run_b), as_json=as_json)
