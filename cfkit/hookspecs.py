"""The hooks that a plugin may implement, each marked with `cfkit.hookimpl`."""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from .specs import EditorSpec, MetricSpec

hookspec = pluggy.HookspecMarker("cfkit")


@hookspec
def register_editors() -> Sequence[EditorSpec]:  # type: ignore[empty-body]
    """Returns the methods that this plugin brings."""


@hookspec
def register_metrics() -> Sequence[MetricSpec]:  # type: ignore[empty-body]
    """Returns the metrics that this plugin brings."""
