"""What a plugin registers: a name, where the class is, and what may be said about it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any


def import_target(target: str) -> Any:
    """The object that "package.module:Name" stands for."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


@dataclass(frozen=True)
class EditorSpec:
    """A method.

    Attributes:
        name: As in `--method NAME`.
        options: The method's frozen dataclass of options.
        target: The class as "module:Class"; it is imported when the method is used and built as
            `Class(bundle, options)`.
        summary: One line.
        reference: The paper to cite.
        distribution: The distribution that registered it, "name version"; set by the loader.
    """

    name: str
    options: type[Any]
    target: str
    summary: str
    reference: str = ""
    distribution: str = ""


@dataclass(frozen=True)
class MetricSpec:
    """A metric: a torchmetrics.Metric as "module:Class" and which direction is better."""

    name: str
    target: str
    higher_is_better: bool
    summary: str
    distribution: str = ""
