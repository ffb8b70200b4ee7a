"""What `cfkit edit` does once its arguments are known to be good."""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from .. import __version__
from ..anatomy import parse_structures, union_mask
from ..bundles.bundle import Bundle, load_bundle
from ..editor import Edit, Editor
from ..errors import UserError
from ..findings import Intervention, canonical
from ..images import Film, put_back, read_film, write_beside, write_png
from ..options import as_dict, resolve
from ..panel import draw_panel
from ..specs import EditorSpec, import_target

Advance = Callable[[float], None]
NOTICE = "Synthetic counterfactual made by cfkit; not for clinical use."


@dataclass(frozen=True)
class Job:
    """One film of a run."""

    source: str
    stem: str
    film: Film
    factual: Tensor  # (1, S, S)


def run(spec: EditorSpec, options: dict[str, Any], intervention: Intervention, values: dict[str, Any]) -> int:
    """Edits every film that can be read and writes what belongs to it.

    Returns:
        How many films failed.
    """
    out = Path(values["out"])
    _check_writable(out)
    keep = parse_structures(values["keep"]) if values["keep"] else None
    bundle = load_bundle(values["bundle"], device=values["device"])
    (classifier,) = bundle.require("classifier")
    intervention = Intervention(canonical(intervention.finding, tuple(classifier.findings)), intervention.present)
    jobs, failures = _read_jobs(values["images"], out, bundle.image_size, values["any_shape"])
    for line in failures:
        print(f"cfkit: {line}", file=sys.stderr)
    chosen = resolve(spec.options, options, recommended=bundle.recommended.get(spec.name), method=spec.name)
    records: list[dict[str, Any]] = []
    failed = len(failures)
    if jobs:
        editor: Editor = import_target(spec.target)(bundle, chosen)
        with _progress(len(jobs)) as advance:
            for first in range(0, len(jobs), values["batch_size"]):
                batch = jobs[first : first + values["batch_size"]]
                try:
                    records += _edit_batch(
                        editor,
                        spec,
                        chosen,
                        bundle,
                        batch,
                        intervention,
                        values["seed"],
                        keep,
                        out,
                        partial(_from, advance, first),
                    )
                except UserError as error:
                    for job in batch:
                        print(f"cfkit: {job.source}: {error}", file=sys.stderr)
                    failed += len(batch)
                except Exception as error:  # a stranger's method may raise anything
                    for job in batch:
                        print(
                            f"cfkit: {job.source}: method '{spec.name}' of {spec.distribution} failed: "
                            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
                            file=sys.stderr,
                        )
                    failed += len(batch)
    if values["as_json"]:
        print(json.dumps(records, indent=2))
    elif records:
        _print_table(records, out)
    return failed


def _from(advance: Advance, first: int, done: float) -> None:
    advance(first + done)


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


def _edit_batch(
    editor: Editor,
    spec: EditorSpec,
    options: Any,
    bundle: Bundle,
    jobs: list[Job],
    intervention: Intervention,
    seed: int,
    keep: tuple[int, ...] | None,
    out: Path,
    advance: Advance,
) -> list[dict[str, Any]]:
    begun = time.perf_counter()
    images = torch.stack([job.factual for job in jobs]).to(bundle.device)
    with torch.no_grad():
        structures = bundle.segmenter(images) if bundle.segmenter is not None else None
    masks = None
    if keep is not None:
        if structures is None:
            bundle.require("segmenter")
        masks = union_mask(structures, keep)  # type: ignore[arg-type]
    edit = editor.edit(
        images,
        [intervention] * len(jobs),
        masks=masks,
        generators=[torch.Generator().manual_seed(seed) for _ in jobs],
        progress=lambda done, total: advance(len(jobs) * done / total),
    )
    check_edit(edit, images)
    seconds = (time.perf_counter() - begun) / len(jobs)
    measured = _measure(bundle, images, edit, structures, intervention)
    records = []
    for k, job in enumerate(jobs):
        record = {
            "input": job.source,
            "output": "",
            "finding": intervention.finding,
            "task": intervention.task,
            **measured[k],
            "method": spec.name,
            "distribution": spec.distribution,
            "options": as_dict(options),
            "bundle": bundle.name,
            "bundle_hash": bundle.hash,
            "input_sha256": hashlib.sha256(job.film.path.read_bytes()).hexdigest(),
            "seed": seed,
            "batch": len(jobs),
            "seconds": round(seconds, 3),
            "peak_memory_mb": _peak_memory(bundle.device),
            "device": str(bundle.device),
            "cfkit": __version__,
            "torch": torch.__version__,
            "notice": NOTICE,
        }
        _write(job, edit.images[k].cpu(), None if edit.mask is None else edit.mask[k, 0].cpu().numpy(), record, out)
        records.append(record)
    return records


