"""cfkit: counterfactual editing of chest radiographs. Not for clinical use.

The names below are the public interface; importing this module does not import torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("cfkit")
"""Marks a plugin's hooks, as in `cfkit.hookspecs`."""

_PUBLIC = {
    "Bundle": "bundles.bundle",
    "Edit": "editor",
    "Editor": "editor",
    "EditorSpec": "specs",
    "Intervention": "findings",
    "MetricSpec": "specs",
    "UserError": "errors",
    "list_editors": "plugins",
    "load_bundle": "bundles.bundle",
    "load_editor": "plugins",
    "option": "options",
    "read_film": "images",
}

__all__ = ["__version__", "hookimpl", *_PUBLIC]

if TYPE_CHECKING:
    from .bundles.bundle import Bundle as Bundle
    from .bundles.bundle import load_bundle as load_bundle
    from .editor import Edit as Edit
    from .editor import Editor as Editor
    from .errors import UserError as UserError
    from .findings import Intervention as Intervention
    from .images import read_film as read_film
    from .options import option as option
    from .plugins import list_editors as list_editors
    from .plugins import load_editor as load_editor
    from .specs import EditorSpec as EditorSpec
    from .specs import MetricSpec as MetricSpec


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'cfkit' has no attribute '{name}'")
    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
