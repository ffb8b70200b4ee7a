"""Scale-out: a local cluster of two nodes, one of which is killed half-way."""

import os
from pathlib import Path

import pytest

import cfkit
from cfkit import UserError
from cfkit.bench.plan import make_plan
from cfkit.bench.ray_engine import Cluster, ray_engine
from cfkit.bench.run import run_plan
from cfkit.bench.store import Store
from cfkit.bench.suite import Suite, parse_methods
from cfkit.data.dataset import open_dataset


@pytest.fixture(scope="module")
def bundle():
    return cfkit.load_bundle("demo", device="cpu")


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of two nodes with a CPU each, whose workers find this package's tests."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.second = nodes.add_node(num_cpus=1)
    try:
        ray.init(address=nodes.address, log_to_driver=False)
        yield nodes
    finally:
        ray.shutdown()
        nodes.shutdown()


@pytest.mark.slow
def test_a_node_that_dies_loses_no_case_and_doubles_none(tmp_path, bundle, nodes):
    suite = Suite(methods=parse_methods("towards,fails"), limit=8, batch_size=1, axioms=1)
    dataset = open_dataset("virtual")
    plan = make_plan(suite, dataset, bundle)
    ended = []

    def advance(label, cases, seconds):
        ended.append(label)
        if len(ended) == len(plan.cases) // 3:
            nodes.remove_node(nodes.second, allow_graceful=False)

    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    run_plan(plan, dataset, there, bundle, engine=ray_engine(plan, bundle.hash, "cpu", Cluster()), advance=advance)
    run_plan(plan, dataset, here, bundle)
    rows = {store: {row.key: row for row in store.cases()} for store in (here, there)}
    assert set(rows[there]) == {case.key for case in plan.cases} and len(ended) == len(plan.cases)
    assert sum(bool(row.error) for row in rows[there].values()) > 0
    for key, row in rows[here].items():
        assert rows[there][key].error == row.error
        if not row.error:
            difference = here.read_image(key) - there.read_image(key)
            assert difference.abs().max() < 1e-4


@pytest.mark.slow
def test_a_worker_with_other_models_is_refused_and_so_is_a_cluster_without_room(tmp_path, bundle, nodes):
    dataset = open_dataset("virtual")
    plan = make_plan(Suite(methods=parse_methods("towards"), limit=1), dataset, bundle)
    store = Store(tmp_path / "run")
    with pytest.raises(UserError, match="a worker has another bundle"):
        run_plan(plan, dataset, store, bundle, engine=ray_engine(plan, "of others", "cpu", Cluster()))
    assert not store.finished()
    with pytest.raises(UserError, match="no node has room for a worker of 1 CPUs and 1 GPUs"):
        ray_engine(plan, bundle.hash, "cpu", Cluster(gpus=1))


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:nine"])
def test_an_address_where_nobody_listens_is_named_at_once(bundle, address):
    plan = make_plan(Suite(methods=parse_methods("towards"), limit=1), open_dataset("virtual"), bundle)
    with pytest.raises(UserError, match=f"--address {address}: no Ray cluster answers there"):
        ray_engine(plan, bundle.hash, "cpu", Cluster(address))


def test_without_ray_the_way_to_it_is_said(bundle, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    plan = make_plan(Suite(methods=parse_methods("towards"), limit=1), open_dataset("virtual"), bundle)
    with pytest.raises(UserError, match=r"pip install 'cfkit\[ray\]'"):
        ray_engine(plan, bundle.hash, "cpu", Cluster())
