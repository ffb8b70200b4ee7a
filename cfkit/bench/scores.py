"""Scores of a run, from its store alone: every metric by method and task, with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..findings import Intervention
from ..metrics.case_mean import CaseMean
from ..specs import MetricSpec, import_target
from .bootstrap import bootstrap_weights, interval, resample, values_and_draws
from .columns import columns_of
from .plan import Case
from .run import structures_name, truth_name
from .store import CaseRow, FilmRow, Store

FEW_DRAWS = 100  # of the bootstrap, for metrics that are no mean over cases
CHUNK = 32  # films of which images are held at once
MEAN = "mean"  # over tasks


@dataclass(frozen=True)
class Score:
    """A metric of a method on a task, or on the mean of the tasks.

    Attributes:
        column: Where the metric has several values, which; else empty.
        value: NaN where nothing applies.
        low: Lower end of the 95 % interval over patients.
        high: Upper end.
        n: Cases.
        draws: The bootstrap's values; the same patients are drawn for every method, so that they pair.
    """

    metric: str
    column: str
    method: str
    task: str
    value: float
    low: float
    high: float
    n: int
    higher_is_better: bool
    draws: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Comparison:
    """A metric of `method` less that of `other`: the mean over the tasks of both, on the same draws of patients."""

    metric: str
    column: str
    method: str
    other: str
    difference: float
    low: float
    high: float


def score_run(store: Store, metrics: Sequence[MetricSpec], *, problems: list[str] | None = None) -> list[Score]:
    """Every metric by method and task, and its mean over tasks.

    A metric that asks for a column which a task does not have is left out there; one that fails is named
    in `problems` and left out.
    """
    problems = [] if problems is None else problems
    films, planned = store.films(), store.plan()
    patients = sorted({films[case.film].patient for case in planned if case.film in films})
    weights = bootstrap_weights(len(patients))
    index = {patient: k for k, patient in enumerate(patients)}
    scores: list[Score] = []
    for label in dict.fromkeys(case.method for case in planned):
        by_task: dict[Intervention, list[Case]] = {}
        for case in planned:
            if case.method == label:
                by_task.setdefault(task_of(case), []).append(case)
        own: list[Score] = []
        for task, cases in by_task.items():
            group = Group(store, films, task, cases)
            whose = np.array([index[films[row.film].patient] for row in group.rows], dtype=int)
            tallies = _tallies(metrics, problems)
            for first in range(0, len(group.rows), CHUNK):
                group.turn_to(first)
                tallies = [t for t in tallies if _guard(t.spec, problems, partial(t.take, group))]
            for tally in tallies:
                _guard(tally.spec, problems, lambda t=tally: own.extend(t.scores(label, task, whose, weights)))  # type: ignore[misc] # noqa: B023
            if not group.rows:
                problems.append(f"{label}: no case of {task.finding} {task.task} succeeded; its means are without it")
        scores += own + mean_scores(own)
    return scores


def task_of(case: Case) -> Intervention:
    """The task that a case belongs to: one that asks for the opposite serves the task that it undoes."""
    i = case.intervention
    return i if case.kind == "edit" else Intervention(i.finding, not i.present)


class Group:
    """The finished edits of a method on a task, whose columns are read a chunk at a time.

    `rows` are those whose edit succeeded, in the order of the plan.
    """

    def __init__(self, store: Store, films: Mapping[str, FilmRow], task: Intervention, cases: Sequence[Case]):
        self.store, self.films, self.task = store, films, task
        kinds: dict[str, list[str]] = {"edit": [], "null": [], "reverse": []}
        for case in cases:
            kinds[case.kind].append(case.key)
        rows = {kind: [row for row in store.cases(keys) if not row.error] for kind, keys in kinds.items()}
        self.rows = rows["edit"]
        self._beside = {
            name: {(row.film, row.seed): row.key for row in rows[kind]}
            for name, kind in (("null_edit", "null"), ("returned", "reverse"))
        }

    def turn_to(self, first: int) -> None:
        """Looks at the next `CHUNK` rows from `first`; columns that were read stay until the next turn."""
        self.numbers = range(first, min(first + CHUNK, len(self.rows)))
        self._read: dict[tuple[int, str], Tensor | None] = {}

    def column(self, number: int, name: str) -> Tensor | None:
        """A column of one row, without the first dimension; None where the row does not have it."""
        if (number, name) not in self._read:
            self._read[number, name] = self._column(self.rows[number], name)
        return self._read[number, name]

    def reference(self) -> Tensor:
        """Features of the data set's films that are as the task wants, (M, F)."""
        found = [
            film.arrays["features"]
            for film in self.films.values()
            if film.findings.get(self.task.finding) == self.task.present and "features" in film.arrays
        ]
        return torch.stack(found) if found else torch.zeros(0, 1)

    def _column(self, row: CaseRow, name: str) -> Tensor | None:
        """A column of one row, without the first dimension; None where the row does not have it."""
        film = self.films[row.film]
        if name == "present":
            return torch.tensor(row.present)
        if name in row.arrays:
            return row.arrays[name]
        if name.endswith("_before"):
            return film.arrays.get(name.removesuffix("_before"))
        if name == "structures":
            image = structures_name(row.film)
            return self.store.read_masks(image, 14) if self.store.image_path(image).exists() else None
        known = {
            "factual": row.film,
            "counterfactual": row.key,
            "truth": truth_name(row.film, row.finding),
            "null_edit": self._beside["null_edit"].get((row.film, row.seed)),
            "returned": self._beside["returned"].get((row.film, row.seed)),
        }.get(name)
        return self.store.read_image(known) if known and self.store.image_path(known).exists() else None


