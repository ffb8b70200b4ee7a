"""`cfkit bench`."""

from __future__ import annotations

from typing import Any

import rich_click as click
from click.core import ParameterSource

from ..errors import UserError


@click.command("bench")
@click.argument("suite", default="quick", metavar="[SUITE]")
@click.option("--suite", "named", metavar="SUITE", help="The same as the argument.")
@click.option("--methods", metavar="LIST", help="all, or names with options: a,b,ours:layers=residual,epochs=3")
@click.option("--data", metavar="NAME|DIR", help="virtual (ships inside), or a folder of films.")
@click.option("--split", metavar="NAME", help="Of the data set, as its publisher calls it, e.g. valid.")
@click.option("--uncertain", type=click.Choice(["ignore", "present", "absent"]), help="What uncertain labels mean.")
@click.option("--tasks", metavar="LIST", help='e.g. "Cardiomegaly removal,Atelectasis synthesis"; all by default.')
@click.option("--limit", type=click.IntRange(1), help="Most films a task, one a patient.")
@click.option("--seeds", metavar="LIST", help="Each film is edited once with each, e.g. 0,1,2.")
@click.option("--axioms", type=click.IntRange(0), help="Films a task for composition and reversibility.")
@click.option("--metrics", metavar="LIST", help="Names; all by default.")
@click.option("--batch-size", type=click.IntRange(1), help="Films edited together; halved when memory ends.")
@click.option("--bundle", metavar="NAME|DIR", help="The models.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, mps.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True, help="What runs it.")
@click.option("--address", metavar="HOST", help="Of a Ray cluster, e.g. auto; without it Ray starts on this machine.")
@click.option("--workers", type=click.IntRange(1), help="Most workers of Ray; as many as fit by default.")
@click.option("--cpus", type=click.FloatRange(0.1), help="For each worker of Ray; 1 by default.")
@click.option("--gpus", type=click.FloatRange(0.0), help="Of a GPU, for each worker of Ray: 0.25 puts four on one.")
@click.option("-o", "--out", default="cfkit-bench", show_default=True, metavar="DIR", help="The run's folder.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was stopped; what failed is tried again.")
@click.option("--dry-run", is_flag=True, help="Say what would run, time one film of each method, run nothing.")
@click.pass_context
def command(
    ctx: click.RichContext, /, suite: str, named: str | None, out: str, resume: str | None, dry_run: bool, **given: Any
) -> None:
    """Edit the same films with every method, and score what comes of it.

    SUITE is quick (default; a few minutes on two cores), paper, ablation, or a TOML file; options win over what
    it says. A run that is stopped, even killed, goes on with --resume and ends as if it had not been.
    """
    from ..bench.command import resume_bench, start_bench
    from ..bench.ray_engine import Cluster
    from ..bench.suite import read_suite

    device, engine = given.pop("device"), given.pop("engine")
    where = {key: given.pop(key) for key in ("address", "workers", "cpus", "gpus")}
    asked = {key: value for key, value in where.items() if value is not None}
    if asked and engine != "ray":
        raise UserError(f"--{next(iter(asked))}: is for --engine ray")
    cluster = Cluster(**asked) if engine == "ray" else None
    chosen = {key: value for key, value in given.items() if value is not None}
    named_here = ctx.get_parameter_source("suite") is ParameterSource.COMMANDLINE
    if named and named_here:
        raise UserError(f"--suite {named}: '{suite}' is named too; give one of them")
    if resume and (chosen or dry_run or named or named_here):
        raise UserError("--resume: the run knows its suite; give no other option but where it is to run")
    if resume:
        failed = resume_bench(resume, device, cluster=cluster)
    else:
        failed = start_bench(read_suite(named or suite), chosen, out, device, cluster=cluster, dry_run=dry_run)
    ctx.exit(2 if failed else 0)
