"""`cfkit new-method`: the package that it writes, and the guide that shows it."""

import importlib
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

import cfkit
from cfkit import UserError
from cfkit.cli.new_method import write_package
from cfkit.plugins import load_plugins
from cfkit.specs import import_target
from cfkit.testing import check_editor

from .test_cli import cfkit as run
from .test_cli import one_line

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture
def package(tmp_path, monkeypatch):
    write_package("mine", tmp_path / "cfkit-mine")
    monkeypatch.syspath_prepend(tmp_path / "cfkit-mine")
    yield tmp_path / "cfkit-mine"
    for name in [name for name in sys.modules if name.startswith("cfkit_mine")]:
        del sys.modules[name]


def test_the_package_keeps_the_contract(package):
    found = load_plugins([EntryPoint("mine", "cfkit_mine", "cfkit")])
    assert not found.problems
    spec = found.editors["mine"]
    bundle = cfkit.load_bundle("demo", device="cpu")
    check_editor(import_target(spec.target)(bundle, spec.options(steps=2)), bundle)


def test_its_own_tests_would_run(package, monkeypatch):
    spec = load_plugins([EntryPoint("mine", "cfkit_mine", "cfkit")]).editors["mine"]

    def load_editor(name, *, bundle, **options):
        assert name == "mine"
        return import_target(spec.target)(bundle, spec.options(**options))

    monkeypatch.setattr(cfkit, "load_editor", load_editor, raising=False)
    monkeypatch.syspath_prepend(package / "tests")
    tests = importlib.import_module("test_mine")
    tests.test_it_moves_the_classifier()


def test_the_guide_shows_the_package(package):
    names = ["cfkit_mine/__init__.py", "cfkit_mine/editor.py", "tests/test_mine.py"]
    assert blocks_of(GUIDE)[:3] == [(package / name).read_text() for name in names]


def blocks_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


def test_the_guide_s_metric_is_registered_and_measures():
    registration, metric = ({}, {})
    for code, names in zip(blocks_of(GUIDE)[3:], (registration, metric), strict=True):
        exec(code, names)
    (spec,) = registration["register_metrics"]()
    largest = metric[spec.target.partition(":")[2]]()
    assert largest.higher_is_better == spec.higher_is_better
    film = torch.zeros(2, 1, 4, 4)
    largest.update(factual=film, counterfactual=film + 0.25)
    assert largest.compute() == 0.25


def test_the_command_says_what_comes_next(tmp_path):
    result = run("new-method", "my-own", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "cfkit-my-own" / "cfkit_my_own" / "editor.py").is_file()
    assert result.stdout.splitlines()[-1] == "now: pip install -e cfkit-my-own && pytest -q cfkit-my-own"
    one_line(run("new-method", "my-own", cwd=tmp_path), "cfkit-my-own", "is there already")


@pytest.mark.parametrize(
    ("name", "message"), [("Mine", "lower-case"), ("ours", "is installed"), ("../x", "lower-case")]
)
def test_names_that_will_not_do(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        write_package(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