class Tally:
    """A metric that is fed the rows of one method and task."""

    def __init__(self, spec: MetricSpec):
        self.spec, self.metric = spec, import_target(spec.target)()
        self.columns = columns_of(self.metric)
        self.kept: list[int] = []
        self.inputs: list[dict[str, Tensor]] = []  # of a metric that is no mean over cases

    def take(self, group: Group) -> None:
        """Takes the rows that the group looks at, those that have every column."""
        per_case = [name for name in self.columns if name != "reference"]
        kept = [k for k in group.numbers if all(group.column(k, name) is not None for name in per_case)]
        if not kept:
            return
        chunk = {name: torch.stack([group.column(k, name) for k in kept]) for name in per_case}  # type: ignore[misc]
        if "reference" in self.columns:
            chunk["reference"] = group.reference()[: None if not self.kept else 0]
        self.metric.update(**chunk)
        self.kept += kept
        if not isinstance(self.metric, CaseMean):
            self.inputs.append(chunk)

    def scores(self, label: str, task: Intervention, whose: np.ndarray, weights: np.ndarray) -> list[Score]:
        """One a column; none where no row had what the metric asks for."""
        if not self.kept:
            return []
        if isinstance(self.metric, CaseMean):
            values = self.metric.case_values().numpy().reshape(len(self.kept), -1).astype(np.float64)
            names = self.metric.columns or ("",)
            means, draws = values_and_draws(values, weights[:, whose[self.kept]])
        else:
            names = ("",)
            whole = {name: torch.cat([chunk[name] for chunk in self.inputs]) for name in self.columns}
            means = np.array([float(self.metric.compute())])
            few = weights[:FEW_DRAWS, whose[self.kept]]
            draws = resample(self.metric.update, self.metric.compute, self.metric.reset, whole, few)[:, None]
        name = f"{task.finding} {task.task}"
        return [
            make_score(self.spec, column, label, name, means[c], draws[:, c], len(self.kept))
            for c, column in enumerate(names)
        ]


def _tallies(metrics: Sequence[MetricSpec], problems: list[str]) -> list[Tally]:
    tallies: list[Tally] = []
    for spec in metrics:
        _guard(spec, problems, lambda s=spec: tallies.append(Tally(s)))  # type: ignore[misc]
    return tallies


def _guard(spec: MetricSpec, problems: list[str], call: Callable[[], None]) -> bool:
    """Whether a call went well; if not, the metric is named once in `problems`."""
    try:
        call()
    except Exception as error:  # a stranger's metric may raise anything
        line = f"metric '{spec.name}' of {spec.distribution} failed: {type(error).__name__}: {error}"
        if line not in problems:
            problems.append(line)
        return False
    return True


def make_score(spec: MetricSpec, column: str, label: str, task: str, value: Any, draws: np.ndarray, n: int) -> Score:
    """A score with the 95 % interval of its draws."""
    low, high = interval(draws)
    return Score(spec.name, column, label, task, float(value), low, high, n, spec.higher_is_better, draws)


def mean_scores(scores: Sequence[Score]) -> list[Score]:
    """Means over tasks of one method's scores: the mean of values, and that of draws of the same patients."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.metric, score.column), []).append(score)
    means = []
    for (metric, column), group in groups.items():
        group = [score for score in group if not np.isnan(score.value)] or group
        value = float(np.mean([score.value for score in group]))
        draws = np.mean([score.draws for score in group], axis=0)
        low, high = interval(draws)
        first = group[0]
        n = sum(score.n for score in group)
        means.append(Score(metric, column, first.method, MEAN, value, low, high, n, first.higher_is_better, draws))
    return means


def compare(scores: Sequence[Score]) -> list[Comparison]:
    """Every pair of methods on the tasks of both, paired by patient."""
    by_method: dict[tuple[str, str], dict[str, list[Score]]] = {}
    for score in scores:
        by_method.setdefault((score.metric, score.column), {}).setdefault(score.method, []).append(score)
    out = []
    for (metric, column), methods in by_method.items():
        for a, b in combinations(methods, 2):
            if means := on_common_tasks(methods[a], methods[b]):
                low, high = interval(means[0].draws - means[1].draws)
                difference = means[0].value - means[1].value
                out.append(Comparison(metric, column, a, b, difference, low, high))
    return out


def on_common_tasks(a: Sequence[Score], b: Sequence[Score]) -> tuple[Score, Score] | None:
    """Two methods' means of one metric over the tasks on which both have a value; None without such a task."""
    tasks = set.intersection(*({s.task for s in each if s.task != MEAN and not np.isnan(s.value)} for each in (a, b)))
    if not tasks:
        return None
    first, second = (mean_scores([s for s in each if s.task in tasks])[0] for each in (a, b))
    return first, second
