"""`cfkit report`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.command("report")
@click.argument("run", metavar="RUN")
@click.option("--no-page", is_flag=True, help="Tables and files alone, no report.html.")
def command(run: str, no_page: bool) -> None:
    """Score a run again, from what it stored: tables, results.json, .csv, .md, .tex and report.html."""
    from ..bench.command import report_run

    report_run(Path(run), page=not no_page)
