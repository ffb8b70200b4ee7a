"""Keeps a run's results in the repository, and writes the tables of docs/ from what is kept.

    python benchmarks/tables.py RUN NAME     # RUN/results.json -> benchmarks/results/NAME.json, then the tables
    python benchmarks/tables.py              # the tables alone

A table stands between `<!-- KIND NAME ... -->` and `<!-- end -->`:

- `tasks NAME METHOD`: the scores below of one method by task
- `methods NAME`: the mean over tasks of every method, with intervals
- `ablation NAME`: the same with what a method leaves alone, and without seconds
- `faults NAME`: what benchmarks/reliability.py did
- `speed NAME SIZE`, `peers NAME`, `growth NAME`: what benchmarks/speed.py measured
- `command NAME`: what benchmarks/command.py measured
- `recommended BUNDLE`: the options that a bundle recommends
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cfkit.bench.report import find, show, sign_of, tasks_of
from cfkit.bench.scores import MEAN
from cfkit.bundles.bundle import load_bundle

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("methods", "benchmark", "performance", "reliability"))
MARK = re.compile(
    r"(<!-- (tasks|methods|ablation|speed|peers|growth|command|faults|recommended) ([^>]*?) -->\n).*?(<!-- end -->)",
    re.DOTALL,
)
ORIGIN = ("commit", "machine")
COLUMNS = {
    "flip_rate": "judge flips",
    "clip_accuracy": "CLIP accuracy",
    "esas": "ESAS",
    "bone_change": "change in bones",
    "truth_nearer": "nearer to the truth",
}
MEANS = {"clip_accuracy": "CLIP accuracy", "esas": "ESAS", "fid": "FID", "flip_rate": "judge flips"}
MEANS |= {"truth_nearer": "nearer to the truth", "truth_error": "error to the truth"}


def keep(run: Path, name: str) -> None:
    """Copies a run's results, with the commit and the machine that made them: those that began the run."""
    results = json.loads((run / "results.json").read_text())
    where = {key: results.pop(key, "") for key in ORIGIN}
    if not where["commit"]:
        sys.exit(f"{run}: was not made in a checkout, so that no commit can be named")
    (RESULTS / f"{name}.json").write_text(json.dumps({**where, **results}, indent=1) + "\n")


def fill(text: str) -> str:
    """A page with its tables written anew."""
    kinds: dict[str, Callable[..., list[str]]] = {"tasks": by_task, "methods": by_method, "ablation": by_choice}
    kinds |= {"speed": by_way, "peers": by_peer, "growth": by_count, "faults": by_fault, "command": by_call}

    def table(found: re.Match[str]) -> str:
        name, *rest = found[3].split()
        if found[2] == "recommended":
            return found[1] + "\n".join(by_recommendation(name)) + "\n" + found[4]
        results = json.loads((RESULTS / f"{name}.json").read_text())
        return found[1] + "\n".join(kinds[found[2]](results, *rest)) + "\n" + found[4]

    return MARK.sub(table, text)


