"""Scale-out: a local cluster of two nodes, one of which is killed half-way."""

import importlib.util
import os
from pathlib import Path

import pytest

import cfkit
from cfkit.bench.plan import make_plan
from cfkit.bench.run import run_plan
from cfkit.bench.store import Store
from cfkit.bench.suite import Suite, parse_methods
from cfkit.data.dataset import open_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs cfkit[ray]"),
]


def test_a_node_that_dies_loses_no_case_and_doubles_none(tmp_path, monkeypatch):
    import ray
    from ray.cluster_utils import Cluster

    from cfkit.bench.ray_engine import ray_engine

    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    try:
        ray.init(address=cluster.address, log_to_driver=False)
        bundle = cfkit.load_bundle("demo", device="cpu")
        suite = Suite(methods=parse_methods("towards,fails"), limit=8, batch_size=1, axioms=1)
        dataset = open_dataset("virtual")
        plan = make_plan(suite, dataset, bundle)
        ended = []

        def advance(label, cases, seconds):
            ended.append(label)
            if len(ended) == len(plan.cases) // 3:
                cluster.remove_node(second, allow_graceful=False)

        here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
        run_plan(plan, dataset, there, bundle, engine=ray_engine(plan, "cpu"), advance=advance)
        run_plan(plan, dataset, here, bundle)
        rows = {store: {row.key: row for row in store.cases()} for store in (here, there)}
        assert set(rows[there]) == {case.key for case in plan.cases} and len(ended) == len(plan.cases)
        for key, row in rows[here].items():
            assert rows[there][key].error == row.error
            if not row.error:
                difference = here.read_image(key) - there.read_image(key)
                assert difference.abs().max() < 1e-4
    finally:
        ray.shutdown()
        cluster.shutdown()
