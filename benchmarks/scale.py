"""What a benchmark costs beside the edits: seconds, bytes and memory a case, and where it ends.

    python benchmarks/scale.py -o benchmarks/results/scale.json

A method that takes no time is run on as many films as asked for; what is measured is the runner's own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import cfkit
from cfkit import Edit, EditorSpec
from cfkit.bench.columns import choose_metrics
from cfkit.bench.command import describe_plan
from cfkit.bench.page import write_page
from cfkit.bench.plan import Plan, make_plan
from cfkit.bench.report import write_results
from cfkit.bench.run import add_films, run_plan
from cfkit.bench.scores import score_run
from cfkit.bench.store import CaseRow, Store
from cfkit.bench.suite import Suite, parse_methods
from cfkit.data.dataset import open_dataset
from cfkit.origin import origin


@dataclass(frozen=True)
class NoOptions:
    """Nothing to choose."""


class Noise:
    """Adds a little noise: an edit that takes no time and packs no better than a real one."""

    def __init__(self, bundle: object, options: NoOptions):
        self.device = bundle.device  # type: ignore[attr-defined]

    def edit(self, images: torch.Tensor, interventions: Any, *, generators: Any = None, **_: Any) -> Edit:
        noise = torch.stack([torch.randn(images.shape[1:], generator=g) for g in generators]).to(images.device)
        return Edit((images + 0.01 * noise).clamp(0, 1))


class TimedStore(Store):
    """Knows how long it took to store cases, which one process does for all workers."""

    spent = 0.0

    def add_cases(self, rows: Sequence[CaseRow], images: dict[str, bytes]) -> None:
        begun = time.perf_counter()
        super().add_cases(rows, images)
        self.spent += time.perf_counter() - begun


def plan_of(bundle: cfkit.Bundle, dataset: Any, limit: int, copies: int) -> Plan:
    """A plan of the method above, `copies` times under other labels."""
    methods = tuple(replace(parse_methods("gifsplanation")[0], label=f"noise {k}") for k in range(copies))
    plan = make_plan(Suite(methods=methods, limit=limit), dataset, bundle)
    spec = EditorSpec("noise", NoOptions, "benchmarks.scale:Noise", "Noise.")
    return replace(plan, specs=dict.fromkeys(plan.specs, (spec, NoOptions())))


def measure(limit: int, copies: int, device: str) -> dict[str, Any]:
    """Seconds of every stage, bytes on disk, peak memory."""
    bundle, dataset = cfkit.load_bundle("demo", device=device), open_dataset("virtual")
    seconds: dict[str, float] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        value = call()
        seconds[name] = round(time.perf_counter() - begun, 3)
        return value

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = timed("plan", lambda: plan_of(bundle, dataset, limit, copies))
        (folder / "plan.json").write_text(json.dumps(describe_plan(plan, bundle)))
        store = TimedStore(folder)
        store.write_plan(plan.cases)
        timed("films", lambda: add_films(plan, dataset, store, bundle))
        timed("run", lambda: run_plan(plan, dataset, store, bundle))
        timed("score", lambda: score_run(store, choose_metrics(())))
        results = timed("score and write", lambda: write_results(store, folder))
        timed("page", lambda: write_page(store, folder, results))
        edited = sum(row.seconds for row in store.cases())
        store.close()
        keys = {case.key for case in plan.cases}
        images = [path.stat().st_size for path in (folder / "images").iterdir()]
        edits = [(folder / "images" / f"{key}.png").stat().st_size for key in keys]
        database = sum(path.stat().st_size for path in folder.glob("cases.sqlite*"))
        page = (folder / "report.html").stat().st_size
    cases = len(plan.cases)
    return {
        "cases": cases,
        "films": len(plan.films),
        "seconds": seconds,
        "own seconds a case": round((seconds["run"] - edited) / cases, 4),
        "seconds of storing a case": round(store.spent / cases, 4),
        "seconds of scores a case": round(seconds["score"] / cases, 4),
        "bytes an edit": round(sum(edits) / cases),
        "bytes of a film with its truths and structures": round((sum(images) - sum(edits)) / len(plan.films)),
        "bytes a row": round(database / cases),
        "bytes of the page": page,
        "peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Measures two sizes, so that what grows shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=32, help="films a task")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    told = {
        **origin(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "runs": [measure(given.limit, copies, given.device) for copies in (1, 3)],
    }
    text = json.dumps(told, indent=1) + "\n"
    print(text)
    if given.out:
        given.out.write_text(text)


if __name__ == "__main__":
    main()
