"""What `cfkit bench` does: a plan kept with its run, the run, its scores."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from .. import __version__
from ..bundles.bundle import Bundle, load_bundle
from ..data.sample import Dataset, at_size
from ..errors import UserError
from ..files import remove_leftovers, write_beside
from ..options import as_dict
from ..origin import origin
from ..outcome import describe_error
from ..specs import import_target
from .columns import choose_metrics
from .display import show_rates
from .page import write_page
from .plan import Plan, make_plan
from .ray_engine import Cluster, ray_engine
from .report import write_results
from .run import run_plan
from .salvage import open_store, told_plainly
from .store import Store, lock
from .suite import Suite, parse_methods, suite_data, suite_from
from .table import print_tables

REASONS = 5  # that are shown


def start_bench(
    suite: Suite,
    given: dict[str, Any],
    out: str,
    device: str,
    *,
    cluster: Cluster | None = None,
    dry_run: bool = False,
) -> int:
    """Begins a run, in this process or on a cluster; returns how many cases failed."""
    suite = with_flags(suite, given)
    if not suite.methods:
        suite = replace(suite, methods=parse_methods("all"))
    bundle, dataset = load_bundle(suite.bundle, device=device), suite.open_data()
    choose_metrics(suite.metrics)
    plan = make_plan(suite, dataset, bundle)
    if dry_run:
        print_plan(plan, dataset, bundle)
        return 0
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror}); choose another folder") from None
    with lock(folder):
        if (folder / "plan.json").exists():
            raise UserError(f"-o {out}: holds a run; go on with `cfkit bench --resume {out}` or choose another folder")
        text = json.dumps(describe_plan(plan, bundle), indent=1) + "\n"
        write_beside(folder / "films.csv", lambda part: part.write_text(list_films(plan, dataset)))
        write_beside(folder / "plan.json", lambda part: part.write_text(text))
        return finish(plan, dataset, bundle, folder, device, cluster)


def resume_bench(out: str, device: str, *, cluster: Cluster | None = None) -> int:
    """Goes on with a run; returns how many cases failed."""
    folder = Path(out)
    told = read_run(folder)
    suite = suite_from(told["suite"])
    bundle, dataset = load_bundle(suite.bundle, device=device), suite.open_data()
    plan = make_plan(suite, dataset, bundle)
    if told["hash"] != plan.hash:
        raise UserError(f"--resume {out}: models, films or methods changed since that run began; begin another with -o")
    with lock(folder):
        return finish(plan, dataset, bundle, folder, device, cluster)


def finish(
    plan: Plan, dataset: Dataset, bundle: Bundle, folder: Path, device: str, cluster: Cluster | None = None
) -> int:
    """Runs what is left, then scores and shows all of it; returns how many cases failed. The caller has the lock."""
    remove_leftovers(folder / "images")
    with told_plainly(folder, f"make room, then `cfkit bench --resume {folder}`"):
        store, saved = open_store(folder)
        if saved:
            print(f"cfkit: {saved}", file=sys.stderr)
        with closing(store):
            store.write_plan(plan.cases)
            totals = {label: sum(case.method == label for case in plan.cases) for label in plan.specs}
            engine = ray_engine(plan, bundle.hash, device, cluster) if cluster else None
            with show_rates(totals) as advance:
                run_plan(plan, dataset, store, bundle, engine=engine, advance=advance)
            results = write_results(store, folder)
            page = write_page(store, folder, results)
    show_results(results, page)
    return len(results["failures"])


def report_run(folder: Path, *, page: bool) -> None:
    """Scores a run again from its store, finished or not.

    Raises:
        UserError: The folder holds no run.
    """
    read_run(folder)
    with told_plainly(folder), closing(Store(folder)) as store:
        results = write_results(store, folder)
        written = write_page(store, folder, results) if page else folder / "results.json"
    show_results(results, written)


def show_results(results: dict[str, Any], written: Path) -> None:
    """Tables and where they stand on standard output; what failed on standard error, a line a reason."""
    print_tables(results, Console())
    reasons = Counter((failure["method"], failure["error"]) for failure in results["failures"])
    lines = [f"{label}: {count} cases failed: {error}" for (label, error), count in reasons.most_common(REASONS)]
    if len(reasons) > REASONS:
        lines.append(f"{len(results['failures'])} cases failed for {len(reasons)} reasons; results.json lists them")
    for line in [*results["problems"], *lines]:
        print(f"cfkit: {line}", file=sys.stderr)
    print(written)


def with_flags(suite: Suite, given: dict[str, Any]) -> Suite:
    """A suite in which what the user gave wins."""
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key == "methods":
            values[key] = parse_methods(value)
        elif key == "seeds":
            try:
                values[key] = tuple(int(seed) for seed in value.split(","))
            except ValueError:
                raise UserError(f"--seeds {value}: whole numbers are wanted, e.g. 0,1,2") from None
        elif key in ("tasks", "metrics", "findings"):
            values[key] = tuple(part.strip() for part in value.split(",") if part.strip())
        else:
            values[key] = value
    return replace(suite, **values)


def list_films(plan: Plan, dataset: Dataset) -> str:
    """The films that were chosen for each task, as CSV: the choice can be looked at, and made again by others."""
    patients = {entry.name: entry.patient for entry in dataset.entries()}
    chosen = {(f"{c.intervention.finding} {c.intervention.task}", c.film): None for c in plan.cases if c.kind == "edit"}
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(("task", "film", "patient"))
    table.writerows((task, film, patients[film]) for task, film in chosen)
    return stream.getvalue()


def describe_plan(plan: Plan, bundle: Bundle) -> dict[str, Any]:
    """All that decides a run's results, as plain data; `plan.json` is this."""
    features = bundle.config.get("parts", {}).get("features", {})
    return {
        "suite": suite_data(plan.suite),
        **origin(),
        "cfkit": __version__,
        "torch": torch.__version__,
        "device": str(bundle.device),
        "bundle": bundle.name,
        "bundle_hash": bundle.hash,
        "features": features.get("of") or features.get("class", ""),
        "methods": {
            label: {"name": spec.name, "distribution": spec.distribution, "options": as_dict(options)}
            for label, (spec, options) in plan.specs.items()
        },
        "audited": list(plan.audited),
        "cases": len(plan.cases),
        "hash": plan.hash,
    }


