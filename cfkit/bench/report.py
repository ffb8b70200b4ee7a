"""A run's results as files: JSON, CSV, Markdown and LaTeX, all from the store."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..files import write_beside
from .audit import measure_responses
from .bootstrap import means_over_patients
from .columns import choose_metrics
from .scores import MEAN, Score, compare, score_run
from .store import Store

HEADLINE = ("clip_accuracy", "esas", "fid")  # the paper's Table 1 and 2
TITLES = {"clip_accuracy": "CLIP accuracy", "esas": "ESAS", "fid": "FID"}


def write_results(store: Store, folder: Path) -> dict[str, Any]:
    """Scores a run and writes `results.json`, `.csv`, `.md` and `.tex`; returns what the first holds.

    But for "timings" it depends on the rows alone, so that it is the same however often the run was stopped.
    """
    told = json.loads((folder / "plan.json").read_text())
    problems: list[str] = []
    scores = score_run(store, choose_metrics(told["suite"]["metrics"]), problems=problems)
    planned = store.plan()
    failures = [row for row in store.cases([case.key for case in planned]) if row.error]
    results = {
        **told,
        "finished": len(store.finished(failed=False)),
        "scores": [_plain(score) for score in scores],
        "comparisons": [
            {
                **vars(c),
                "difference": plain_number(c.difference),
                "low": plain_number(c.low),
                "high": plain_number(c.high),
            }
            for c in compare(scores)
        ],
        "failures": [
            {key: getattr(row, key) for key in ("method", "kind", "film", "finding", "present", "seed", "error")}
            for row in failures
        ],
        "problems": problems,
        "responses": measure_responses(store, told["audited"]) if told.get("audited") else [],
        "timings": measure_timings(store),
    }
    files = {
        "results.json": json.dumps(results, indent=1) + "\n",
        "results.csv": as_csv(results["scores"]),
        "results.md": as_markdown(results),
        "results.tex": as_latex(results),
    }
    for name, text in files.items():
        write_beside(folder / name, lambda part, text=text: part.write_text(text))  # type: ignore[misc]
    return results


def measure_timings(store: Store) -> dict[str, dict[str, Any]]:
    """Seconds a film, with the 95 % interval over patients, and peak memory, by method."""
    films = store.films()
    by_method: dict[str, list[Any]] = {}
    for case in store.cases([case.key for case in store.plan()]):
        if not case.error:
            by_method.setdefault(case.method, []).append(case)
    timings = {}
    for label, rows in by_method.items():
        seconds = np.array([[row.seconds] for row in rows])
        ((mean, low, high),) = means_over_patients(seconds, [films[row.film].patient for row in rows])
        peak = max(row.peak_mb for row in rows)
        timings[label] = {
            "seconds": plain_number(mean),
            "low": plain_number(low),
            "high": plain_number(high),
            "peak_mb": peak,
        }
    return timings


def _plain(score: Score) -> dict[str, Any]:
    plain = {key: value for key, value in vars(score).items() if key != "draws"}
    return {key: plain_number(value) if isinstance(value, float) else value for key, value in plain.items()}


def plain_number(value: float) -> float | None:
    """Six significant digits: what differs beyond them is the order of additions. None for NaN and infinity."""
    return None if not math.isfinite(value) else float(f"{value:.6g}")


def find(scores: Sequence[Mapping[str, Any]], metric: str, method: str, task: str = MEAN) -> Mapping[str, Any] | None:
    """The score of a metric without columns, or None."""
    for score in scores:
        if (score["metric"], score["method"], score["task"], score["column"]) == (metric, method, task, ""):
            return score
    return None


def tasks_of(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """The mean over tasks, then each task, in the order of the run."""
    return list(dict.fromkeys([MEAN, *(score["task"] for score in scores)]))


def metrics_of(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics without columns, the paper's first."""
    there = dict.fromkeys(score["metric"] for score in scores if not score["column"])
    return [m for m in HEADLINE if m in there] + [m for m in there if m not in HEADLINE]


