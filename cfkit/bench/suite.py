"""What a benchmark is asked to do: a suite of methods, films and tasks, from TOML or from flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.dataset import open_dataset
from ..data.sample import Dataset
from ..errors import UserError, read_toml, unknown
from ..findings import Intervention, canonical
from ..plugins import list_editors

if TYPE_CHECKING:
    import torch

    from ..bundles.audited import Audited

SUITES = ("quick", "paper", "ablation")


@dataclass(frozen=True)
class Method:
    """A method as a suite names it.

    Attributes:
        label: How the report calls it; unique in a suite.
        name: The installed method.
        options: What is given of its options, `preset` among them.
    """

    label: str
    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What to run.

    Attributes:
        title: Of the report.
        methods: Methods, with options.
        data: A data set's name or folder.
        split: The publisher's name of one of its splits; empty for all films.
        uncertain: What an uncertain label is taken for: "ignore", "present" or "absent".
        tasks: Such as "Cardiomegaly removal"; empty for all that the models and the data know.
        limit: Most films a task, one a patient.
        seeds: Each film is edited once with each.
        axioms: Films a task that are also edited back, and edited to what they are.
        batch_size: Films edited together.
        bundle: The models.
        metrics: Names; empty for all.
        classifier: One to be audited: a .pt2 file or "package.module:function".
        findings: Names of its outputs, where it does not say them.
    """

    title: str = "Benchmark"
    methods: tuple[Method, ...] = ()
    data: str = "virtual"
    split: str = ""
    uncertain: str = "ignore"
    tasks: tuple[str, ...] = ()
    limit: int = 32
    seeds: tuple[int, ...] = (0,)
    axioms: int = 0
    batch_size: int = 8
    bundle: str = "demo"
    metrics: tuple[str, ...] = ()
    classifier: str = ""
    findings: tuple[str, ...] = ()

    def open_data(self) -> Dataset:
        """The films."""
        return open_dataset(self.data, split=self.split, uncertain=self.uncertain)

    def load_audited(self, device: torch.device) -> Audited | None:
        """The classifier that is audited, None where there is none."""
        if not self.classifier:
            return None
        from ..bundles.audited import load_audited

        return load_audited(self.classifier, self.findings, device)


def parse_methods(text: str) -> tuple[Method, ...]:
    """Methods from "all" or "a,b,ours:layers=residual,epochs=3": after a colon, options follow until the next name.

    Raises:
        UserError: Nothing is named, or something that is neither a name nor an option.

    >>> parse_methods("radedit,ours:layers=residual,epochs=3")[1]
    Method(label='ours:layers=residual,epochs=3', name='ours', options={'layers': 'residual', 'epochs': 3})
    """
    if text.strip() == "all":
        return tuple(Method(spec.name, spec.name) for spec in list_editors())
    groups: list[list[str]] = []
    for part in (p.strip() for p in text.split(",")):
        head, colon, _ = part.partition(":")
        if "=" in part and (not colon or "=" in head):
            if not groups or ":" not in groups[-1][0]:
                raise UserError(f"--methods {text}: '{part}' follows no method; write METHOD:OPTION=VALUE,...")
            groups[-1].append(part)
        elif part:
            groups.append([part])
    if not groups:
        raise UserError("--methods: names no method; give 'all' or names, e.g. ours,radedit")
    methods = []
    for group in groups:
        name, _, first = group[0].partition(":")
        pairs = [pair.partition("=") for pair in (first, *group[1:]) if pair]
        if any(not equals for _, equals, _ in pairs):
            raise UserError(f"--methods {','.join(group)}: OPTION=VALUE is wanted after the colon")
        methods.append(Method(",".join(group), name, {key.strip(): _value(text) for key, _, text in pairs}))
    return tuple(methods)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_suite(name_or_path: str) -> Suite:
    """A suite that ships inside ("quick", "paper", "ablation") or a TOML file.

    Raises:
        UserError: It cannot be read, or says something that no suite says.
    """
    inside = Path(str(files("cfkit.bench.suites") / f"{name_or_path}.toml"))
    try:
        table = read_toml(inside if name_or_path in SUITES else Path(name_or_path))
    except OSError:
        raise UserError(unknown("suite", name_or_path, SUITES) + " A TOML file serves too.") from None
    try:
        return suite_from(table)
    except UserError as error:
        raise UserError(f"{name_or_path}: {error}") from None


def suite_from(table: Mapping[str, Any]) -> Suite:
    """A suite from plain data, as TOML and `plan.json` have it.

    Raises:
        UserError: An unknown key, or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    known = {each.name: each for each in fields(Suite)}
    for key, value in table.items():
        if key not in known:
            raise UserError(unknown("key of a suite", key, known))
        default = known[key].default
        kind = list if isinstance(default, tuple) else type(default)
        if key == "methods" and isinstance(value, str):
            values[key] = parse_methods(value)
        elif key == "methods" and isinstance(value, list) and all(isinstance(v, dict) for v in value):
            values[key] = tuple(_method_from(each) for each in value)
        elif not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{key}: {kind.__name__} wanted, {value!r} given")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    suite = Suite(**values)
    for key, least in (("limit", 1), ("batch_size", 1), ("axioms", 0)):
        if getattr(suite, key) < least:
            raise UserError(f"{key}: at least {least}")
    for key, kind in (("tasks", str), ("metrics", str), ("findings", str), ("seeds", int)):
        for each in getattr(suite, key):
            if not isinstance(each, kind) or isinstance(each, bool):
                raise UserError(f"{key}: a list of {kind.__name__} wanted, {each!r} in it")
    return suite


def _method_from(table: dict[str, Any]) -> Method:
    rest = dict(table)
    name = rest.pop("name", None)
    if not isinstance(name, str):
        raise UserError("methods: each needs a name")
    label = str(rest.pop("label", name))
    options = rest.pop("options", rest)
    if not isinstance(options, dict):
        raise UserError(f"methods: {label}: a table of options wanted, {options!r} given")
    return Method(label, name, dict(options))


def suite_data(suite: Suite) -> dict[str, Any]:
    """A suite as plain data."""
    data = {each.name: getattr(suite, each.name) for each in fields(Suite)}
    data["methods"] = [{"label": m.label, "name": m.name, "options": m.options} for m in suite.methods]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def task_list(suite: Suite, known: tuple[str, ...]) -> list[Intervention]:
    """The suite's tasks, or each finding that the models know, both ways.

    Raises:
        UserError: A task that is not "FINDING removal" or "FINDING synthesis".
    """
    if not suite.tasks:
        return [Intervention(finding, present) for finding in known for present in (False, True)]
    tasks = []
    for text in suite.tasks:
        finding, _, way = text.strip().rpartition(" ")
        if way not in ("removal", "synthesis"):
            raise UserError(f"task '{text}': 'FINDING removal' or 'FINDING synthesis' is wanted")
        tasks.append(Intervention(canonical(finding, known), way == "synthesis"))
    return list(dict.fromkeys(tasks))