def read_run(folder: Path) -> dict[str, Any]:
    """What `plan.json` says.

    Raises:
        UserError: The folder holds no run, or its plan cannot be read.
    """
    path = folder / "plan.json"
    try:
        told: dict[str, Any] = json.loads(path.read_text())
        suite_from(told["suite"])
    except OSError:
        raise UserError(f"{folder}: holds no plan.json, so it is no run of `cfkit bench`") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); begin a new run") from None
    return told


def print_plan(plan: Plan, dataset: Dataset, bundle: Bundle) -> None:
    """The cases by method, task and kind, and how long they would take if all took as long as one does."""
    console = Console()
    total = 0.0
    for label, (spec, options) in plan.specs.items():
        cases = [case for case in plan.cases if case.method == label]
        first = cases[0]
        film = at_size(dataset[plan.films[first.film]].image, bundle.image_size).unsqueeze(0)
        begun = time.perf_counter()
        try:
            import_target(spec.target)(bundle, options).edit(film.to(bundle.device), [first.intervention])
        except Exception as error:  # a stranger's method may raise anything
            raise UserError(f"--methods {label}: {describe_error(error, spec)}") from None
        seconds = time.perf_counter() - begun
        total += seconds * len(cases)
        console.print(f"{label}: {len(cases)} cases, {seconds:.1f} s for one film", highlight=False, markup=False)
        for task in dict.fromkeys(c.intervention for c in cases):
            for kind in dict.fromkeys(c.kind for c in cases if c.intervention == task):
                count = sum(c.intervention == task and c.kind == kind for c in cases)
                name = f"  {task.finding} {task.task}" + ("" if kind == "edit" else f" ({kind})")
                console.print(f"{name}: {count}", highlight=False, markup=False)
    console.print(f"{len(plan.cases)} cases, about {total / 60:.0f} minutes, less where batches pay", highlight=False)