def as_csv(scores: Sequence[Mapping[str, Any]]) -> str:
    """One line a score."""
    stream = io.StringIO()
    columns = ("metric", "column", "method", "task", "value", "low", "high", "n", "higher_is_better")
    table = csv.DictWriter(stream, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(scores)
    return stream.getvalue()


def show(score: Mapping[str, Any] | None, *, interval: bool = True) -> str:
    """A value with three or four digits and its interval."""
    if score is None or score["value"] is None:
        return ""

    def digits(value: float | None) -> str:
        return "?" if value is None else f"{value:.{1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3}f}"

    text = digits(score["value"])
    return f"{text} ({digits(score['low'])} to {digits(score['high'])})" if interval else text


def arrow(score: Mapping[str, Any] | None) -> str:
    """↑ where more is better, else ↓."""
    return "" if score is None else "↑" if score["higher_is_better"] else "↓"


def sign_of(scores: Sequence[Mapping[str, Any]], metric: str) -> str:
    """The arrow of a metric; "" where nothing has it."""
    return arrow(next((score for score in scores if score["metric"] == metric), None))


def as_markdown(results: Mapping[str, Any]) -> str:
    """The paper's table, every metric on the mean over tasks, then the paper's table of each task."""
    scores, methods = results["scores"], list(results["methods"])
    lines = [f"# {results['suite']['title']}", ""]
    lines += _markdown_table([m for m in HEADLINE if m in metrics_of(scores)], methods, scores, MEAN)
    lines += ["", "Mean over tasks, every metric:", ""]
    lines += ["| | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for metric in metrics_of(scores):
        found = [find(scores, metric, label) for label in methods]
        lines.append(f"| {metric} {sign_of(scores, metric)} | " + " | ".join(show(score) for score in found) + " |")
    seconds = [results["timings"].get(label) for label in methods]
    lines.append("| seconds a film ↓ | " + " | ".join(f"{t['seconds']:.2f}" if t else "" for t in seconds) + " |")
    for task in tasks_of(scores)[1:]:
        lines += ["", f"{task}:", ""]
        lines += _markdown_table([m for m in HEADLINE if m in metrics_of(scores)], methods, scores, task)
    lines += ["", f"95 % intervals over patients. {footnote(results)}"]
    return "\n".join(lines) + "\n"


def _markdown_table(
    metrics: Sequence[str], methods: Sequence[str], scores: Sequence[Mapping[str, Any]], task: str
) -> list[str]:
    lines = ["| method | " + " | ".join(f"{TITLES[m]} {sign_of(scores, m)}" for m in metrics) + " | films |"]
    lines.append("|---" * (len(metrics) + 2) + "|")
    for label in methods:
        found = [find(scores, metric, label, task) for metric in metrics]
        n = next((score["n"] for score in found if score), 0)
        lines.append(f"| {label} | " + " | ".join(show(score) for score in found) + f" | {n} |")
    return lines


def footnote(results: Mapping[str, Any]) -> str:
    """What the figures were made with."""
    return (
        f"Bundle {results['bundle']} ({results['bundle_hash']}), Fréchet features of {results['features'] or 'none'}, "
        f"cfkit {results['cfkit']}, torch {results['torch']}, {results['device']}. "
        f"{len(results['failures'])} of {results['cases']} cases failed."
    )


def as_latex(results: Mapping[str, Any]) -> str:
    """The paper's Table 1, the best of each column in bold."""
    scores, methods = results["scores"], list(results["methods"])
    metrics = [m for m in HEADLINE if m in metrics_of(scores)]
    best: dict[str, float] = {}
    for metric in metrics:
        found = [score for label in methods if (score := find(scores, metric, label)) and score["value"] is not None]
        if found:
            best[metric] = (max if found[0]["higher_is_better"] else min)(score["value"] for score in found)
    lines = ["% needs \\usepackage{booktabs}", "\\begin{tabular}{l" + "c" * len(metrics) + "}", "\\toprule"]
    lines += ["Method & " + " & ".join(TITLES[m] for m in metrics) + r" \\", "\\midrule"]
    for label in methods:
        cells = []
        for metric in metrics:
            score = find(scores, metric, label)
            text = show(score, interval=False)
            cells.append(rf"\textbf{{{text}}}" if score and score["value"] == best.get(metric) else text)
        name = "".join(rf"\{c}" if c in "_&%#$" else c for c in label)
        lines.append(f"{name} & " + " & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"
