"""The cases of a benchmark, each with the hash of all that decides its result."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..bundles.bundle import Bundle
from ..data.sample import Dataset, Entry
from ..errors import UserError
from ..findings import Intervention
from ..options import as_dict
from ..plugins import find_editor, options_on
from ..specs import EditorSpec
from .suite import Suite, task_list


@dataclass(frozen=True)
class Case:
    """One edit. `source` is the key of the case whose edit is taken back, for the kind "reverse"."""

    key: str
    method: str
    kind: str
    film: str
    intervention: Intervention
    seed: int
    source: str = ""


@dataclass(frozen=True)
class Plan:
    """A suite with all that decides its results.

    Attributes:
        suite: What was asked for.
        specs: By label, the method's spec and its resolved options.
        films: Index in the data set by film name.
        cases: Every case, in the order in which they run; those of one batch follow each other.
        audited: Findings of the classifier that is audited, if any.
    """

    suite: Suite
    specs: dict[str, tuple[EditorSpec, Any]]
    films: dict[str, int]
    cases: tuple[Case, ...]
    audited: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Of all cases in their order."""
        return hashlib.sha256(" ".join(case.key for case in self.cases).encode()).hexdigest()[:24]

    def batches(self) -> Iterator[list[Case]]:
        """Cases that are edited together: one method, task, kind and seed."""
        batch: list[Case] = []
        for case in self.cases:
            alike = batch and _group(batch[0]) == _group(case)
            if batch and (not alike or len(batch) == self.suite.batch_size):
                yield batch
                batch = []
            batch.append(case)
        if batch:
            yield batch


def _group(case: Case) -> tuple[Any, ...]:
    return case.method, case.kind, case.intervention.finding, case.intervention.present, case.seed


def make_plan(suite: Suite, dataset: Dataset, bundle: Bundle) -> Plan:
    """Every case of a suite.

    Films of a task are those in which the finding is the other way round. Of each patient one is taken, the first
    by name; for a synthesis, one in which no finding is known to be present where there is one. Patients come in
    the order of those films' names, so that the choice is the same everywhere.

    Raises:
        UserError: An unknown method, option or task, a label or a film's name that stands twice, or no film for
            any task.
    """
    if not suite.methods:
        raise UserError("the suite names no method; give --methods")
    (classifier,) = bundle.require("classifier")
    entries = dataset.entries()
    index = {entry.name: k for k, entry in enumerate(entries)}
    counts = Counter(entry.name for entry in entries)
    entries = sorted(entries, key=lambda entry: entry.name)
    tasks = task_list(suite, tuple(classifier.findings))
    chosen = {task: _choose(entries, task, suite.limit) for task in tasks}
    names = {entry.name for group in chosen.values() for entry in group}
    for name in sorted(names):
        if counts[name] > 1:
            raise UserError(f"--data {suite.data}: {counts[name]} films are called '{name}'; give each its own name")
    hashes = {name: _hash_film(dataset[index[name]].image) for name in sorted(names)}
    audited = suite.load_audited(bundle.device)
    specs: dict[str, tuple[EditorSpec, Any]] = {}
    cases: list[Case] = []
    for method in suite.methods:
        if method.label in specs:
            raise UserError(f"methods: '{method.label}' stands twice; give one of them a label")
        spec = find_editor(method.name)
        options = options_on(spec, bundle, method.options)
        specs[method.label] = (spec, options)
        decides = {
            "label": method.label,
            "method": spec.name,
            "distribution": spec.distribution,
            "options": as_dict(options),
            "bundle": bundle.hash,
        }
        if audited is not None:
            decides["audited"] = [audited.hash, *audited.findings]
        for task, group in chosen.items():
            for seed in dict.fromkeys(suite.seeds):
                cases += _cases(
                    decides, task, [(entry.name, hashes[entry.name]) for entry in group], seed, suite.axioms
                )
    if not cases:
        raise UserError(f"--data {suite.data}: no film fits any task ({len(entries)} films were looked at)")
    findings = audited.findings if audited else ()
    return Plan(suite, specs, {name: index[name] for name in sorted(names)}, tuple(cases), findings)


def _cases(
    decides: dict[str, Any], task: Intervention, films: Sequence[tuple[str, str]], seed: int, axioms: int
) -> list[Case]:
    """A task's edits; then the first `axioms` of them taken back, and those films asked to be what they are."""

    def case(film: tuple[str, str], kind: str, intervention: Intervention, source: str = "") -> Case:
        told = {"name": film[0], "film": film[1], "finding": intervention.finding, "present": intervention.present}
        text = json.dumps({**decides, **told, "seed": seed, "kind": kind}, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:24]
        return Case(key, decides["label"], kind, film[0], intervention, seed, source)

    other = replace(task, present=not task.present)
    edits = [case(film, "edit", task) for film in films]
    back = [case(film, "reverse", other, edit.key) for film, edit in zip(films[:axioms], edits, strict=False)]
    return [*edits, *back, *(case(film, "null", other) for film in films[:axioms])]


def _choose(entries: Sequence[Entry], task: Intervention, limit: int) -> list[Entry]:
    fitting = [entry for entry in entries if entry.findings.get(task.finding) == (not task.present)]
    if task.present:
        fitting.sort(key=lambda entry: any(entry.findings.values()))  # stable: names stay in order
    by_patient = {entry.patient: entry for entry in reversed(fitting)}
    return sorted(by_patient.values(), key=lambda entry: entry.name)[:limit]


def _hash_film(film: torch.Tensor) -> str:
    levels = (film * 65535).round().to(torch.int32).numpy()
    return hashlib.sha256(levels.tobytes()).hexdigest()[:24]
