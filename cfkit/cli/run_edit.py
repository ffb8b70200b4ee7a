"""What `cfkit edit` does once its arguments are known to be good."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import __version__
from ..anatomy import parse_structures, union_mask
from ..bundles.bundle import Bundle, load_bundle
from ..editor import Edit, Editor
from ..errors import UserError
from ..findings import Intervention, canonical
from ..images import Film, put_back, read_film, read_mask, write_beside, write_png
from ..mark import stamp
from ..options import as_dict, resolve
from ..outcome import check_edit, describe_error, details_of, is_out_of_memory, measure, peak_memory
from ..panel import draw_panel, write_gif
from ..specs import EditorSpec, import_target
from .display import Advance, print_table, show_progress

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
    seed: int
    keep: tuple[int, ...] | None
    keep_mask: Tensor | None  # (1, S, S)
    out: Path
    keep_identity: bool
    mark: bool


def run(spec: EditorSpec, options: dict[str, Any], intervention: Intervention, values: dict[str, Any]) -> int:
    """Edits every film that can be read and writes what belongs to it.

    Returns:
        How many films failed.
    """
    out = Path(values["out"])
    _check_writable(out)
    keep = parse_structures(values["keep"]) if values["keep"] else None
    bundle = load_bundle(values["bundle"], device=values["device"])
    keep_mask = read_mask(values["keep_mask"], bundle.image_size) if values["keep_mask"] else None
    (classifier,) = bundle.require("classifier")
    intervention = Intervention(canonical(intervention.finding, tuple(classifier.findings)), intervention.present)
    jobs, failures = _read_jobs(values["images"], out, bundle.image_size, values["any_shape"])
    for line in failures:
        _complain(line)
    records: list[dict[str, Any]] = []
    if jobs:
        chosen = resolve(spec.options, options, recommended=bundle.recommended.get(spec.name), method=spec.name)
        editor: Editor = import_target(spec.target)(bundle, chosen)
        this = Run(
            spec,
            chosen,
            editor,
            bundle,
            intervention,
            values["seed"],
            keep,
            keep_mask,
            out,
            values["keep_identity"],
            values["mark"],
        )
        size = values["batch_size"]
        with show_progress(len(jobs)) as advance:
            for first in range(0, len(jobs), size):
                records += _edit(this, jobs[first : first + size], partial(_from, advance, first))
    if values["as_json"]:
        print(json.dumps(records, indent=2))
    elif records:
        print_table(records, out)
    return len(failures) + len(jobs) - len(records)


def _from(advance: Advance, first: int, done: float) -> None:
    advance(first + done)


def _complain(line: str) -> None:
    print(f"cfkit: {line}", file=sys.stderr)


def _edit(common: Run, jobs: list[Job], advance: Advance) -> list[dict[str, Any]]:
    """Records of the films that could be edited.

    Out of memory halves a batch; of a batch that fails otherwise each film is tried alone.
    """
    try:
        return _edit_batch(common, jobs, advance)
    except Exception as error:  # a stranger's method may raise anything
        if len(jobs) > 1:
            size = -(-len(jobs) // 2) if is_out_of_memory(error) else 1
            parts = range(0, len(jobs), size)
            return [r for k in parts for r in _edit(common, jobs[k : k + size], partial(_from, advance, k))]
        _complain(f"{jobs[0].source}: {describe_error(error, common.spec)}")
        return []


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".cfkit-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"-o {out}: cannot be written ({error.strerror}); choose another folder") from None


def _read_jobs(sources: Sequence[str], out: Path, size: int, any_shape: bool) -> tuple[list[Job], list[str]]:
    """Reads the films; two of one name get their folders' names too, so that none is lost."""
    films: list[tuple[str, Film]] = []
    failures: list[str] = []
    for source in dict.fromkeys(sources):
        try:
            films.append((source, read_film(source, any_shape=any_shape)))
        except UserError as error:
            failures.append(str(error))
    jobs: list[Job] = []
    taken: set[str] = set()
    for source, film in films:
        stem = film.path.stem
        if stem in taken:
            stem = f"{film.path.resolve().parent.name}_{stem}"
        number = 2
        while stem in taken:
            stem, number = f"{film.path.stem}_{number}", number + 1
        taken.add(stem)
        target = out / f"{stem}{'.dcm' if film.dataset is not None else '.png'}"
        if target.resolve() == film.path.resolve():
            failures.append(f"{source}: -o {out} would overwrite the original; choose another folder")
            continue
        jobs.append(Job(source, stem, film, film.working(size)))
    return jobs, failures


def _edit_batch(common: Run, jobs: list[Job], advance: Advance) -> list[dict[str, Any]]:
    begun = time.perf_counter()
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
    seconds = (time.perf_counter() - begun) / len(jobs)
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
            "peak_memory_mb": peak_memory(bundle.device),
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
    out = common.out
    edited = edit.images[k].cpu()
    mask, heatmap = (None if m is None else m[k, 0].cpu().numpy() for m in (edit.mask, edit.heatmap))
    pixels = put_back(job.film, job.factual, edited)
    if common.mark:
        pixels = stamp(job.film, pixels)
    verb = "with" if record["task"] == "synthesis" else "without"
    if job.film.dataset is not None:
        from ..dicom import write_dicom

        target = out / f"{job.stem}.dcm"
        description = f"{verb} {record['finding']}. {NOTICE}"
        write_dicom(target, job.film, pixels, description=description, keep_identity=common.keep_identity)
    else:
        target = out / f"{job.stem}.png"
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
    write_png(out / f"{job.stem}.panel.png", panel, text={"Description": NOTICE})
    if edit.frames is not None and edit.frames.shape[1] > 1:
        write_gif(out / f"{job.stem}.gif", edit.frames[k, :, 0].cpu().numpy())
    text = json.dumps(record, indent=2) + "\n"
    write_beside(out / f"{job.stem}.json", lambda part: part.write_text(text))  # last: it says that the rest is there