def by_task(results: Mapping[str, Any], method: str) -> list[str]:
    """One method, a line a task, the mean last."""
    scores = results["scores"]
    lines = ["| task | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    first, *others = tasks_of(scores)
    for task in [*others, first]:
        cells = []
        for metric in COLUMNS:
            found = find(scores, metric, method, task)
            digits = 4 if metric == "bone_change" else 2
            cells.append("" if found is None or found["value"] is None else f"{found['value']:.{digits}f}")
        lines.append(f"| {'mean' if task == MEAN else task} | " + " | ".join(cells) + " |")
    return lines


def by_method(results: Mapping[str, Any]) -> list[str]:
    """Every method's mean over tasks, with 95 % intervals over patients."""
    seconds = [f"{results['timings'][label]['seconds']:.1f}" for label in results["methods"]]
    head, line, *rows = _means(results, MEANS)
    return [f"{head} seconds a film ↓ |", f"{line}---|", *(f"{r} {s} |" for r, s in zip(rows, seconds, strict=True))]


def by_choice(results: Mapping[str, Any]) -> list[str]:
    """The same of choices of one method, with what they leave alone; how busy the machine was says nothing of them."""
    kept = {name: title for name, title in MEANS.items() if name != "truth_error"}
    return _means(results, {**kept, "l1": "change", "bone_change": "change in bones"})


def _means(results: Mapping[str, Any], metrics: Mapping[str, str]) -> list[str]:
    scores = results["scores"]
    signs = {metric: sign_of(scores, metric) for metric in metrics}
    lines = ["| method | " + " | ".join(f"{title} {signs[m]}" for m, title in metrics.items()) + " |"]
    lines.append("|---" * (len(metrics) + 1) + "|")
    for label in results["methods"]:
        lines.append(f"| {label} | " + " | ".join(show(find(scores, metric, label)) for metric in metrics) + " |")
    return lines


def by_way(results: Mapping[str, Any], size: str) -> list[str]:
    """`ours` at one size: seconds, ratio to the published loop, memory, share of the arithmetic limit."""
    titles = "films", "seconds a film", "times as fast", "as 3 x 50 steps", "peak memory, GiB", "share of the limit"
    lines = ["| | " + " | ".join(titles) + " |", "|---" * 7 + "|"]
    for row in results[size]["rows"]:
        share = row.get("share of the limit", "")
        told = f"| {row['way']} | {row['films']} | {row['seconds']:.1f} | {row['ratio']:.2f} "
        told += f"| {row['ratio to 3 x 50 steps']:.2f} "
        lines.append(f"{told}| {row['peak_bytes'] / 2**30:.2f} | {share} |")
    return lines


def by_peer(results: Mapping[str, Any]) -> list[str]:
    """The other methods beside their published loops."""
    lines = ["| method | | films | seconds a film | times as fast |", "|---" * 5 + "|"]
    for method in ("radedit", "gifsplanation"):
        for row in results[method]["rows"]:
            lines.append(f"| {method} | {row['way']} | {row['films']} | {row['seconds']:.2f} | {row['ratio']:.2f} |")
    return lines


def by_count(results: Mapping[str, Any]) -> list[str]:
    """`cfkit edit` on more and more films."""
    lines = ["| films | seconds | peak memory, GiB |", "|---" * 3 + "|"]
    for row in results["growth"]["rows"]:
        lines.append(f"| {row['films']} | {row['seconds']:.1f} | {row['peak_bytes'] / 2**30:.2f} |")
    return lines


def by_fault(results: Mapping[str, Any]) -> list[str]:
    """Trials of each fault, and how many did not go as they should."""
    lines = ["| fault | trials | went wrong |", "|---" * 3 + "|"]
    return lines + [f"| {name} | {told['trials']} | {told['wrong']} |" for name, told in results.items()]


def by_call(results: Mapping[str, Any]) -> list[str]:
    """What calls of `cfkit edit` take."""
    lines = ["| `cfkit edit` | |", "|---|---|"]
    return lines + [f"| {name} | {value} |" for name, value in results.items() if name not in ORIGIN]


def by_recommendation(bundle: str) -> list[str]:
    """The options that a bundle recommends, a line a method."""
    lines = ["| method | options that the bundle recommends |", "|---|---|"]
    for method, options in load_bundle(bundle, device="cpu").recommended.items():
        fast = options.get("fast", {})
        told = [f"`{key} = {json.dumps(value)}`" for key, value in options.items() if key != "fast"]
        told += [f"fast: `{key} = {json.dumps(value)}`" for key, value in fast.items()]
        lines.append(f"| {method} | {', '.join(told)} |")
    return lines


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(Path(sys.argv[1]), sys.argv[2])
    for page in PAGES:
        page.write_text(fill(page.read_text()))
