"""How a run is shown while it goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY = 10.0  # seconds, where there is no terminal


@contextmanager
def show_rates(totals: Mapping[str, int]) -> Iterator[Callable[[str, int, float], None]]:
    """A bar a method on a terminal, a line now and then elsewhere, both on standard error.

    Args:
        totals: Cases by method.

    Yields:
        To be called with a method, the cases that ended and their seconds; cases without any were there before.
    """
    console = Console(stderr=True)
    done = dict.fromkeys(totals, 0)
    timed = {label: (0, 0.0) for label in totals}

    def rate(label: str) -> str:
        cases, seconds = timed[label]
        return f"{seconds / cases:.1f} s a film" if cases else ""

    def count(label: str, cases: int, seconds: float) -> None:
        done[label] += cases
        if seconds > 0:
            timed[label] = (timed[label][0] + cases, timed[label][1] + seconds)

    if not console.is_terminal:
        last = time.monotonic()
        begun: dict[str, tuple[float, int]] = {}  # by method: when it was first heard of, and what was done by then

        def say(label: str, cases: int, seconds: float) -> None:
            nonlocal last
            if seconds > 0:
                begun.setdefault(label, (time.monotonic() - seconds, done[label]))
            count(label, cases, seconds)
            if time.monotonic() - last > LINE_EVERY or (done[label] == totals[label] and seconds > 0):
                last = time.monotonic()
                when, before = begun.get(label, (last, done[label]))
                left = (totals[label] - done[label]) * (last - when) / max(done[label] - before, 1)
                print(
                    f"{label}: {done[label]} of {totals[label]} films, {rate(label)}, {left / 60:.1f} min left",
                    file=sys.stderr,
                    flush=True,
                )

        yield say
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {label: bars.add_task(label, total=total, rate="") for label, total in totals.items()}

        def show(label: str, cases: int, seconds: float) -> None:
            count(label, cases, seconds)
            bars.update(tasks[label], completed=done[label], rate=rate(label))

        yield show
