"""`cfkit train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rich_click as click

OWN = """One patient in ten is kept for the figures, which end in OUT/TRAINING.md. A training that was stopped goes
on from its last checkpoint. On several GPUs: `accelerate launch -m cfkit train ... --data ...`."""
PARTS = {
    "classifier": "Train the classifier that guides edits, on your own films.",
    "judge": "Train the judge, another architecture; give it other patients than the classifier's.",
    "segmenter": "Train the segmenter of the 14 structures, on films that have them.",
    "autoencoder": "Train the autoencoder, on your own films.",
    "denoiser": "Train the denoiser on latents of the autoencoder in OUT, which comes first.",
    "preview": "Distil the decoder in OUT into a small one that fast edits follow; needs a classifier too.",
}


@click.group("train")
def command() -> None:
    """Train the models of a bundle, the demo's or your own."""


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


def _add(part: str, summary: str) -> None:
    """A command that trains one part on data of the user's own."""

    @command.command(part, help=f"{summary}\n\n{OWN}")
    @click.option("--data", required=True, metavar="DIR", help="Films, in any layout of `cfkit data check`.")
    @click.option("--split", default="", metavar="NAME", help="Of the data set, e.g. train.")
    @click.option(
        "--uncertain", type=click.Choice(["ignore", "present", "absent"]), default="ignore", show_default=True
    )
    @click.option("--out", default="my-bundle", show_default=True, metavar="DIR", help="The bundle that it goes into.")
    @click.option("--work", default="", metavar="DIR", help=f"Checkpoints; OUT.work/{part} by default.")
    @click.option("--steps", default=2000, show_default=True, type=click.IntRange(1), help="Updates.")
    @click.option("--batch-size", default=16, show_default=True, type=click.IntRange(1), help="Films, on each device.")
    @click.option("--lr", default=1e-3, show_default=True, type=click.FloatRange(0, min_open=True), help="Peak rate.")
    @click.option("--size", default=256, show_default=True, type=click.IntRange(64, 1024), help="Side of a film.")
    @click.option("--width", default=1, show_default=True, type=click.IntRange(1, 16), help="Multiplies the channels.")
    @click.option("--precision", type=click.Choice(["no", "fp16", "bf16"]), default="no", show_default=True)
    @click.option("--workers", default=0, show_default=True, type=click.IntRange(0), help="Processes that read films.")
    @click.option("--save-every", default=200, show_default=True, type=click.IntRange(1), help="Steps a checkpoint.")
    @click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
    def run(data: str, split: str, uncertain: str, out: str, work: str, **given: Any) -> None:
        from ..data.dataset import open_dataset
        from ..train.own import Recipe, train_part

        films = open_dataset(data, split=split, uncertain=uncertain)
        folder = Path(work) if work else Path(f"{out}.work") / part
        train_part(part, films, Path(out), folder, Recipe(**given), report=lambda line: print(line, flush=True))


for name, text in PARTS.items():
    _add(name, text)