def check_edit(edit: Edit, images: Tensor) -> None:
    """Refuses what no method may return: another shape, NaN, values outside [0, 1].

    Raises:
        ValueError: What is wrong.
    """
    if edit.images.shape != images.shape:
        raise ValueError(f"returned images of shape {tuple(edit.images.shape)} for {tuple(images.shape)}")
    if not edit.images.isfinite().all():
        raise ValueError("returned NaN or infinite pixels")
    if float(edit.images.min()) < 0.0 or float(edit.images.max()) > 1.0:
        raise ValueError("returned values outside [0, 1]")


@torch.no_grad()
def _measure(
    bundle: Bundle, images: Tensor, edit: Edit, structures: Tensor | None, intervention: Intervention
) -> list[dict[str, Any]]:
    """Probabilities before and after, and change inside and outside the bones, a film each."""
    rows: list[dict[str, Any]] = [{} for _ in images]
    edited = edit.images.to(images.device)
    for name in ("classifier", "judge"):
        model = getattr(bundle, name)
        if model is None or intervention.finding not in model.findings:
            continue
        before, after = (torch.sigmoid(model(x)).cpu() for x in (images, edited))
        wanted = list(model.findings).index(intervention.finding)
        for k, row in enumerate(rows):
            row[name] = {
                "before": {f: round(float(before[k, i]), 4) for i, f in enumerate(model.findings)},
                "after": {f: round(float(after[k, i]), 4) for i, f in enumerate(model.findings)},
                "reached": bool((after[k, wanted] > 0.5) == intervention.present),
                "flipped": bool((before[k, wanted] > 0.5) != intervention.present)
                and bool((after[k, wanted] > 0.5) == intervention.present),
            }
    change = (edited - images).abs()
    bones = union_mask(structures) if structures is not None else None
    for k, row in enumerate(rows):
        row["change"] = {"mean": _mean(change[k])}
        if bones is not None:
            row["change"] |= {
                "inside_bones": _mean(change[k][bones[k] > 0.5]),
                "outside_bones": _mean(change[k][bones[k] <= 0.5]),
            }
    return rows


def _mean(values: Tensor) -> float | None:
    return round(float(values.mean()), 5) if values.numel() else None


def _peak_memory(device: torch.device) -> int:
    """Megabytes: of the device where it counts them, else of the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak / (2**20 if sys.platform == "darwin" else 2**10))


def _write(job: Job, edited: Tensor, mask: np.ndarray | None, record: dict[str, Any], out: Path) -> None:
    pixels = put_back(job.film, job.factual, edited)
    verb = "with" if record["task"] == "synthesis" else "without"
    if job.film.dataset is not None:
        from ..dicom import write_dicom

        target = out / f"{job.stem}.dcm"
        write_dicom(target, job.film, pixels, description=f"{verb} {record['finding']}. {NOTICE}")
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
    )
    write_png(out / f"{job.stem}.panel.png", panel, text={"Description": NOTICE})
    text = json.dumps(record, indent=2) + "\n"
    write_beside(out / f"{job.stem}.json", lambda part: part.write_text(text))  # last: it says that the rest is there


@contextmanager
def _progress(films: int) -> Iterator[Advance]:
    """A bar on a terminal, a line every ten seconds elsewhere, both on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = time.monotonic()

        def say(done: float) -> None:
            nonlocal last
            if time.monotonic() - last > 10:
                last = time.monotonic()
                print(f"{done:.1f} of {films} films", file=sys.stderr, flush=True)

        yield say
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"editing {films} film{'s' if films > 1 else ''}", total=float(films))
        yield lambda done: bar.update(task, completed=done)


def _print_table(records: list[dict[str, Any]], out: Path) -> None:
    first = records[0]
    table = Table(title=f"{first['task']} of {first['finding']}: probability before and after", title_justify="left")
    names = [name for name in ("classifier", "judge") if name in first]
    for column in ("film", *names, "change in bones", "elsewhere", "seconds"):
        table.add_column(column, justify="left" if column == "film" else "right")
    for record in records:
        cells = [escape(Path(record["output"]).stem)]
        for name in names:
            before, after = (record[name][k][record["finding"]] for k in ("before", "after"))
            cells.append(f"{before:.2f} to {after:.2f}")
        for key in ("inside_bones", "outside_bones"):
            value = record["change"].get(key)
            cells.append("" if value is None else f"{value:.4f}")
        table.add_row(*cells, f"{record['seconds']:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"{len(records)} film{'s' if len(records) > 1 else ''} in {escape(str(out))}; not for clinical use.",
        highlight=False,
    )
