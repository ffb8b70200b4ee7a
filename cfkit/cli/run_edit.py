"""What `cfkit edit` does once its arguments are known to be good."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..anatomy import parse_structures
from ..bundles.bundle import load_bundle
from ..editing import Job, Run, edit_batch
from ..editor import Editor
from ..errors import UserError, is_out_of_memory
from ..findings import Intervention, canonical
from ..images import Film, read_film, read_mask, remove_leftovers
from ..options import resolve
from ..outcome import describe_error
from ..specs import EditorSpec, import_target
from .display import Advance, print_table, show_progress


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
            out,
            seed=values["seed"],
            keep=keep,
            keep_mask=keep_mask,
            keep_identity=values["keep_identity"],
            mark=values["mark"],
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
        return edit_batch(common, jobs, advance)
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
        remove_leftovers(out)
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
