"""A run's results on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .report import HEADLINE, TITLES, find, metrics_of, show, sign_of, tasks_of
from .scores import MEAN


def print_tables(results: Mapping[str, Any], console: Console) -> None:
    """The paper's table on the mean over tasks and on each task, then every metric."""
    scores, methods = results["scores"], list(results["methods"])
    wide = console.width >= 60 + 25 * len(methods)  # room for intervals
    metrics = [m for m in HEADLINE if m in metrics_of(scores)]
    if metrics:
        table = Table(title=escape(results["suite"]["title"]), title_justify="left")
        table.add_column("task")
        table.add_column("method")
        for metric in metrics:
            table.add_column(f"{TITLES[metric]} {sign_of(scores, metric)}", justify="right")
        table.add_column("films", justify="right")
        for task in tasks_of(scores):
            for k, label in enumerate(methods):
                found = [find(scores, metric, label, task) for metric in metrics]
                n = next((score["n"] for score in found if score), 0)
                name = ("mean over tasks" if task == MEAN else task) if k == 0 else ""
                last = k == len(methods) - 1
                table.add_row(
                    name, escape(label), *(show(score, interval=wide) for score in found), str(n), end_section=last
                )
        console.print(table)
    room = len(methods) if wide else max((console.width - 22) // (3 + max(map(len, methods))), 1)
    for first in range(0, len(methods), room):
        console.print(_every_metric(results, methods[first : first + room], interval=wide))
    if results["responses"]:
        console.print(_responses(results))


def _every_metric(results: Mapping[str, Any], methods: Sequence[str], *, interval: bool) -> Table:
    """Every metric of some methods, mean over tasks."""
    scores = results["scores"]
    title = "mean over tasks" + (" (95 % interval over patients)" if interval else "; intervals are in results.md")
    table = Table(title=title, title_justify="left")
    table.add_column("metric")
    for label in methods:
        table.add_column(escape(label), justify="right")
    for metric in metrics_of(scores):
        found = [find(scores, metric, label) for label in methods]
        table.add_row(f"{metric} {sign_of(scores, metric)}", *(show(score, interval=interval) for score in found))
    timings = [results["timings"].get(label) for label in methods]
    table.add_row("seconds a film ↓", *(f"{t['seconds']:.2f}" if t else "" for t in timings))
    table.add_row("peak memory, MB ↓", *(str(t["peak_mb"]) if t else "" for t in timings))
    return table


def _responses(results: Mapping[str, Any]) -> Table:
    """Mean change of each probability of the audited classifier; the finding that was edited is bold."""
    table = Table(title="mean change of the audited classifier's probabilities", title_justify="left")
    table.add_column("task")
    table.add_column("method")
    for finding in results["audited"]:
        table.add_column(escape(finding), justify="right")
    rows: dict[tuple[str, str], list[str]] = {}
    for r in results["responses"]:
        text = f"{r['change']:+.2f} ({r['low']:+.2f} to {r['high']:+.2f})"
        rows.setdefault((r["task"], r["method"]), []).append(f"[bold]{text}[/bold]" if r["target"] else text)
    for (task, method), cells in rows.items():
        table.add_row(escape(task), escape(method), *cells)
    return table
