"""What `bundle.toml` is written with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from ..errors import UserError, read_toml, unknown
from ..files import write_beside

PARTS = (
    *("autoencoder", "denoiser", "schedule", "classifier", "judge", "segmenter", "clip", "features", "radedit"),
    "preview",  # may be absent: fast edits follow its gradient
)
PART_KEYS: dict[str, type] = {
    "class": str,
    "file": str,
    "folder": str,
    "of": str,
    "sha256": str,
    "vocabulary": str,
    "scale_factor": float,
    "config": dict,
    "schedule": dict,
}


def toml_value(value: Any) -> str:
    """A value as TOML writes it on one line.

    >>> toml_value({"widths": (1, 2.5), "grey": True})
    '{ widths = [1, 2.5], grey = true }'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(each)}" for key, each in value.items()) + " }" if value else "{}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(each) for each in value) + "]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def bundle_toml(config: Mapping[str, Any]) -> str:
    """`bundle.toml` of a bundle's configuration: what it says of itself, its parts, what it recommends by method.

    >>> print(bundle_toml({"name": "mine", "parts": {"judge": {"file": "judge.safetensors"}}}))
    name = "mine"
    <BLANKLINE>
    [parts.judge]
    file = "judge.safetensors"
    <BLANKLINE>
    """
    lines = [f"{key} = {toml_value(value)}" for key, value in config.items() if not isinstance(value, Mapping)]
    for group in ("parts", "methods"):
        for name, told in config.get(group, {}).items():
            lines += ["", f"[{group}.{name}]", *(f"{key} = {toml_value(value)}" for key, value in told.items())]
    return "\n".join(lines) + "\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """What `bundle.toml` says, its tables and the names in them being what they are to be.

    Raises:
        UserError: It is not TOML, or something in it is of another kind.
    """
    config = read_toml(path)
    for group in ("parts", "methods"):
        tables = config.get(group, {})
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise UserError(f"{path}: [{group}.NAME] tables are wanted under {group}")
    size = config.get("image_size", 256)
    if type(size) is not int or size < 32:
        raise UserError(f"{path}: image_size: a number of pixels from 32 up wanted, {size!r} given")
    for name, part in config.get("parts", {}).items():
        for key, kind in PART_KEYS.items():
            if not isinstance(part.get(key, kind()), (int, float) if kind is float else kind):
                raise UserError(f"{path}: [parts.{name}] {key}: {kind.__name__} wanted, {part[key]!r} given")
        for key in _wanted(name, part):
            if key not in part:
                raise UserError(f"{path}: [parts.{name}] has no {key}")
        if part.get("of", "clip") not in PARTS:
            raise UserError(f"{path}: [parts.{name}] of: {unknown('part', part['of'], PARTS)}")
    for name, options in config.get("methods", {}).items():
        if not isinstance(options.get("fast", {}), dict):
            raise UserError(f"{path}: [methods.{name}] fast: a table of options wanted, {options['fast']!r} given")
    return config


def _wanted(name: str, part: Mapping[str, Any]) -> list[str]:
    """The keys without which a part cannot be loaded."""
    elsewhere = {"features": "of", "radedit": "folder"}.get(name)
    if name == "schedule" or name not in PARTS or elsewhere in part:
        return []
    more = ["schedule"] if name == "radedit" else []
    return ["class", "file", *more, *(["scale_factor"] if "vocabulary" in part else [])]


def save_part(module: nn.Module, path: Path, *, half: bool = False) -> str:
    """Writes a part's weights as safetensors, beside and then renamed; returns their SHA-256."""
    state = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in module.state_dict().items()
    }
    write_beside(path, lambda part: save_file(state, part))
    path.chmod(0o644)
    return file_digest(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read a block at a time."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 of a folder's files and their names."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n".encode())
    return digest.hexdigest()
