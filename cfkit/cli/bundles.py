"""`cfkit bundles`."""

from __future__ import annotations

import rich_click as click


@click.group("bundles")
def command() -> None:
    """Show the bundles of models on this machine."""


@command.command("list")
def list_command() -> None:
    """List bundles by name and folder."""
    from ..bundles.bundle import list_bundles

    for name, folder in list_bundles().items():
        click.echo(f"{name}\t{folder}")


@command.command("verify")
@click.argument("name", default="demo")
def verify_command(name: str) -> None:
    """Load every part of a bundle and check its files against their hashes."""
    from ..bundles.bundle import PARTS, load_bundle

    bundle = load_bundle(name, device="cpu")
    for part in PARTS:
        state = "ok" if getattr(bundle, part) is not None else "absent"
        click.echo(f"{part}\t{state}")
