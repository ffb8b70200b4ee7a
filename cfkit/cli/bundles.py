"""`cfkit bundles`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

FILE = click.Path(path_type=Path)


@click.group("bundles")
def command() -> None:
    """Show the bundles of models on this machine, check them, make one of published checkpoints."""


@command.command("list")
def list_command() -> None:
    """List bundles by name and folder."""
    from ..bundles.bundle import list_bundles

    for name, folder in list_bundles().items():
        click.echo(f"{name}\t{folder}")


@command.command("path")
@click.argument("name", default="", metavar="[NAME]")
def path_command(name: str) -> None:
    """Print the folder of a bundle; without a name, where bundles of your own are found by name."""
    from ..bundles.bundle import load_bundle, user_folder

    click.echo(load_bundle(name, device="cpu").folder if name else user_folder())


@command.command("show")
@click.argument("name", default="demo")
def show_command(name: str) -> None:
    """Say what a bundle holds: its parts, what each is, their files and sizes."""
    from ..bundles.bundle import load_bundle
    from ..bundles.manifest import PARTS

    bundle = load_bundle(name, device="cpu")
    for key in ("title", "licence", "origin"):
        if key in bundle.config:
            click.echo(f"{key}: {bundle.config[key]}")
    click.echo(f"hash: {bundle.hash}")
    for part in PARTS:
        click.echo(f"{part}: {bundle.describe(part)}")
    for method, options in bundle.recommended.items():
        click.echo(f"recommends for {method}: " + ", ".join(f"{key} {value}" for key, value in options.items()))


@command.command("verify")
@click.argument("name", default="demo")
def verify_command(name: str) -> None:
    """Load every part of a bundle and check its files against their hashes."""
    from ..bundles.bundle import load_bundle
    from ..bundles.manifest import PARTS

    bundle = load_bundle(name, device="cpu")
    for part in PARTS:
        state = "ok" if getattr(bundle, part) is not None else "absent"
        click.echo(f"{part}\t{state}")
        bundle.drop(part)


@command.group("import")
def import_group() -> None:
    """Make a bundle of published checkpoints, converted to safetensors."""


@import_group.command("cheff")
@click.option("--unet", type=FILE, help="Cheff's unconditional U-Net.")
@click.option("--head-channels", type=click.IntRange(1), default=32, show_default=True, help="Of its attention heads.")
@click.option("--autoencoder", type=FILE, help="Cheff's autoencoder.")
@click.option("--classifier", type=FILE, help="The classifier that guides edits.")
@click.option("--classifier-kind", default="jfhealthcare", show_default=True, metavar="KIND", help="What it is.")
@click.option("--judge", type=FILE, help="Another classifier, which no editor sees.")
@click.option("--judge-kind", default="torchxrayvision", show_default=True, metavar="KIND", help="What it is.")
@click.option("--segmenter", type=FILE, help="torchxrayvision's PSPNet for ChestX-Det.")
@click.option("--clip", type=FILE, help="CheXzero.")
@click.option("--radedit", type=FILE, help="A folder with unet/, vae/ and text_encoder/ of RadEdit.")
@click.option("--text-to-image", type=FILE, help="Cheff's text-to-image model, for `radedit` to run on instead.")
@click.option("--vocabulary", type=FILE, help="vocab.txt of bert-base-uncased, for its prompts.")
@click.option("--inception", type=FILE, help="Inception-v3 of pytorch-fid or torch-fidelity, for FID.")
@click.option("-o", "--out", type=FILE, metavar="DIR", help="The bundle, a folder not there yet.  [your own 'cheff']")
def import_cheff_command(out: Path | None, **given: Any) -> None:
    """Make a bundle of the paper's models from the files that their owners publish.

    Kinds of classifier: jfhealthcare (DenseNet-121 with PCAM), resnet152 (the public release's), torchxrayvision
    (DenseNet-121 or ResNet-50). What is not given is left out and named with its owner; files are read without
    running what is in them. Without --out the bundle is found as `--bundle cheff` from then on.
    """
    from ..bundles.bundle import user_folder
    from ..bundles.importer import Sources, import_cheff

    import_cheff(Sources(**given), out or user_folder() / "cheff", report=click.echo)
