"""`cfkit doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import rich_click as click


@click.command("doctor")
def command() -> None:
    """Show versions, devices, methods and bundles, and what is missing."""
    import torch

    from .. import __version__
    from ..bundles.bundle import list_bundles, load_bundle, user_folder
    from ..bundles.manifest import PARTS
    from ..errors import UserError
    from ..plugins import load_plugins

    click.echo(f"cfkit {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "diffusers", "safetensors", "pydicom", "pillow", "numpy"):
        try:
            click.echo(f"  {name} {version(name)}")
        except PackageNotFoundError:
            click.echo(f"  {name}: missing; pip install {name}")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        click.echo(f"device: cuda ({', '.join(names)})")
    else:
        click.echo(f"device: cpu ({torch.get_num_threads()} threads); no CUDA device")
    found = load_plugins()
    click.echo("methods: " + (", ".join(f"{n} ({s.distribution})" for n, s in sorted(found.editors.items())) or "none"))
    for problem in found.problems:
        click.echo(f"  problem: {problem}")
    click.echo(f"bundles (yours go into {user_folder()}):")
    for name in list_bundles():
        try:
            bundle = load_bundle(name, device="cpu")
        except UserError as error:
            click.echo(f"  {name}: {error}")
            continue
        declared = bundle.config.get("parts", {})
        absent = [part for part in PARTS if part not in declared]
        missing = bundle.missing()
        state = f"files missing: {', '.join(missing)}" if missing else "complete"
        click.echo(f"  {name}: {state}" + (f"; has no {', '.join(absent)}" if absent else ""))
