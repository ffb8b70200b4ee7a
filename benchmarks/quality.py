"""Quality of a method on the shipped virtual patients, and on real films where a folder is given.

    python benchmarks/quality.py --method ours --patients 32 --out benchmarks/results/quality.json

Each of the six tasks (three findings, removal and synthesis) takes the same patients. A virtual
patient's true counterfactual is known, so the error to it is measured; a real film's is not.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import cfkit
from cfkit.anatomy import union_mask
from cfkit.bundles.bundle import Bundle
from cfkit.data.dataset import virtual_split
from cfkit.data.virtual.patient import FINDINGS
from cfkit.train.demo import describe_run


def outcomes(bundle: Bundle, before: Tensor, after: Tensor, finding: str, present: bool) -> dict[str, np.ndarray]:
    """Per film: whether classifier, judge and CLIP see the target, and how much changed in the bones."""
    rows: dict[str, np.ndarray] = {}
    for name in ("classifier", "judge"):
        model = getattr(bundle, name)
        k = list(model.findings).index(finding)
        was, now = ((model(x)[:, k] > 0) == present for x in (before, after))
        rows[f"{name}_reached"] = now.numpy()
        rows[f"{name}_flipped"] = (now & ~was).numpy()
        rows[f"{name}_wrong_before"] = (~was).numpy()
    features = bundle.clip.image_features(after)
    positive, negative = bundle.clip.text_features([finding, f"No {finding}"])
    rows["clip"] = ((features @ (positive - negative) > 0) == present).numpy()
    bones = union_mask(bundle.segmenter(before))
    change = (after - before).abs()
    rows["bone_change"] = ((change * bones).sum((1, 2, 3)) / bones.sum((1, 2, 3)).clamp(min=1)).numpy()
    rows["change"] = change.mean((1, 2, 3)).numpy()
    return rows


@torch.no_grad()
def run_task(
    editor: Any, bundle: Bundle, images: Tensor, truth: Tensor | None, finding: str, present: bool, batch: int
) -> tuple[dict[str, float], Tensor]:
    """One task: its figures, and the edited films."""
    begun = time.perf_counter()
    edited = []
    for part in images.split(batch):
        interventions = [cfkit.Intervention(finding, present)] * len(part)
        generators = [torch.Generator().manual_seed(0) for _ in part]
        edited.append(editor.edit(part, interventions, generators=generators).images.cpu())
    after = torch.cat(edited)
    seconds = (time.perf_counter() - begun) / len(images)
    rows = outcomes(bundle, images, after, finding, present)
    figures = {key: float(value.mean()) for key, value in rows.items()}
    if truth is not None:
        error = (after - truth).abs().mean((1, 2, 3))
        none = (images - truth).abs().mean((1, 2, 3))
        figures["truth_nearer"] = float((error < none).float().mean())
        figures["truth_error_ratio"] = float((error / none).mean())
    return {**figures, "films": len(images), "seconds": round(seconds, 3)}, after


def virtual_task(finding: str, present: bool, patients: int) -> tuple[Tensor, Tensor]:
    """Factuals and true counterfactuals of the first patients, both (N, 1, H, W)."""
    split = virtual_split()
    variant = 0 if present else 1 + FINDINGS.index(finding)
    samples = [split[4 * k + variant] for k in range(patients)]
    return torch.stack([s.image for s in samples]), torch.stack([s.counterfactuals[finding] for s in samples])


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
    options = {}
    for text in given.option:
        key, _, value = text.partition("=")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    editor = cfkit.load_editor(given.method, bundle=given.bundle, device="auto", **options)
    bundle = cfkit.load_bundle(given.bundle, device="cpu")
    tasks: dict[str, dict[str, float]] = {}
    sheet = []
    for finding in FINDINGS:
        for present in (False, True):
            name = f"{finding} {'synthesis' if present else 'removal'}"
            if given.tasks and name not in given.tasks.split(","):
                continue
            truth: Tensor | None
            if given.real:
                images, truth = real_films(given.real), None
                with torch.no_grad():
                    k = list(bundle.classifier.findings).index(finding)
                    images = images[(bundle.classifier(images)[:, k] > 0) != present]  # what is to be changed
                if not len(images):
                    continue
            else:
                images, truth = virtual_task(finding, present, given.patients)
            tasks[name], after = run_task(editor, bundle, images, truth, finding, present, given.batch)
            print(name, json.dumps({k: round(v, 3) for k, v in tasks[name].items()}), flush=True)
            for k in range(min(3, len(images))):
                tiles = [images[k, 0], after[k, 0], *([truth[k, 0]] if truth is not None else [])]
                tiles.append(((after[k, 0] - images[k, 0]) * 2 + 0.5).clamp(0, 1))
                sheet.append(torch.cat(tiles, dim=1))
    weights = np.array([task["films"] for task in tasks.values()]) if given.real else np.ones(len(tasks))
    keys = [k for k in next(iter(tasks.values())) if k != "films"]
    mean = {k: float(np.average([task[k] for task in tasks.values()], weights=weights)) for k in keys}
    print("mean", json.dumps({k: round(v, 3) for k, v in mean.items()}))
    if given.sheet:
        Image.fromarray((torch.cat(sheet).numpy() * 255).astype(np.uint8)).save(given.sheet)
    if given.out:
        record = {
            "method": given.method, "bundle": given.bundle, "bundle_hash": bundle.hash, "options": vars(editor.options),
            "films": "real, held out" if given.real else "virtual", "mean": mean, "tasks": tasks,
            "run": describe_run(), "machine": platform.platform(),
        }  # fmt: skip
        given.out.write_text(json.dumps(record, indent=1) + "\n")


def real_films(folder: Path) -> Tensor:
    """Held-out real films at 256 px, (N, 1, 256, 256)."""
    from cfkit.train.real import read_real

    return torch.from_numpy(read_real(folder, "test", small=False).films).unsqueeze(1).float() / 255.0


if __name__ == "__main__":
    main()
