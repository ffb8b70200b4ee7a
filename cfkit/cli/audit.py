"""`cfkit audit`."""

from __future__ import annotations

from typing import Any

import rich_click as click


@click.command("audit")
@click.option("--classifier", required=True, metavar="MODEL", help="A .pt2 file, or package.module:function.")
@click.option("--findings", metavar="LIST", help="Names of its outputs in their order, where it does not say them.")
@click.option("--methods", default="ours", show_default=True, metavar="LIST", help="What edits the films.")
@click.option("--data", default="virtual", show_default=True, metavar="NAME|DIR", help="The films.")
@click.option("--split", metavar="NAME", help="Of the data set, as its publisher calls it, e.g. valid.")
@click.option("--uncertain", type=click.Choice(["ignore", "present", "absent"]), help="What uncertain labels mean.")
@click.option("--tasks", metavar="LIST", help='e.g. "Cardiomegaly removal"; all by default.')
@click.option("--limit", default=8, show_default=True, type=click.IntRange(1), help="Most films a task.")
@click.option("--batch-size", type=click.IntRange(1), help="Films edited together.")
@click.option("--bundle", metavar="NAME|DIR", help="The models that edit and judge.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("-o", "--out", default="cfkit-audit", show_default=True, metavar="DIR", help="The run's folder.")
@click.pass_context
def command(ctx: click.RichContext, /, out: str, device: str, **given: Any) -> None:
    """Audit a classifier of your own: does it follow edits that an independent judge sees?

    Films are edited with the bundle's own models, which have never seen yours; then your classifier is asked
    before and after. It takes films (N, 1, H, W) in [0, 1] and gives logits (N, K). The report says by task
    how its probabilities of each finding move, which flips it misses, and shows the films. The run goes on
    with `cfkit bench --resume` when it was stopped.
    """
    from ..bench.command import start_bench
    from ..bench.suite import Suite

    suite = Suite(title=f"Audit of {given['classifier']}")
    chosen = {key: value for key, value in given.items() if value is not None}
    failed = start_bench(suite, chosen, out, device)
    ctx.exit(2 if failed else 0)
