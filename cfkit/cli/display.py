"""What `cfkit edit` shows: progress while it works, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

Advance = Callable[[float], None]


@contextmanager
def show_progress(films: int) -> Iterator[Advance]:
    """A bar on a terminal, a line every ten seconds elsewhere, both on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def say(done: float) -> None:
            nonlocal last
            if time.monotonic() - last > 10:
                last = time.monotonic()
                print(f"{done:.1f} of {films} films", file=sys.stderr, flush=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"editing {films} film{'s' if films > 1 else ''}", total=float(films))
        yield lambda done: bar.update(task, completed=done)


def print_table(records: list[dict[str, Any]], out: Path) -> None:
    """One row a film: probabilities before and after, change in the bones and elsewhere, seconds."""
    first = records[0]
    table = Table(title=f"{first['task']} of {first['finding']}: probability before and after", title_justify="left")
    names = [name for name in ("classifier", "judge") if name in first]
    for column in ("film", *names, "change in bones", "elsewhere", "seconds"):
        table.add_column(column, justify="left" if column == "film" else "right")
    for record in records:
        cells = [escape(Path(record["output"]).stem)]
        for name in names:
            before, after = (record[name][k][record["finding"]] for k in ("before", "after"))
            cells.append(f"{before:.2f} to {after:.2f}")
        for key in ("inside_bones", "outside_bones"):
            value = record["change"].get(key)
            cells.append("" if value is None else f"{value:.4f}")
        table.add_row(*cells, f"{record['seconds']:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{len(records)} film{'s' if len(records) > 1 else ''} in {escape(str(out))}; not for clinical use.",
        highlight=False,
    )
