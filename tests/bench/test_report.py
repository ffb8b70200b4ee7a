"""Scores, their files and the page, from a store alone."""

import csv
import json
import math
import re

import numpy as np
import pytest
import torch

from cfkit.bench import scores as scoring
from cfkit.bench.bootstrap import bootstrap_weights, interval, resample, values_and_draws
from cfkit.bench.command import report_run, start_bench
from cfkit.bench.compare import compare_runs
from cfkit.bench.page import choose_rows
from cfkit.bench.report import as_latex, find, plain_number
from cfkit.bench.scores import MEAN, Score, compare, mean_scores, score_run
from cfkit.bench.store import CaseRow, Store
from cfkit.bench.suite import read_suite
from cfkit.errors import UserError
from cfkit.metrics.esas import EmbeddingShiftAlignment
from cfkit.plugins import load_plugins

GIVEN = {"tasks": "Cardiomegaly removal,Atelectasis synthesis", "limit": 4, "axioms": 1}


def bench(folder, **given):
    assert start_bench(read_suite("quick"), {**GIVEN, **given}, str(folder), "cpu") >= 0


@pytest.fixture(scope="module")
def run(tmp_path_factory, module_stubs):
    folder = tmp_path_factory.mktemp("bench") / "run"
    start_bench(read_suite("quick"), {**GIVEN, "methods": "towards,fails,towards:strength=0.1"}, str(folder), "cpu")
    return folder


def load(run):
    return json.loads((run / "results.json").read_text())


def test_scores_are_those_of_the_stored_cases(run):
    store, found = Store(run), load(run)
    rows = [row for row in store.cases() if row.method == "towards" and row.kind == "edit" and row.present]
    expected = np.mean([float((store.read_image(r.key) - store.read_image(r.film)).abs().mean()) for r in rows])
    score = find(found["scores"], "l1", "towards", "Atelectasis synthesis")
    assert score["n"] == len(rows) == 4 and math.isclose(score["value"], expected, rel_tol=1e-4)
    tasks = [s for s in found["scores"] if (s["metric"], s["method"]) == ("l1", "towards")]
    mean = next(s for s in tasks if s["task"] == MEAN)["value"]
    assert math.isclose(mean, np.mean([s["value"] for s in tasks if s["task"] != MEAN]), rel_tol=1e-4)
    store.close()


def test_a_report_is_made_again_without_a_model(run, monkeypatch, capsys):
    import cfkit.bundles.bundle

    def refuse(*_):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(cfkit.bundles.bundle.Bundle, "module", refuse)
    before = load(run)
    (run / "results.json").unlink()
    report_run(run, page=True)
    assert load(run) == before
    assert "mean over tasks" in capsys.readouterr().out


