"""`cfkit data`."""

from __future__ import annotations

import sys
from pathlib import Path

import rich_click as click

from ..errors import UserError


@click.group("data")
def command() -> None:
    """Make and check data sets."""


@command.command("check")
@click.argument("folder", metavar="PATH")
@click.option(
    "--uncertain",
    type=click.Choice(["ignore", "present", "absent"]),
    default="ignore",
    show_default=True,
    help="What uncertain labels mean.",
)
@click.pass_context
def check(ctx: click.RichContext, folder: str, uncertain: str) -> None:
    """Say what a data set is taken for, count its films and findings, look for what is wrong.

    Known: CheXpert (v1.0 and -small), NIH ChestX-ray14, MIMIC-CXR-JPG, PadChest, BRAX, VinDr-CXR, a folder with a
    labels.csv of your own (file, patient, findings; view and split where known), a folder of DICOM files.
    Exit code 2 where files are missing, a name stands twice, or a patient is in two splits.
    """
    from ..data.check import check_folder

    ctx.exit(2 if check_folder(Path(folder), uncertain=uncertain, report=click.echo) else 0)


@command.command("virtual")
@click.option("--out", required=True, metavar="DIR", help="Where the films go.")
@click.option("--patients", default=16, show_default=True, type=click.IntRange(1), help="How many.")
@click.option(
    "--seed",
    default=1_000_000,
    show_default=True,
    type=click.IntRange(0),
    help="The first patient's seed; the others follow.",
)
@click.option("--size", default=256, show_default=True, type=click.IntRange(64, 1024), help="Side of a film in pixels.")
@click.option("--ct", metavar="FILE", help="A CT of your own (NIfTI, Hounsfield units).")
@click.option("--labels", metavar="FILE", help="Its TotalSegmentator labels (NIfTI, 104 classes).")
def virtual(out: str, patients: int, seed: int, size: int, ct: str | None, labels: str | None) -> None:
    """Render virtual patients: each without a finding and with each of three, as exact pairs.

    They are made from one CT and are not people. Seeds below 40000 are those of the demo bundle's
    training and of the shipped test split.
    """
    if (ct is None) != (labels is None):
        raise UserError("--ct and --labels belong together; give both or neither")
    from rich.console import Console
    from rich.progress import Progress

    from ..data.virtual.volume import load_anatomy
    from ..data.virtual.write import write_patients

    anatomy = load_anatomy(Path(ct) if ct else None, Path(labels) if labels else None)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering", total=patients)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done)
            if not console.is_terminal and (done % 16 == 0 or done == total):
                print(f"{done}/{total} patients", file=sys.stderr, flush=True)

        write_patients(anatomy, Path(out), patients=patients, seed=seed, size=size, progress=progress)
    click.echo(f"{patients} virtual patients in {out}; {out}/films.csv lists the films")
