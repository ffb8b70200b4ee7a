"""`cfkit train`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click


@click.group("train")
def command() -> None:
    """Train the models of a bundle."""


@command.command("demo")
@click.option("--nih", required=True, metavar="DIR", help="Real films: labels.csv, images/ and images64/.")
@click.option("--work", default="cfkit-train", show_default=True, metavar="DIR", help="Films and checkpoints.")
@click.option("--out", default="demo-bundle", show_default=True, metavar="DIR", help="The bundle.")
@click.option("--quick", is_flag=True, help="Two steps of everything, to see that it runs.")
@click.option("--only", default="", metavar="PARTS", help="Train these parts alone, e.g. classifier,judge.")
@click.option("--base", default="demo", show_default=True, metavar="NAME|DIR", help="With --only: the other parts.")
def demo(nih: str, work: str, out: str, quick: bool, only: str, base: str) -> None:
    """Train the demo bundle: some hours on two cores; stop and give it again at will."""
    from ..train.demo import train_demo

    parts = [part.strip() for part in only.split(",") if part.strip()]
    train_demo(
        Path(work),
        Path(nih),
        Path(out),
        quick=quick,
        only=parts,
        base=base,
        report=lambda line: print(line, flush=True),
    )
