"""Runs batches on a Ray cluster, or on the processes that Ray starts on this machine.

Each worker loads the models once. A worker that dies takes nothing with it but its batch, which goes to
another; the rows are stored by the process that began the run, so that each is there once.
"""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..bundles.bundle import load_bundle
from ..errors import UserError, one_line
from ..memory import keep_freed_memory
from .plan import Plan
from .run import Done, Engine, Work, Worker, failed_batch
from .suite import Suite

TRIES = 3  # of a batch whose worker dies: a batch that kills its worker is not given out for ever


@dataclass(frozen=True)
class Cluster:
    """Where the work goes.

    Attributes:
        address: Of a cluster, such as "auto" or "ray://head:10001"; None starts Ray on this machine.
        workers: How many at most; None takes as many as there is room for.
        gpus: Of a GPU, for each worker; 0.25 puts four on one.
        cpus: For each worker.
    """

    address: str | None = None
    workers: int | None = None
    gpus: float = 0.0
    cpus: float = 1.0


class RemoteWorker:
    """A `Worker` in a process of its own, with as many threads as it has CPUs."""

    def __init__(self, suite: Suite, specs: dict[str, Any], device: str, cpus: float):
        keep_freed_memory()
        torch.set_num_threads(max(1, int(cpus)))
        bundle = load_bundle(suite.bundle, device=device)
        self.worker = Worker(bundle, suite, specs)

    def bundle_hash(self) -> str:
        """Of the models, once they are loaded."""
        return self.worker.bundle.hash

    def run(self, work: Work) -> Done:
        """Edits a batch."""
        return self.worker.run(work)


def ray_engine(plan: Plan, bundle_hash: str, device: str, cluster: Cluster) -> Engine:
    """An engine for `run_plan`.

    Args:
        plan: Its bundle is loaded by every worker, by name or by a path that all nodes see.
        bundle_hash: Of the bundle that the plan was made for; a worker that finds another is refused.
        device: As in `load_bundle`, on the workers.
        cluster: Where the work goes.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached or has no room for a worker.
    """
    ray = _import_ray()
    if not ray.is_initialized():
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            _knock(cluster.address)
            ray.init(address=cluster.address, log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (OSError, RuntimeError, ValueError) as error:
            text = one_line(error, most=200)
            raise UserError(f"--address {cluster.address}: no Ray cluster answers there ({text})") from None
    asked_for = {"CPU": cluster.cpus, **({"GPU": cluster.gpus} if cluster.gpus else {})}
    fitting = sum(  # a worker lies on one node
        min(int(node["Resources"].get(kind, 0) / share) for kind, share in asked_for.items())
        for node in ray.nodes()
        if node["Alive"]
    )
    if fitting < 1:
        asked = f"{cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs"
        raise UserError(f"--engine ray: no node has room for a worker of {asked}; see --gpus and --cpus")
    suite = replace(plan.suite, bundle=_everywhere(plan.suite.bundle), classifier=_everywhere(plan.suite.classifier))
    remote = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus)(RemoteWorker)

    def engine(works: Iterable[Work]) -> Iterator[Done]:
        pool = _Pool(
            lambda: remote.remote(suite, plan.specs, device, cluster.cpus),
            min(cluster.workers or fitting, fitting),
            bundle_hash,
        )
        try:
            yield from pool.run(iter(works))
        finally:
            pool.close()

    return engine


def _knock(address: str | None) -> None:
    """Raises OSError where nobody listens at HOST:PORT; Ray itself would try for a quarter of an hour."""
    host, colon, port = (address or "").rpartition("//")[2].partition(":")
    if colon:
        socket.create_connection((host, int(port)), timeout=10.0).close()


def _import_ray() -> Any:
    try:
        return import_module("ray")
    except ImportError:
        raise UserError("--engine ray: Ray is not installed; pip install 'cfkit[ray]'") from None


def _everywhere(name: str) -> str:
    """A path made absolute, since workers start in a folder of their own; other names as they are."""
    return str(Path(name).resolve()) if name and Path(name).exists() else name


class _Pool:
    """Workers of Ray, each with a batch or waiting for one.

    A worker gets a batch once its models are loaded: one for which the cluster has no room any more waits
    without holding anything up.
    """

    def __init__(self, start: Callable[[], Any], count: int, bundle_hash: str):
        self.ray = _import_ray()
        self.start, self.bundle_hash, self.failed_starts = start, bundle_hash, 0
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Work, int]] = {}  # what a worker owes -> the worker, the batch, its tries
        self.starting: dict[Any, Any] = {}
        for _ in range(count):
            self.add()

    def add(self) -> None:
        """Starts a worker."""
        worker = self.start()
        self.starting[worker.bundle_hash.remote()] = worker

    def run(self, works: Iterator[Work]) -> Iterator[Done]:
        """Finished batches, in the order in which they end."""
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
            (ended, *_), _ = self.ray.wait([*self.busy, *self.starting], num_returns=1)
            if ended in self.starting:
                self._begin(ended)
                continue
            worker, work, tries = self.busy.pop(ended)
            try:
                done = self.ray.get(ended)
            except self.ray.exceptions.RayTaskError:
                raise  # the code failed, not the worker
            except self.ray.exceptions.RayError as error:  # it died, or what it returned was lost with its node
                self.ray.kill(worker)
                self.add()
                if tries < TRIES:
                    print(f"cfkit: a worker died ({type(error).__name__}); its batch goes to another", file=sys.stderr)
                    again.append((work, tries))
                    continue
                done = failed_batch(work, f"its worker died {TRIES} times")
            else:
                self.idle.append(worker)
            yield done

    def _begin(self, ended: Any) -> None:
        """A worker is ready, or could not be started; it is tried again while others are there, else `TRIES` times."""
        worker = self.starting.pop(ended)
        try:
            found = self.ray.get(ended)
            self.idle.append(worker)
            self.failed_starts = 0
            if found != self.bundle_hash:
                raise UserError(
                    "--engine ray: a worker has another bundle; put the same cfkit and bundle on every node"
                )
        except self.ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.busy or self.idle or self.starting:
                return
            if self.failed_starts > TRIES:
                text = " ".join(str(error).split())[-200:]
                raise UserError(f"--engine ray: no worker can be started ({text})") from None
            self.add()

    def close(self) -> None:
        """Stops the workers."""
        for worker in (*self.idle, *self.starting.values(), *(worker for worker, _, _ in self.busy.values())):
            self.ray.kill(worker)
