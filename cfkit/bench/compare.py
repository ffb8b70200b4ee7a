"""Two runs side by side, method by method."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..errors import UserError
from .bootstrap import interval
from .columns import choose_metrics
from .report import arrow, plain_number
from .scores import MEAN, Score, score_run
from .store import Store


def compare_runs(a: Path, b: Path, *, as_json: bool) -> None:
    """Prints the difference of every metric, for each method that both runs have, mean over tasks.

    Where both runs edited the same films, the difference is paired by patient; else its interval is that of
    independent patients.

    Raises:
        UserError: A folder holds no run, or the two have no method in common.
    """
    from .command import read_run

    stores, scores, films = [], [], []
    for folder in (a, b):
        told = read_run(folder)
        store = Store(folder)
        stores.append(told)
        films.append({(c.film, c.intervention.finding, c.intervention.present) for c in store.plan()})
        scores.append([s for s in score_run(store, choose_metrics(told["suite"]["metrics"])) if s.task == MEAN])
        store.close()
    common = [label for label in stores[0]["methods"] if label in stores[1]["methods"]]
    if not common:
        raise UserError(f"{a} and {b} have no method in common; compare runs that share a label")
    paired = films[0] == films[1]
    rows = [
        row
        for label in common
        for first in scores[0]
        if first.method == label and not first.column
        for row in [_difference(first, scores[1], paired=paired)]
        if row
    ]
    if as_json:
        print(json.dumps({"paired": paired, "differences": rows}, indent=1))
        return
    title = f"{escape(str(b))} less {escape(str(a))}, " + ("the same films" if paired else "other films: not paired")
    table = Table(title=title, title_justify="left")
    for column in ("method", "metric", a.name, b.name, "difference (95 % interval)"):
        table.add_column(escape(column), justify="left" if column in ("method", "metric") else "right")
    for row in rows:
        sign = arrow(row)
        text = f"{row['difference']:.4g} ({row['low']:.4g} to {row['high']:.4g})"
        apart = row["low"] > 0 or row["high"] < 0
        cells = (escape(row["method"]), f"{row['metric']} {sign}", f"{row['a']:.4g}", f"{row['b']:.4g}")
        table.add_row(*cells, f"[bold]{text}[/bold]" if apart else text)
    Console().print(table)


def _difference(first: Score, others: list[Score], *, paired: bool) -> dict[str, Any] | None:
    """B less A of one metric; None where B lacks it or either is no number."""
    found = [s for s in others if (s.metric, s.column, s.method) == (first.metric, first.column, first.method)]
    if not found or np.isnan(first.value) or np.isnan(found[0].value):
        return None
    second = found[0]
    n = min(len(first.draws), len(second.draws))
    draws = first.draws[:n] if paired else np.random.default_rng(1).permutation(first.draws)[:n]
    low, high = interval(second.draws[:n] - draws)
    return {
        "method": first.method,
        "metric": first.metric,
        "higher_is_better": first.higher_is_better,
        "a": plain_number(first.value),
        "b": plain_number(second.value),
        "difference": plain_number(second.value - first.value),
        "low": plain_number(low),
        "high": plain_number(high),
    }
