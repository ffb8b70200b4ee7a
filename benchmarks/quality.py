"""Quality of a method where `cfkit bench` has no films: on validation patients and on held-out real films.

    python benchmarks/quality.py --option lr=0.001                             # to choose options
    python benchmarks/quality.py --real NIH_FOLDER --out benchmarks/results/quality-real.json

Each of the six tasks (three findings, removal and synthesis) takes the same patients. A virtual
patient's true counterfactual is known, so the error to it is measured; a real film's is not.
Options are chosen on the "validation" patients alone, which are rendered afresh; figures of the
"test" split, the one that ships, are the benchmark's.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import cfkit
from cfkit.data.virtual.patient import FINDINGS
from cfkit.outcome import measure
from cfkit.train.demo import describe_run
from cfkit.train.films import SPLITS


def figures_of(rows: list[dict[str, Any]], before: Tensor, after: Tensor, truth: Tensor | None) -> dict[str, float]:
    """Means over the films of a task."""
    means = {}
    for name in ("classifier", "judge"):
        means[f"{name}_flipped"] = np.mean([row[name]["flipped"] for row in rows])
        means[f"{name}_reached"] = np.mean([row[name]["reached"] for row in rows])
    means["clip"] = np.mean([row["clip"]["reached"] for row in rows])
    means["change"] = np.mean([row["change"]["mean"] for row in rows])
    means["bone_change"] = np.mean([row["change"]["inside_bones"] for row in rows])
    if truth is not None:
        error, none = ((x - truth).abs().mean((1, 2, 3)) for x in (after, before))
        means["truth_nearer"] = (error < none).float().mean()
        means["truth_error_ratio"] = (error / none).mean()
        made, wanted = (after - before).flatten(1), (truth - before).flatten(1)
        means["truth_cosine"] = torch.cosine_similarity(made, wanted).mean()
    return {key: round(float(value), 4) for key, value in means.items()}


@lru_cache
def validation_films(patients: int) -> Tensor:
    """Films of the first validation patients, (P, 4, H, W): without a finding and with each of the three."""
    from cfkit.data.virtual.render import render
    from cfkit.data.virtual.volume import load_anatomy

    seeds = range(SPLITS["validation"][0], SPLITS["validation"][0] + patients)
    rendered = [render(load_anatomy(), seed).films for seed in seeds]
    return torch.stack([torch.stack([torch.from_numpy(films[f]) for f in ("", *FINDINGS)]) for films in rendered])


def virtual_task(finding: str, present: bool, patients: int) -> tuple[Tensor, Tensor]:
    """Factuals and true counterfactuals of the first patients, both (N, 1, H, W)."""
    films = validation_films(patients)
    pair = films[:, 0].unsqueeze(1), films[:, 1 + FINDINGS.index(finding)].unsqueeze(1)
    return pair if present else (pair[1], pair[0])


def real_films(folder: Path) -> Tensor:
    """Held-out real films at 256 px, (N, 1, 256, 256)."""
    from cfkit.train.real import read_real

    return torch.from_numpy(read_real(folder, "test", small=False).films).unsqueeze(1).float() / 255.0


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", default="ours")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--real", type=Path, help="folder of NIH films with labels.csv; its held-out patients are used")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--tasks", default="", help="such as 'Cardiomegaly removal,Atelectasis synthesis'")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheet", type=Path, help="a picture of the first films of each task")
    given = parser.parse_args()
    run = describe_run()  # now: the commit may move on while it runs
    bundle = cfkit.load_bundle(given.bundle)
    editor = cfkit.load_editor(given.method, bundle=bundle, **dict(map(_option, given.option)))
    tasks: dict[str, dict[str, float]] = {}
    sheet = []
    for finding, present in ((f, p) for f in FINDINGS for p in (False, True)):
        intervention = cfkit.Intervention(finding, present)
        name = f"{finding} {intervention.task}"
        if given.tasks and name not in given.tasks.split(","):
            continue
        truth: Tensor | None
        if given.real:
            images, truth = real_films(given.real), None
            k = list(bundle.classifier.findings).index(finding)
            images = images[(bundle.classifier(images)[:, k] > 0) != present]  # what is to be changed
            if not len(images):
                continue
        else:
            images, truth = virtual_task(finding, present, given.patients)
        begun = time.perf_counter()
        parts = images.split(given.batch)
        after = torch.cat([editor.edit(part, [intervention] * len(part)).images.cpu() for part in parts])
        seconds = round((time.perf_counter() - begun) / len(images), 3)
        rows = measure(bundle, images, after, [intervention] * len(images))
        tasks[name] = {**figures_of(rows, images, after, truth), "films": len(images), "seconds": seconds}
        print(name, json.dumps(tasks[name]), flush=True)
        for k in range(min(3, len(images))):
            tiles = [images[k, 0], after[k, 0], *([truth[k, 0]] if truth is not None else [])]
            tiles.append(((after[k, 0] - images[k, 0]) * 2 + 0.5).clamp(0, 1))
            sheet.append(torch.cat(tiles, dim=1))
    weights = [task["films"] for task in tasks.values()] if given.real else None  # real tasks differ in number
    keys = [k for k in next(iter(tasks.values())) if k != "films"]
    mean = {k: round(float(np.average([task[k] for task in tasks.values()], weights=weights)), 4) for k in keys}
    print("mean", json.dumps(mean))
    if given.sheet:
        Image.fromarray((torch.cat(sheet).numpy() * 255).astype(np.uint8)).save(given.sheet)
    if given.out:
        films = "real, held out" if given.real else "virtual, validation"
        record = {
            "method": given.method, "bundle": given.bundle, "bundle_hash": bundle.hash, "options": vars(editor.options),
            "films": films, "mean": mean, "tasks": tasks, "run": run,
        }  # fmt: skip
        given.out.write_text(json.dumps(record, indent=1) + "\n")


def _option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


if __name__ == "__main__":
    main()
