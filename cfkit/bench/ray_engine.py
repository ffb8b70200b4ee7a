"""Runs batches on a Ray cluster, or on the processes that Ray starts on this machine.

Each worker loads the models once. A worker that dies takes nothing with it but its batch, which goes to
another; the rows are stored by the process that began the run, so that each is there once.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
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
    fitting = int(min([room.get("CPU", 0) / cpus] + ([room.get("GPU", 0) / gpus] if gpus else [])))
    if fitting < 1:
        raise UserError(f"--engine ray: the cluster has no room for a worker of {cpus:g} CPUs and {gpus:g} GPUs")
    count = min(workers or fitting, fitting)

    class Remote:
        """A `Worker` in a process of its own."""

        def __init__(self, suite: Suite, specs: dict[str, Any]):
            from ..bundles.bundle import load_bundle

            bundle = load_bundle(suite.bundle, device=device)
            self.worker = Worker(bundle, specs, suite.load_audited(bundle.device))

        def ready(self) -> None:
            """Returns once the models are loaded."""

        def run(self, work: Work) -> Done:
            return self.worker.run(work)

    remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(Remote)

    def engine(works: Iterable[Work]) -> Iterator[Done]:
        pool = _Pool(lambda: remote.remote(plan.suite, plan.specs), count)
        try:
            yield from pool.run(iter(works))
        finally:
            pool.close()

    return engine


class _Pool:
    """Workers of Ray, each with a batch or waiting for one.

    A worker gets a batch once its models are loaded: one for which the cluster has no room any more waits
    without holding anything up.
    """

    def __init__(self, start: Callable[[], Any], count: int):
        self.start, self.failed_starts = start, 0
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Work, int]] = {}  # what a worker owes -> the worker, the batch, its tries
        self.starting: dict[Any, Any] = {}
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Starts a worker."""
        worker = self.start()
        self.starting[worker.ready.remote()] = worker

    def run(self, works: Iterator[Work]) -> Iterator[Done]:
        """Finished batches, in the order in which they end."""
        import ray

        again: list[tuple[Work, int]] = []
        while True:
            while self.idle:
                work, tries = again.pop() if again else (next(works, None), 0)
                if work is None:
                    break
                worker = self.idle.pop()
                self.busy[worker.run.remote(work)] = (worker, work, tries + 1)
            if self.idle and not self.busy:
                return  # nothing is left to give out, and nobody has anything
            (ended, *_), _ = ray.wait([*self.busy, *self.starting], num_returns=1)
            if ended in self.starting:
                self._begin(ended)
                continue
            worker, work, tries = self.busy.pop(ended)
            try:
                done = ray.get(ended)
            except ray.exceptions.RayActorError as error:
                self.add()
                if tries < TRIES:
                    print(f"cfkit: a worker died ({type(error).__name__}); its batch goes to another", file=sys.stderr)
                    again.append((work, tries))
                    continue
                done = failed_rows(work, f"its worker died {TRIES} times")
            else:
                self.idle.append(worker)
            yield done

    def _begin(self, ended: Any) -> None:
        """A worker is ready, or could not be started; it is tried again while others are there, else `TRIES` times."""
        import ray

        worker = self.starting.pop(ended)
        try:
            ray.get(ended)
            self.idle.append(worker)
            self.failed_starts = 0
        except ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts > TRIES and not (self.busy or self.idle or self.starting):
                text = " ".join(str(error).split())[-200:]
                raise UserError(f"--engine ray: no worker can be started ({text})") from None
            if not (self.busy or self.idle or self.starting):
                self.add()

    def close(self) -> None:
        """Stops the workers."""
        import ray

        for worker in (*self.idle, *self.starting.values(), *(worker for worker, _, _ in self.busy.values())):
            ray.kill(worker)
