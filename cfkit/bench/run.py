"""Runs the cases of a plan; a row is stored when its batch ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..bundles.bundle import Bundle
from ..data.sample import Dataset, Sample, at_size
from ..editor import Editor
from ..errors import is_out_of_memory
from ..memory import give_back_freed_memory, peak_memory, reset_peak_memory
from ..outcome import check_edit, describe_error, details_of
from ..specs import EditorSpec, import_target
from .columns import asked_columns, choose_metrics, describe_edits, describe_films
from .plan import Case, Plan
from .store import CaseRow, FilmRow, Store, masks_png, png_bytes
from .suite import Suite

FILMS_AT_ONCE = 16
REFERENCES = 2000


@dataclass(frozen=True)
class Work:
    """A batch with its films, (N, 1, S, S) in [0, 1]."""

    cases: Sequence[Case]
    images: Tensor


@dataclass(frozen=True)
class Done:
    """A finished batch: its rows and their images as PNG, by name."""

    rows: list[CaseRow]
    images: dict[str, bytes]


Engine = Callable[[Iterable[Work]], Iterator[Done]]  # edits batches, in any order


class Worker:
    """Edits batches with models that are loaded once."""

    def __init__(self, bundle: Bundle, suite: Suite, specs: dict[str, tuple[EditorSpec, Any]]):
        self.bundle, self.specs = bundle, specs
        self.audited = suite.load_audited(bundle.device)
        self.asked = asked_columns(choose_metrics(suite.metrics))
        self._editors: dict[str, Editor] = {}
        self._last = ""

    def run(self, work: Work) -> Done:
        """Edits a batch. Out of memory halves it; whatever else fails, each film is tried alone."""
        spec, _ = self.specs[work.cases[0].method]
        begun = time.perf_counter()
        try:
            return self._edit(work)
        except Exception as error:  # a stranger's method may raise anything
            count = len(work.cases)
            if count == 1:
                seconds = time.perf_counter() - begun
                return Done([_row(work.cases[0], error=describe_error(error, spec), seconds=seconds)], {})
            size = -(-count // 2) if is_out_of_memory(error) else 1
        if self.bundle.device.type == "cuda":
            torch.cuda.empty_cache()
        parts = [self.run(Work(work.cases[k : k + size], work.images[k : k + size])) for k in range(0, count, size)]
        images = {name: png for part in parts for name, png in part.images.items()}
        return Done([row for part in parts for row in part.rows], images)

    def _edit(self, work: Work) -> Done:
        label = work.cases[0].method
        spec, options = self.specs[label]
        if label not in self._editors:
            self._editors[label] = import_target(spec.target)(self.bundle, options)
        if label != self._last:
            give_back_freed_memory()  # the last method's is no part of this one's peak
            self._last = label
        reset_peak_memory(self.bundle.device)
        begun = time.perf_counter()
        images = work.images.to(self.bundle.device)
        interventions = [case.intervention for case in work.cases]
        generators = [torch.Generator().manual_seed(case.seed) for case in work.cases]
        edit = self._editors[label].edit(images, interventions, generators=generators)
        check_edit(edit, images)
        seconds = (time.perf_counter() - begun) / len(work.cases)
        memory = peak_memory(self.bundle.device)
        edits = edit.images.float().cpu()
        columns = {}
        if work.cases[0].kind == "edit":
            columns = describe_edits(self.bundle, images, edits, interventions, self.audited, self.asked)
        rows = [
            _row(
                case,
                seconds=seconds,
                peak_mb=memory,
                record=details_of(edit, k),
                arrays={name: value[k].clone() for name, value in columns.items()},
            )
            for k, case in enumerate(work.cases)
        ]
        return Done(rows, {case.key: png_bytes(edits[k]) for k, case in enumerate(work.cases)})


def _row(case: Case, **values: Any) -> CaseRow:
    i = case.intervention
    return CaseRow(case.key, case.method, case.kind, case.film, i.finding, i.present, case.seed, **values)


def failed_batch(work: Work, error: str) -> Done:
    """A batch of which no film could be edited."""
    return Done([_row(case, error=error) for case in work.cases], {})


def run_plan(
    plan: Plan,
    dataset: Dataset,
    store: Store,
    bundle: Bundle,
    *,
    engine: Engine | None = None,
    advance: Callable[[str, int, float], None] = lambda label, cases, seconds: None,
) -> None:
    """Runs every case that has no row yet, or whose row says that it failed.

    Batches are those of the plan and a batch's rows are stored at once, so that a run that was stopped and
    resumed edits the same films together as one that was not, and gives the same pixels. What has a good row
    keeps it, whatever becomes of its batch when another of it is tried again.

    Args:
        engine: What edits the batches; None does so here, one after another.
        advance: Called with a method's label, cases that ended, and the seconds that they took.
    """
    engine = engine or partial(map, Worker(bundle, plan.suite, plan.specs).run)
    add_films(plan, dataset, store, bundle)
    finished = store.finished(failed=False)
    for case in plan.cases:
        if case.key in finished:
            advance(case.method, 1, 0.0)
    for kinds in (("edit", "null"), ("reverse",)):  # an edit is taken back when it is there
        waiting = [
            batch
            for batch in plan.batches()
            if batch[0].kind in kinds and any(case.key not in finished for case in batch)
        ]
        for done in engine(_works(waiting, store, advance)) if waiting else ():
            rows = [row for row in done.rows if row.key not in finished]
            store.add_cases(rows, {row.key: done.images[row.key] for row in rows if row.key in done.images})
            advance(done.rows[0].method, len(rows), sum(row.seconds for row in rows))


def _works(
    batches: Iterable[Sequence[Case]], store: Store, advance: Callable[[str, int, float], None]
) -> Iterator[Work]:
    """Batches with their films; a case whose own source failed gets its row here and goes no further."""
    for batch in batches:
        films, cases = [], []
        for case in batch:
            if case.source and not store.image_path(case.source).exists():
                store.add_cases([_row(case, error="the edit that was to be taken back failed")], {})
                advance(case.method, 1, 0.0)
                continue
            cases.append(case)
            films.append(store.read_image(case.source or case.film))
        if cases:
            yield Work(cases, torch.stack(films))


def add_films(plan: Plan, dataset: Dataset, store: Store, bundle: Bundle) -> None:
    """Stores the plan's films with what models say of them.

    Where a metric asks for a reference, as the Fréchet distance does, so are the first `REFERENCES` other films
    of the data set's index, without their pixels.
    """
    audited = plan.suite.load_audited(bundle.device)
    names, there = [entry.name for entry in dataset.entries()], store.films()
    wanted = list(plan.films.values())
    if "reference" in asked_columns(choose_metrics(plan.suite.metrics)):
        wanted += [k for k, name in enumerate(names) if name not in plan.films][:REFERENCES]
    wanted = [k for k in wanted if names[k] not in there]
    for first in range(0, len(wanted), FILMS_AT_ONCE):
        samples = [dataset[k] for k in wanted[first : first + FILMS_AT_ONCE]]
        size = bundle.image_size
        films = torch.stack([at_size(sample.image, size) for sample in samples])
        said = describe_films(bundle, films, audited)
        for k, (sample, film) in enumerate(zip(samples, films, strict=True)):
            arrays = {name: value[k].clone() for name, value in said.items()}
            images: dict[str, bytes] = {}
            if sample.name in plan.films:
                images = {sample.name: png_bytes(film)}
                structures = _structures(sample, film, bundle)
                if structures is not None:
                    images[structures_name(sample.name)] = masks_png(structures)
                for finding, truth in sample.counterfactuals.items():
                    images[truth_name(sample.name, finding)] = png_bytes(at_size(truth, size))
            store.add_film(FilmRow(sample.name, sample.patient, dict(sample.findings), arrays), images)


def truth_name(film: str, finding: str) -> str:
    """The image name of a film's true counterfactual."""
    return f"{film}.{finding.lower().replace(' ', '-')}"


def structures_name(film: str) -> str:
    """The image name of a film's structures."""
    return f"{film}.structures"


@torch.no_grad()
def _structures(sample: Sample, film: Tensor, bundle: Bundle) -> Tensor | None:
    """The 14 structures, (14, S, S) bool: the data set's where it has them, else the segmenter's, else None."""
    if sample.structures is not None:
        return at_size(sample.structures.float(), film.shape[-1]) > 0.5
    if bundle.segmenter is None:
        return None
    probabilities: Tensor = bundle.segmenter(film.unsqueeze(0).to(bundle.device))[0].cpu()
    return probabilities > 0.5
