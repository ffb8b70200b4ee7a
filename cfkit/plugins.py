"""From entry points to methods. A broken or duplicate plugin is named, never fatal."""

from __future__ import annotations

import os
import traceback
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from . import hookspecs
from .errors import UserError, unknown
from .options import resolve
from .specs import EditorSpec, MetricSpec, import_target

if TYPE_CHECKING:
    from .bundles.bundle import Bundle
    from .editor import Editor

GROUP = "cfkit"


@dataclass
class Plugins:
    """What is installed.

    Attributes:
        editors: By name.
        metrics: By name.
        problems: One line for each plugin that was left out.
    """

    editors: dict[str, EditorSpec] = field(default_factory=dict)
    metrics: dict[str, MetricSpec] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def _origin(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def load_plugins(points: list[EntryPoint] | None = None) -> Plugins:
    """Loads every plugin on its own, so that one that fails takes no other with it.

    Args:
        points: Entry points to load instead of the installed ones.

    `CFKIT_DISABLE_PLUGINS` names plugins to leave out, separated by commas.
    """
    found, loaded = Plugins(), list[tuple[str, EditorSpec | MetricSpec]]()
    points = list(entry_points(group=GROUP)) if points is None else points
    disabled = {name.strip() for name in os.environ.get("CFKIT_DISABLE_PLUGINS", "").split(",")}
    counts = Counter(point.name for point in points)
    for point in sorted(points, key=lambda p: (p.name, _origin(p))):
        if point.name in disabled:
            continue
        if counts[point.name] > 1:
            both = " and ".join(sorted(_origin(p) for p in points if p.name == point.name))
            line = f"plugin '{point.name}' is registered by {both}; uninstall one of them"
            if line not in found.problems:
                found.problems.append(line)
            continue
        try:
            loaded += [(point.name, spec) for spec in _load(point)]
        except Exception as error:  # a stranger's import may raise anything
            where = traceback.extract_tb(error.__traceback__)[-1]
            found.problems.append(
                f"plugin '{point.name}' ({_origin(point)}) does not load: "
                f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"
            )
    # of two with one name cfkit's own stays, then the one whose entry point has that name: none is taken over
    loaded.sort(key=lambda each: (not each[1].distribution.startswith("cfkit "), each[0] != each[1].name))
    for _, spec in loaded:
        _register(spec, found)
    return found


def _load(point: EntryPoint) -> list[EditorSpec | MetricSpec]:
    """What a plugin registers, with the distribution that it comes from."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(point.load(), name=point.name)
    manager.check_pending()
    calls = [*manager.hook.register_editors(), *manager.hook.register_metrics()]
    return [replace(spec, distribution=_origin(point)) for specs in calls for spec in specs]


def _register(spec: EditorSpec | MetricSpec, found: Plugins) -> None:
    registered: dict[str, Any] = found.editors if isinstance(spec, EditorSpec) else found.metrics
    kind = "method" if isinstance(spec, EditorSpec) else "metric"
    if spec.name in registered:
        found.problems.append(
            f"{kind} '{spec.name}' of {spec.distribution} is left out: "
            f"{registered[spec.name].distribution} registers that name too"
        )
    else:
        registered[spec.name] = spec


def list_editors() -> list[EditorSpec]:
    """The installed methods, by name."""
    return [spec for _, spec in sorted(load_plugins().editors.items())]


def find_editor(name: str) -> EditorSpec:
    """A method by name.

    Raises:
        UserError: No such method is installed; a plugin that failed to load is named.
    """
    found = load_plugins()
    if name in found.editors:
        return found.editors[name]
    problems = "".join(f" {p}." for p in found.problems if f"'{name}'" in p)
    raise UserError(unknown("method", name, sorted(found.editors)) + problems)


def options_on(spec: EditorSpec, bundle: Bundle, given: Mapping[str, Any]) -> Any:
    """A method's options on a bundle: what is given, and what the bundle recommends elsewhere.

    Raises:
        UserError: An unknown option or preset, a wrong type, or a value out of range.
    """
    return resolve(spec.options, given, recommended=bundle.recommended.get(spec.name), method=spec.name)


def load_editor(
    name: str, *, bundle: str | os.PathLike[str] | Bundle = "demo", device: str = "auto", **options: Any
) -> Editor:
    """Builds a method on a bundle.

    Args:
        name: A method, as `cfkit methods` lists them.
        bundle: A bundle's name or folder, or one that is loaded.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", "mps".
        options: The method's options; `preset="..."` selects a preset.

    Raises:
        UserError: Unknown method, bundle, device or option.
    """
    from .bundles.bundle import load_bundle

    spec = find_editor(name)
    loaded = load_bundle(bundle, device=device) if isinstance(bundle, str | os.PathLike) else bundle
    editor: Editor = import_target(spec.target)(loaded, options_on(spec, loaded, options))
    return editor
