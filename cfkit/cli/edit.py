"""`cfkit edit`."""

from __future__ import annotations

from typing import Any

import rich_click as click

from ..errors import UserError
from ..findings import Intervention
from ..options import has_speed, resolve
from ..plugins import find_editor
from .flags import MethodCommand, given_options, read_config


@click.command("edit", cls=MethodCommand)
@click.argument("images", nargs=-1, required=True, metavar="IMAGES...")
@click.option("--method", default="ours", show_default=True, help="The method; `cfkit methods` lists them.")
@click.option("--remove", metavar="FINDING", help="Take this finding out of the films.")
@click.option("--add", metavar="FINDING", help="Put this finding into the films.")
@click.option("-o", "--out", default="cfkit-edits", show_default=True, metavar="DIR", help="Where results go.")
@click.option("--bundle", default="demo", show_default=True, metavar="NAME|DIR", help="The models.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of each film's noise.")
@click.option(
    "--keep",
    metavar="STRUCTURES",
    help='What to keep as it is, e.g. "bones" or "Heart,Spine"; the method decides by default.',
)
@click.option(
    "--keep-mask",
    metavar="FILE",
    help="A picture of what to keep as it is (white), of the films' shape; with --keep, both are kept.",
)
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(1), help="Films edited together.")
@click.option("--config", metavar="FILE", help="TOML file with the method's options in a table of its name.")
@click.option("--any-shape", is_flag=True, help="Accept films that do not look like frontal chest films.")
@click.option("--mark", is_flag=True, help="Write SYNTHETIC into a corner of each result.")
@click.option("--keep-identity", is_flag=True, help="Leave patient and study in DICOM results; they are taken out.")
@click.option("--json", "as_json", is_flag=True, help="Print the records as JSON instead of the table.")
@click.pass_context
def command(ctx: click.RichContext, /, **values: Any) -> None:
    """Edit films: what would they look like with, or without, a finding?

    IMAGES are PNG, JPEG, TIFF or DICOM files, or a film that ships inside: sample:effusion and
    sample:cardiomegaly (virtual patients), sample:normal, sample:atelectasis, sample:effusion-real
    (NIH ChestX-ray14). Each gives STEM.png (or .dcm), STEM.json, STEM.panel.png and, where the
    method shows the way there, STEM.gif.
    """
    chosen = given_options(values)
    if (values["remove"] is None) == (values["add"] is None):
        raise UserError("give either --remove FINDING or --add FINDING")
    present = values["add"] is not None
    intervention = Intervention(values["add"] if present else values["remove"], present)
    spec = find_editor(values["method"])
    options = {**read_config(values["config"], spec.name), **chosen}
    if has_speed(spec.options) and not {"speed", "preset"} & options.keys():
        options["speed"] = "fast"
    resolve(spec.options, options, method=spec.name)  # refused before anything is loaded

    from .run_edit import run

    failed = run(spec, options, intervention, values)
    ctx.exit(2 if failed else 0)
