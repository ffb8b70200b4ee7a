"""Runs batches on a Ray cluster, or on the processes that Ray starts on this machine.

Each worker loads the models once. A worker that dies takes nothing with it but its batch, which goes to
another; the rows are stored by the process that began the run, so that each is there once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import UserError
from .plan import Plan
from .run import Done, Engine, Work, Worker, failed_rows
from .suite import Suite

TRIES = 3  # of a batch whose worker dies: a batch that kills its worker is not given out for ever


def ray_engine(
    plan: Plan,
    device: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    gpus: float = 0.0,
    cpus: float = 1.0,
) -> Engine:
    """An engine for `run_plan`.

    Args:
        plan: Its bundle is loaded by every worker, by name or by a path that all nodes see.
        device: As in `load_bundle`, on the workers.
        address: Of a cluster, such as "auto" or "ray://head:10001"; None starts Ray on this machine.
        workers: How many; None takes as many as the cluster has room for.
        gpus: Of a GPU, for each worker; 0.25 puts four on one.
        cpus: For each worker.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached or has no room for a worker.
    """
    try:
        import ray
    except ImportError:
        raise UserError("--engine ray: Ray is not installed; pip install 'cfkit[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(f"--address {address}: no Ray cluster answers there ({error})") from None
    room = ray.cluster_resources()
    fitting = int(min(room.get("CPU", 0) / cpus, *([room.get("GPU", 0) / gpus] if gpus else [])))
    if fitting < 1:
        raise UserError(f"--engine ray: the cluster has no room for a worker of {cpus:g} CPUs and {gpus:g} GPUs")
    count = min(workers or fitting, fitting)

    class Remote:
        """A `Worker` in a process of its own."""

        def __init__(self, suite: Suite, specs: dict[str, Any]):
            from ..bundles.bundle import load_bundle

            bundle = load_bundle(suite.bundle, device=device)
            self.worker = Worker(bundle, specs, suite.load_audited(bundle.device))

        def run(self, work: Work) -> Done:
            return self.worker.run(work)

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(Remote)

    def engine(works: Iterable[Work]) -> Iterator[Done]:
        waiting = iter(works)
        again: list[tuple[Work, int]] = []
        busy: dict[Any, tuple[Any, Work, int]] = {}  # what an actor owes -> the actor, the batch, its tries
        idle = [remote.remote(plan.suite, plan.specs) for _ in range(count)]
        while True:
            while idle:
                work, tries = again.pop() if again else (next(waiting, None), 0)
                if work is None:
                    break
                actor = idle.pop()
                busy[actor.run.remote(work)] = (actor, work, tries + 1)
            if not busy:
                break
            (ready, *_), _ = ray.wait(list(busy), num_returns=1)
            actor, work, tries = busy.pop(ready)
            try:
                yield ray.get(ready)
                idle.append(actor)
            except ray.exceptions.RayActorError as error:
                idle.append(remote.remote(plan.suite, plan.specs))
                if tries < TRIES:
                    print(f"cfkit: a worker died ({type(error).__name__}); its batch goes to another", file=sys.stderr)
                    again.append((work, tries))
                else:
                    yield failed_rows(work, f"its worker died {TRIES} times")
        for actor in idle:
            ray.kill(actor)

    return engine
