"""Two runs side by side, method by method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
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
from .salvage import told_plainly
from .scores import Score, on_common_tasks, score_run
from .store import Store


def compare_runs(a: Path, b: Path, *, as_json: bool) -> None:
    """Prints the difference of every metric, for each method that both runs have, mean over the tasks of both.

    Where both runs edited the same films, the difference is paired by patient; else its interval is that of
    independent patients.

    Raises:
        UserError: A folder holds no run, or the two have no method in common.
    """
    from .command import read_run

    stores, scores, films = [], [], []
    for folder in (a, b):
        told = read_run(folder)
        stores.append(told)
        with told_plainly(folder), closing(Store(folder)) as store:
            films.append({(c.film, c.intervention.finding, c.intervention.present) for c in store.plan()})
            scores.append(score_run(store, choose_metrics(told["suite"]["metrics"])))
    common = [label for label in stores[0]["methods"] if label in stores[1]["methods"]]
    if not common:
        raise UserError(f"{a} and {b} have no method in common; compare runs that share a label")
    paired = films[0] == films[1]
    rows = [
        row
        for label in common
        for metric in dict.fromkeys(s.metric for s in scores[0])
        for row in [_difference(*(_of(each, label, metric) for each in scores), paired=paired)]
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


def _of(scores: Sequence[Score], label: str, metric: str) -> list[Score]:
    return [s for s in scores if (s.method, s.metric, s.column) == (label, metric, "")]


def _difference(a: Sequence[Score], b: Sequence[Score], *, paired: bool) -> dict[str, Any] | None:
    """B less A of one metric on the tasks of both; None where there is none."""
    means = on_common_tasks(a, b)
    if means is None:
        return None
    first, second = means
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