def test_every_file_says_the_same(run):
    found = load(run)
    with (run / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(found["scores"])
    esas = find(found["scores"], "esas", "towards")
    assert any(r["metric"] == "esas" and r["task"] == MEAN and float(r["value"]) == esas["value"] for r in rows)
    assert f"{esas['value']:.3f}" in (run / "results.md").read_text()
    latex = (run / "results.tex").read_text()
    assert latex.count(r"\textbf") >= 2 and r"\toprule" in latex and f"{esas['value']:.3f}" in latex


def test_latex_escapes_labels(run):
    found = load(run)
    text = as_latex({**found, "methods": {"a_b & c%": {}}})
    assert r"a\_b \& c\%" in text


def test_paired_differences_are_narrower_than_unpaired_ones(run):
    store = Store(run)
    scores = score_run(store, [load_plugins().metrics["l1"]])
    a, b = (next(s for s in scores if s.method == m and s.task == MEAN) for m in ("towards", "towards:strength=0.1"))
    comparison = next(c for c in scoring.compare(scores) if (c.method, c.other) == (a.method, b.method))
    assert comparison.low < comparison.difference < comparison.high
    low, high = interval(a.draws - np.random.default_rng(0).permutation(b.draws))
    assert comparison.high - comparison.low < high - low
    store.close()


def test_the_bootstrap_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(0).normal(size=(200, 1))
    mean, draws = values_and_draws(values, bootstrap_weights(200, draws=4000))
    assert math.isclose(mean[0], values.mean())
    low, high = interval(draws[:, 0])
    assert math.isclose((high - low) / 2, 1.96 * values.std() / 200**0.5, rel_tol=0.06)


def test_nan_cases_are_left_out():
    values = np.array([[1.0], [np.nan], [3.0]])
    mean, draws = values_and_draws(values, np.array([[1, 1, 1], [2, 1, 0], [0, 3, 0]]))
    assert mean[0] == 2.0 and draws[0, 0] == 2.0 and draws[1, 0] == 1.0 and np.isnan(draws[2, 0])


def test_resampling_again_and_again_agrees_with_the_means_of_cases():
    g = torch.Generator().manual_seed(0)
    inputs = {
        name: torch.randn(6, 3, generator=g) for name in ("clip_before", "clip_after", "clip_positive", "clip_negative")
    } | {"present": torch.rand(6, generator=g) < 0.5}
    weights = bootstrap_weights(6, draws=7)
    metric = EmbeddingShiftAlignment()
    metric.update(**inputs)
    _, draws = values_and_draws(metric.case_values().numpy()[:, None].astype(float), weights)
    again = resample(metric.update, metric.compute, metric.reset, inputs, weights)
    assert np.allclose(again, draws[:, 0], rtol=1e-5)


def test_a_metric_that_fails_is_named_and_the_others_stand(run):
    from cfkit.specs import MetricSpec

    store, problems = Store(run), []
    bad = MetricSpec("bad", "tests.bench.stubs:WantsWhatIsNot", True, "", "stubs 1.0")
    scores = score_run(store, [bad, load_plugins().metrics["l1"]], problems=problems)
    assert {s.metric for s in scores} == {"l1"}
    assert len(problems) == 1 and "'bad' of stubs 1.0" in problems[0] and "factuals" in problems[0]
    store.close()


def score(method, task, value):
    return Score("l1", "", method, task, value, value, value, 5, False, np.full(10, value))


def test_methods_are_compared_on_the_tasks_of_both():
    own = {"a": {"easy": 0.2}, "b": {"easy": 0.2, "hard": 1.0}}
    scores = []
    for method, values in own.items():
        scores += [score(method, task, value) for task, value in values.items()]
        scores += mean_scores(scores[-len(values) :])
    (found,) = compare(scores)
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)


def test_an_infinite_score_is_none():
    assert plain_number(math.inf) is None and plain_number(-math.inf) is None


def test_runs_are_compared(run, tmp_path, capsys, monkeypatch):
    other = tmp_path / "other"
    start_bench(
        read_suite("quick"),
        {**GIVEN, "methods": "towards:strength=0.1,towards", "seeds": "3"},
        str(other),
        "cpu",
    )
    capsys.readouterr()
    compare_runs(run, other, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["paired"] and {row["method"] for row in found["differences"]} == {"towards", "towards:strength=0.1"}
    row = next(r for r in found["differences"] if r["metric"] == "l1")
    assert math.isclose(row["difference"], row["b"] - row["a"], abs_tol=1e-6)
    compare_runs(run, other, as_json=False)
    assert "the same films" in capsys.readouterr().out
    start_bench(
        read_suite("quick"), {**GIVEN, "methods": "hungry", "axioms": 0, "limit": 1}, str(tmp_path / "c"), "cpu"
    )
    with pytest.raises(UserError, match="no method in common"):
        compare_runs(run, tmp_path / "c", as_json=False)


def test_the_page_holds_all_that_it_shows(run):
    page = (run / "report.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page) and "http://" not in page.replace("http://www.w3.org", "")
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)[1])
    assert len(data["cases"]) == 3 * 2 * 4 and data["left_out"] == 0
    outcomes = {case["outcome"] for case in data["cases"]}
    assert "failed" in outcomes and outcomes <= {"failed", "flipped", "not"}
    for case in data["cases"]:
        assert case["film"] in data["films"] and (case["outcome"] == "failed") == ("image" not in case)


def test_the_page_takes_markup_for_text(run, tmp_path):
    from cfkit.bench.page import write_page

    found = load(run)
    name = "</script><img src=x onerror=alert(1)>"
    found["suite"]["title"] = name
    found["methods"] = {name: {}}
    store = Store(run)
    page = write_page(store, tmp_path, found).read_text()
    store.close()
    assert "<img src=x" not in page and page.count("</script>") == 2


def test_failures_are_on_the_page_first_when_there_is_no_room_for_all():
    rows = [CaseRow(str(k), "m", "edit", "f", "F", True, 0, error="bad" if k == 9 else "") for k in range(10)]
    kept = choose_rows(rows, most=3)
    assert len(kept) == 3 and rows[9] in kept
    assert choose_rows(rows, most=10) == rows
