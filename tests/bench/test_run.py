"""A run: what it does with failures, memory, kills and resumption."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cfkit
from cfkit.bench import run as run_module
from cfkit.bench.command import start_bench
from cfkit.bench.plan import make_plan
from cfkit.bench.run import Work, Worker
from cfkit.bench.store import Store, png_bytes
from cfkit.bench.suite import Method, Suite, parse_methods, read_suite, suite_data, suite_from
from cfkit.data.dataset import open_dataset
from cfkit.errors import UserError

ROOT = Path(__file__).parents[2]
GIVEN = {"tasks": "Cardiomegaly removal,Atelectasis synthesis", "limit": 5, "batch_size": 2, "axioms": 1}
FEW = "l1,clip_accuracy,flip_rate,reversibility"


@pytest.fixture(scope="module")
def bundle():
    return cfkit.load_bundle("demo", device="cpu")


def run(out, methods, **given):
    return start_bench(read_suite("quick"), {**GIVEN, "metrics": FEW, "methods": methods, **given}, str(out), "cpu")


def results(out):
    found = json.loads((out / "results.json").read_text())
    found.pop("timings")
    return found


def test_every_case_ends_and_is_scored(tmp_path):
    failed = run(tmp_path / "run", "towards,fails,absent", metrics="")
    found = results(tmp_path / "run")
    assert failed == len(found["failures"]) >= 14 + 1
    assert found["cases"] == 3 * 2 * (5 + 2)
    by_method = {}
    for failure in found["failures"]:
        by_method.setdefault(failure["method"], []).append(failure["error"])
    assert set(by_method) == {"fails", "absent"}, "one method's failures are its own"
    assert all("failed: ValueError: too bright for me" in e or "taken back" in e for e in by_method["fails"])
    assert all("no weights" in e or "taken back" in e for e in by_method["absent"])
    scored = {(s["method"], s["task"]): s for s in found["scores"] if s["metric"] == "l1"}
    assert scored["towards", "Cardiomegaly removal"]["n"] == 5
    assert 0 < scored["fails", "mean"]["n"] < 10
    assert ("absent", "mean") not in scored
    assert scored["towards", "mean"]["low"] < scored["towards", "mean"]["value"] < scored["towards", "mean"]["high"]
    installed = {name for name in cfkit.plugins.load_plugins().metrics if not name.startswith("audit")}
    assert {s["metric"] for s in found["scores"]} == installed


def test_a_killed_run_resumes_to_the_same_results(tmp_path):
    assert run(tmp_path / "whole", "dies,towards") == 0
    code = (
        "import importlib.metadata, sys, cfkit.plugins; from tests.bench.stubs import POINT;"
        "points = [*importlib.metadata.entry_points(group='cfkit'), POINT];"
        "cfkit.plugins.entry_points = lambda group: points;"
        "from cfkit.cli import main; main()"
    )
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in {**GIVEN, "metrics": FEW}.items()]
    command = [sys.executable, "-c", code, "bench", "quick", *flags, "--methods=dies,towards", "--device=cpu"]
    command += ["-o", str(tmp_path / "killed")]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, "STUB_BATCHES": "3"}, capture_output=True)
    assert killed.returncode == -9
    store = Store(tmp_path / "killed")
    done = store.finished()
    assert len(done) == 5, "of five films: two, two and one"
    store.close()
    resume = [sys.executable, "-c", code, "bench", "--resume", str(tmp_path / "killed"), "--device=cpu"]
    again = subprocess.run(resume, cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert results(tmp_path / "killed") == results(tmp_path / "whole")
    left = {path.name for path in (tmp_path / "killed" / "images").iterdir()}
    assert left == {path.name for path in (tmp_path / "whole" / "images").iterdir()}


def test_out_of_memory_halves_the_batch_and_changes_nothing_else(bundle):
    plan = make_plan(
        Suite(methods=parse_methods("hungry,towards"), tasks=("Cardiomegaly removal",), limit=5),
        open_dataset("virtual"),
        bundle,
    )
    worker = Worker(bundle, plan.suite, plan.specs)
    films = torch.rand(5, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    done = {batch[0].method: worker.run(Work(batch, films)) for batch in plan.batches()}
    assert not any(row.error for row in done["hungry"].rows) and len(done["hungry"].rows) == 5
    assert list(done["hungry"].images.values()) == list(done["towards"].images.values())


def test_a_failed_case_is_tried_again_on_resumption(tmp_path, monkeypatch):
    from cfkit.bench.command import resume_bench
    from tests.bench.stubs import Fails, Towards

    assert run(tmp_path / "run", "fails", axioms=0) > 0
    monkeypatch.setattr(Fails, "edit", Towards.edit)
    assert resume_bench(str(tmp_path / "run"), "cpu") == 0
    assert results(tmp_path / "run")["failures"] == []


def test_what_is_finished_stays_when_its_batch_is_tried_again(tmp_path, monkeypatch):
    from cfkit.bench.command import resume_bench
    from tests.bench.stubs import Fails

    folder = tmp_path / "run"
    before = run(folder, "fails", axioms=0)
    finished = {row.key: row for row in Store(folder).cases() if not row.error}
    assert finished and before

    def break_down(self, images, interventions, **rest):
        raise RuntimeError("worse")

    monkeypatch.setattr(Fails, "edit", break_down)
    assert resume_bench(str(folder), "cpu") == before
    assert {row.key for row in Store(folder).cases() if not row.error} == set(finished)


def test_references_do_not_depend_on_where_a_run_was_stopped(tmp_path, bundle, monkeypatch):
    monkeypatch.setattr(run_module, "REFERENCES", 6)
    dataset = open_dataset("virtual")
    plan = make_plan(Suite(methods=parse_methods("towards"), limit=3), dataset, bundle)
    whole, stopped = Store(tmp_path / "whole"), Store(tmp_path / "stopped")
    run_module.add_films(plan, dataset, whole, bundle)
    films = whole.films()
    assert len(films) == len(plan.films) + 6
    for row in list(films.values())[::2]:
        stopped.add_film(row, {})
    run_module.add_films(plan, dataset, stopped, bundle)
    assert set(stopped.films()) == set(films)


def test_a_damaged_store_is_told_in_a_line(tmp_path):
    from cfkit.bench.command import report_run
    from cfkit.bench.compare import compare_runs

    run(tmp_path / "run", "towards", axioms=0)
    store = tmp_path / "run" / "cases.sqlite"
    data = bytearray(store.read_bytes())
    data[4096 : len(data) - 4096] = os.urandom(len(data) - 8192)
    store.write_bytes(data)
    for call in (
        lambda: report_run(tmp_path / "run", page=False),
        lambda: compare_runs(tmp_path / "run", tmp_path / "run", as_json=True),
    ):
        with pytest.raises(UserError, match="--resume"):
            call()


def test_seeds_and_films_that_stand_twice_give_no_case_twice(bundle):
    suite = Suite(methods=parse_methods("towards"), tasks=("Cardiomegaly removal",), limit=2, seeds=(0, 0))
    cases = make_plan(suite, open_dataset("virtual"), bundle).cases
    assert len({case.key for case in cases}) == len(cases) == 2
    double = Doubled(open_dataset("virtual"))
    cases = make_plan(suite, double, bundle).cases
    assert len({case.key for case in cases}) == len(cases)


class Doubled:
    """A data set of which each film is there twice, under another name and patient."""

    name = "doubled"

    def __init__(self, dataset):
        self.dataset = dataset

    def entries(self):
        entries = self.dataset.entries()
        return [*entries, *(replace(e, name=f"{e.name}-2", patient=f"{e.patient}-2") for e in entries)]

    def __len__(self):
        return 2 * len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index % len(self.dataset)]


def test_a_run_is_not_begun_where_one_is_or_resumed_where_none_is(tmp_path):
    from cfkit.bench.command import resume_bench

    run(tmp_path / "run", "towards", limit=1, axioms=0)
    with pytest.raises(UserError, match="--resume"):
        run(tmp_path / "run", "towards")
    with pytest.raises(UserError, match="no run"):
        resume_bench(str(tmp_path), "cpu")
    told = json.loads((tmp_path / "run" / "plan.json").read_text())
    (tmp_path / "run" / "plan.json").write_text(json.dumps({**told, "hash": "other"}))
    with pytest.raises(UserError, match="changed since"):
        resume_bench(str(tmp_path / "run"), "cpu")


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    from cfkit.bench.store import lock

    held = lock(tmp_path)
    with pytest.raises(UserError, match="another run"):
        lock(tmp_path)
    held.close()
    lock(tmp_path).close()


def test_stored_films_come_back_to_half_a_level_of_16_bits(tmp_path):
    store = Store(tmp_path)
    film = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    store.write_image("film", png_bytes(film))
    assert (store.read_image("film") - film).abs().max() <= 0.5 / 65535 + 1e-7
    store.close()


def test_keys_follow_all_that_decides_a_result(bundle):
    base = Suite(methods=parse_methods("towards"), tasks=("Cardiomegaly removal",), limit=2)

    def keys(**changed):
        return {
            case.key for case in make_plan(Suite(**{**vars(base), **changed}), open_dataset("virtual"), bundle).cases
        }

    same = keys()
    assert keys() == same and len(same) == 2
    assert keys(batch_size=1, title="other", metrics=("l1",)) == same
    for changed in (
        {"methods": parse_methods("towards:strength=0.25")},
        {"tasks": ("Cardiomegaly synthesis",)},
        {"seeds": (1,)},
    ):
        assert not keys(**changed) & same
    assert keys(limit=3) > same and keys(axioms=2) > same


def test_one_film_a_patient_and_the_finding_the_other_way_round(bundle):
    dataset = open_dataset("virtual")
    plan = make_plan(Suite(methods=parse_methods("towards"), limit=64), dataset, bundle)
    for batch in plan.batches():
        samples = [dataset[plan.films[case.film]] for case in batch]
        assert len({s.patient for s in samples}) == len(samples)
        for case, sample in zip(batch, samples, strict=True):
            assert sample.findings[case.intervention.finding] != case.intervention.present
            if case.intervention.present:
                assert not any(sample.findings.values()), "healthy films come first"


@pytest.mark.parametrize("name", ["quick", "paper", "ablation"])
def test_the_suites_inside_plan(name, bundle):
    suite = read_suite(name)
    assert suite_from(json.loads(json.dumps(suite_data(suite)))) == suite
    assert make_plan(suite, open_dataset(suite.data), bundle).cases


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ours", [("ours", {})]),
        ("ours, radedit", [("ours", {}), ("radedit", {})]),
        ("a,ours:layers=residual,epochs=3,b", [("a", {}), ("ours", {"layers": "residual", "epochs": 3}), ("b", {})]),
        ("ours:bone_mask=false", [("ours", {"bone_mask": False})]),
    ],
)
def test_methods_are_read_from_a_line(text, expected):
    assert [(m.name, m.options) for m in parse_methods(text)] == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "no method"), ("epochs=3", "follows no method"), ("ours:layers", "OPTION=VALUE"), (",", "no method")],
)
def test_a_line_of_methods_that_is_none(text, said):
    with pytest.raises(UserError, match=said):
        parse_methods(text)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"limt": 3}, "limit"),
        ({"limit": "3"}, "int wanted"),
        ({"limit": 0}, "at least 1"),
        ({"methods": [{"label": "x"}]}, "needs a name"),
        ({"tasks": "Cardiomegaly removal"}, "list wanted"),
        ({"tasks": [1]}, "a list of str wanted"),
        ({"seeds": ["a"]}, "a list of int wanted"),
        ({"axioms": -1}, "at least 0"),
        ({"methods": [{"name": "ours", "options": 3}]}, "a table of options"),
    ],
)
def test_a_suite_that_says_what_no_suite_says(table, said):
    with pytest.raises(UserError, match=said):
        suite_from(table)


def test_plans_that_cannot_be(bundle):
    dataset = open_dataset("virtual")
    twice = (Method("a", "towards"), Method("a", "fails"))
    for suite, said in (
        (Suite(methods=twice), "twice"),
        (Suite(methods=parse_methods("nosuch")), "method"),
        (Suite(methods=parse_methods("towards:strenth=1")), "strength"),
        (Suite(methods=parse_methods("towards"), tasks=("Cardiomegaly",)), "removal"),
        (Suite(methods=parse_methods("towards"), tasks=("Nothing removal",)), "finding"),
        (Suite(methods=()), "no method"),
    ):
        with pytest.raises(UserError, match=said):
            make_plan(suite, dataset, bundle)
