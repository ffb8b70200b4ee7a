"""What `cfkit edit` does once its arguments are known to be good."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from ..anatomy import parse_structures
from ..bundles.bundle import load_bundle
from ..editing import Job, Run, edit_batch, results_of
from ..editor import Editor
from ..errors import UserError, is_out_of_memory
from ..files import remove_leftovers
from ..findings import Intervention, canonical
from ..images import read_film, read_mask
from ..outcome import describe_error
from ..plugins import options_on
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
    sources = list(dict.fromkeys(values["images"]))
    jobs = _read_jobs(sources, out, bundle.image_size, values["any_shape"])
    records: list[dict[str, Any]] = []
    first = next(jobs, None)
    if first is not None:
        chosen = options_on(spec, bundle, options)
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
        with show_progress(len(sources)) as advance:
            for batch in batched(chain([first], jobs), values["batch_size"]):
                records += _edit(this, [job for _, job in batch], partial(_from, advance, batch[0][0]))
    if values["as_json"]:
        print(json.dumps(records, indent=2))
    elif records:
        print_table(records, out)
    return len(sources) - len(records)


def batched(jobs: Iterator[tuple[int, Job]], size: int) -> Iterator[list[tuple[int, Job]]]:
    """Lists of at most `size`, each made when it is asked for, so that no more films are held than are edited."""
    while batch := list(islice(jobs, size)):
        yield batch


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


def _read_jobs(sources: Sequence[str], out: Path, size: int, any_shape: bool) -> Iterator[tuple[int, Job]]:
    """Each film that can be read with its place among the sources, when it is asked for; the others are told.

    Two of one name get their folders' names too, so that none is lost.
    """
    taken: set[str] = set()
    originals = {Path(source).resolve() for source in sources}
    for place, source in enumerate(sources):
        try:
            film = read_film(source, any_shape=any_shape)
            stem = _stem(film.path, taken)
            for target in results_of(out, stem, film):
                if target.resolve() in {*originals, film.path.resolve()}:  # a sample's path is not its name
                    raise UserError(f"{source}: would overwrite the original {target}; choose another folder with -o")
        except UserError as error:
            _complain(str(error))
            continue
        yield place, Job(source, stem, film, film.working(size))


def _stem(path: Path, taken: set[str]) -> str:
    """The name that a film's results get, one that none has yet."""
    stem = path.stem
    if stem in taken:
        stem = f"{path.resolve().parent.name}_{stem}"
    number = 2
    while stem in taken:
        stem, number = f"{path.stem}_{number}", number + 1
    taken.add(stem)
    return stem
