"""Edits of films that lie in files: read, edited together, measured, written with a record and a panel."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import __version__
from .anatomy import union_mask
from .bundles.bundle import Bundle
from .editor import Edit, Editor
from .files import write_beside
from .film import Film
from .findings import Intervention
from .images import put_back, write_png
from .mark import stamp
from .memory import peak_memory, reset_peak_memory
from .options import as_dict
from .outcome import check_edit, details_of, measure
from .panel import draw_panel, write_gif
from .specs import EditorSpec

NOTICE = "Synthetic counterfactual made by cfkit; not for clinical use."


@dataclass(frozen=True)
class Job:
    """One film of a run."""

    source: str
    stem: str
    film: Film
    factual: Tensor  # (1, S, S)


@dataclass(frozen=True)
class Run:
    """All that the films of a run have in common."""

    spec: EditorSpec
    options: Any
    editor: Editor
    bundle: Bundle
    intervention: Intervention
    out: Path
    seed: int = 0
    keep: tuple[int, ...] | None = None  # structures; the method decides where nothing is said
    keep_mask: Tensor | None = None  # (1, S, S)
    keep_identity: bool = False
    mark: bool = False


def results_of(out: Path, stem: str, film: Film) -> list[Path]:
    """The files that an edit of a film writes: the film, its panel, the way there and, last, the record."""
    first = "dcm" if film.dataset is not None else "png"
    return [out / f"{stem}.{kind}" for kind in (first, "panel.png", "gif", "json")]


def edit_batch(common: Run, jobs: list[Job], advance: Callable[[float], None]) -> list[dict[str, Any]]:
    """Edits films together and writes what belongs to each.

    Args:
        common: What they have in common.
        jobs: The films.
        advance: Called with the films done so far, in parts of one.

    Returns:
        Their records, as they are written.
    """
    begun = time.perf_counter()
    reset_peak_memory(common.bundle.device)
    bundle, interventions = common.bundle, [common.intervention] * len(jobs)
    images = torch.stack([job.factual for job in jobs]).to(bundle.device)
    masks = None
    if common.keep is not None:
        (segmenter,) = bundle.require("segmenter")
        with torch.no_grad():
            masks = union_mask(segmenter(images), common.keep)
    if common.keep_mask is not None:
        drawn = common.keep_mask.to(images.device).expand_as(images)
        masks = drawn if masks is None else torch.maximum(masks, drawn)
    edit = common.editor.edit(
        images,
        interventions,
        masks=masks,
        generators=[torch.Generator().manual_seed(common.seed) for _ in jobs],
        progress=lambda done, total: advance(len(jobs) * done / total),
    )
    check_edit(edit, images)
    seconds, memory = (time.perf_counter() - begun) / len(jobs), peak_memory(bundle.device)
    records = []
    for k, (job, measured) in enumerate(zip(jobs, measure(bundle, images, edit.images, interventions), strict=True)):
        record = {
            "input": job.source,
            "output": "",
            "finding": common.intervention.finding,
            "task": common.intervention.task,
            **measured,
            "details": details_of(edit, k),
            "method": common.spec.name,
            "distribution": common.spec.distribution,
            "options": as_dict(common.options),
            "bundle": bundle.name,
            "bundle_hash": bundle.hash,
            "input_sha256": hashlib.sha256(job.film.path.read_bytes()).hexdigest(),
            "seed": common.seed,
            "batch": len(jobs),
            "seconds": round(seconds, 3),
            "peak_memory_mb": memory,
            "device": str(bundle.device),
            "cfkit": __version__,
            "torch": torch.__version__,
            "notice": NOTICE,
        }
        _write(common, job, edit, k, record)
        records.append(record)
    return records


def _write(common: Run, job: Job, edit: Edit, k: int, record: dict[str, Any]) -> None:
    """Writes what belongs to film k of an edit."""
    edited = edit.images[k].cpu()
    mask, heatmap = (None if m is None else m[k, 0].cpu().numpy() for m in (edit.mask, edit.heatmap))
    pixels = put_back(job.film, job.factual, edited)
    if common.mark:
        pixels = stamp(job.film, pixels)
    verb = "with" if record["task"] == "synthesis" else "without"
    target, panel_path, way, record_path = results_of(common.out, job.stem, job.film)
    if job.film.dataset is not None:
        from .dicom import write_dicom

        description = f"{verb} {record['finding']}. {NOTICE}"
        write_dicom(target, job.film, pixels, description=description, keep_identity=common.keep_identity)
    else:
        write_png(target, pixels, text={"Description": NOTICE, "Software": f"cfkit {__version__}"})
    record["output"] = str(target)
    finding = record["finding"]
    lines = [
        f"{name}: P({finding}) {record[name]['before'][finding]:.2f} to {record[name]['after'][finding]:.2f}"
        for name in ("classifier", "judge")
        if name in record
    ]
    panel = draw_panel(
        job.factual[0].numpy(),
        edited[0].numpy(),
        mask,
        title=f"{job.stem} {verb} {record['finding']} ({record['method']})",
        lines=[";  ".join(lines)],
        heatmap=heatmap,
    )
    write_png(panel_path, panel, text={"Description": NOTICE})
    if edit.frames is not None and edit.frames.shape[1] > 1:
        write_gif(way, edit.frames[k, :, 0].cpu().numpy())
    text = json.dumps(record, indent=2) + "\n"
    write_beside(record_path, lambda part: part.write_text(text))  # last: it says that the rest is there
