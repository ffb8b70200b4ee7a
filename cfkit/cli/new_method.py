"""`cfkit new-method`."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import rich_click as click

from ..errors import UserError

FILES = {
    "pyproject.toml": """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "cfkit-$name"
version = "0.1.0"
description = "A counterfactual editing method for cfkit"
dependencies = ["cfkit"]

[project.entry-points.cfkit]
$name = "cfkit_$module"
""",
    "README.md": """\
# cfkit-$name

```bash
pip install -e . && pytest -q
cfkit edit sample:effusion --method $name --remove "Pleural Effusion"
```
""",
    "cfkit_$module/__init__.py": '''\
"""What cfkit is told of the method; importing this imports no torch."""

from dataclasses import dataclass

from cfkit import EditorSpec, hookimpl, option


@dataclass(frozen=True)
class Options:
    steps: int = option(10, "Steps along the gradient.", minimum=1)
    step_size: float = option(0.02, "Most that a pixel changes in a step, in grey levels of [0, 1].", minimum=0.0)


@hookimpl
def register_editors() -> list[EditorSpec]:
    target = "cfkit_$module.editor:Editor"
    return [EditorSpec("$name", Options, target, "Pixels moved along the classifier's gradient.")]
''',
    "cfkit_$module/editor.py": '''\
"""The method: pixels moved along the gradient of the bundle's classifier."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cfkit import Bundle, Edit, Intervention
from cfkit.editor import Progress, check_inputs

from . import Options


class Editor:
    def __init__(self, bundle: Bundle, options: Options):
        self.options, self.device = options, bundle.device
        (self.classifier,) = bundle.require("classifier")

    def edit(
        self,
        images: Tensor,
        interventions: Sequence[Intervention],
        *,
        masks: Tensor | None = None,
        generators: Sequence[torch.Generator] | None = None,
        progress: Progress | None = None,
    ) -> Edit:
        known = tuple(self.classifier.findings)
        target = check_inputs(images, interventions, known, masks=masks, generators=generators)
        sign = torch.tensor([1.0 if i.present else -1.0 for i in interventions], device=self.device)
        x = images.to(self.device)
        for step in range(self.options.steps):
            with torch.enable_grad():
                x = x.detach().requires_grad_(True)
                logits = self.classifier(x)[range(len(x)), target]
                (gradient,) = torch.autograd.grad((sign * logits).sum(), x)
            gradient = gradient / gradient.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
            change = self.options.step_size * gradient
            if masks is not None:  # 1 where a film is to stay as it is
                change = change * (1.0 - masks.to(change))
            x = (x.detach() + change).clamp(0.0, 1.0)
            if progress:
                progress(step + 1, self.options.steps)
        return Edit(images=x, mask=masks)
''',
    "tests/test_$module.py": """\
import cfkit
from cfkit.testing import check_editor


def test_it_keeps_the_contract() -> None:
    bundle = cfkit.load_bundle("demo", device="cpu")
    check_editor(cfkit.load_editor("$name", bundle=bundle, steps=2), bundle)


def test_it_moves_the_classifier() -> None:
    bundle = cfkit.load_bundle("demo", device="cpu")
    film = cfkit.read_film("sample:effusion").working(bundle.image_size)[None]
    edit = cfkit.load_editor("$name", bundle=bundle).edit(film, [cfkit.Intervention("Pleural Effusion", False)])
    k = bundle.classifier.findings.index("Pleural Effusion")
    assert bundle.classifier(edit.images)[0, k] < bundle.classifier(film)[0, k]
""",
}


def write_package(name: str, folder: Path) -> list[Path]:
    """Writes a plugin package for a method.

    Args:
        name: The method's name: lower-case letters, digits, "-" or "_", a letter first.
        folder: Where; it must not exist, or be empty.

    Returns:
        The files.

    Raises:
        UserError: The name will not do, or the folder is taken or cannot be written.
    """
    from ..files import write_beside
    from ..plugins import load_plugins

    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise UserError(f"'{name}': a method's name is lower-case letters, digits, - and _, and starts with a letter")
    if name in load_plugins().editors:
        raise UserError(f"'{name}': a method of that name is installed; choose another name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: is there already; choose another name or folder with --out")
    words = {"name": name, "module": name.replace("-", "_")}
    written = []
    for path, text in FILES.items():
        target = folder / Template(path).substitute(words)
        content = Template(text).substitute(words)
        write_beside(target, lambda part, content=content: part.write_text(content))  # type: ignore[misc]
        written.append(target)
    return written


@click.command("new-method")
@click.argument("name")
@click.option("--out", metavar="DIR", help="The package's folder; cfkit-NAME by default.")
def command(name: str, out: str | None) -> None:
    """Write a package for a method of your own: it installs, edits and passes its tests as it is."""
    folder = Path(out or f"cfkit-{name}")
    for path in write_package(name, folder):
        click.echo(path)
    click.echo(f"now: pip install -e {folder} && pytest -q {folder}")
