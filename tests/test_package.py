"""What a user meets first: imports, the loader, options."""

import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import ClassVar, Literal

import pytest

import cfkit
from cfkit import EditorSpec, UserError, hookimpl, option
from cfkit.options import resolve
from cfkit.plugins import load_plugins


def test_importing_and_asking_for_help_do_not_import_torch():
    modules = "cfkit, cfkit.cli.edit, cfkit.cli.train, cfkit.cli.data, cfkit_ours"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "cfkit", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 1.0  # 0.2 s when the machine is idle


def test_public_names():
    for name in cfkit.__all__:
        assert getattr(cfkit, name) is not None
    with pytest.raises(AttributeError):
        _ = cfkit.nonsense


def test_cfkit_knows_no_method():
    from pathlib import Path

    for path in Path(cfkit.__file__).parent.rglob("*.py"):
        assert "cfkit_" not in path.read_text().replace("cfkit_$module", ""), path  # the template of new-method


@dataclass(frozen=True)
class ToyOptions:
    rate: float = option(0.1, "A rate.", minimum=0.0, maximum=1.0)
    kind: Literal["a", "b"] = option("a", "A kind.")
    count: int = option(3, "A count.", minimum=1)
    flag: bool = option(True, "A flag.")
    PRESETS: ClassVar = {"fast": {"count": 1, "rate": 0.5}}


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name=name, value=value, group="cfkit")


@pytest.fixture
def toy(monkeypatch):
    def add(module_name: str, methods: list[str]) -> None:
        module = ModuleType(module_name)

        @hookimpl
        def register_editors():
            return [EditorSpec(name, ToyOptions, f"{module_name}:Toy", "A toy.") for name in methods]

        module.register_editors = register_editors
        monkeypatch.setitem(sys.modules, module_name, module)

    return add


def test_a_broken_plugin_is_named_and_the_others_load(toy):
    toy("toy_one", ["one"])
    found = load_plugins([point("broken", "no_such_module"), point("one", "toy_one")])
    assert list(found.editors) == ["one"]
    assert len(found.problems) == 1
    assert "'broken'" in found.problems[0] and "no_such_module" in found.problems[0]


def test_a_duplicate_plugin_is_named_and_loads_from_neither(toy):
    toy("toy_one", ["one"])
    toy("toy_two", ["two"])
    found = load_plugins([point("same", "toy_one"), point("same", "toy_two"), point("two", "toy_two")])
    assert list(found.editors) == ["two"]
    assert "'same' is registered by" in found.problems[0]


def test_two_methods_of_one_name(toy):
    toy("toy_one", ["one"])
    toy("toy_two", ["one", "two"])
    found = load_plugins([point("a", "toy_one"), point("b", "toy_two")])
    assert sorted(found.editors) == ["one", "two"]
    assert "'one'" in found.problems[0]


def test_no_package_takes_over_the_method_of_another(toy):
    toy("toy_own", ["own"])
    toy("toy_first", ["own", "other"])
    found = load_plugins([point("aaa", "toy_first"), point("own", "toy_own")])
    assert found.editors["own"].target == "toy_own:Toy" and "other" in found.editors
    assert "method 'own' of" in found.problems[0]


def test_a_bundle_is_loaded_by_name_by_path_or_given(tmp_path):
    demo = cfkit.load_bundle("demo", device="cpu")
    for bundle in (demo, demo.folder, str(demo.folder)):
        assert cfkit.load_editor("ours", bundle=bundle, device="cpu").options == cfkit.load_editor("ours").options


def test_plugins_can_be_left_out(toy, monkeypatch):
    toy("toy_one", ["one"])
    monkeypatch.setenv("CFKIT_DISABLE_PLUGINS", "a, other")
    assert not load_plugins([point("a", "toy_one")]).editors


def test_ours_is_registered_like_any_other():
    (ours,) = [spec for spec in cfkit.list_editors() if spec.name == "ours"]
    assert ours.distribution.startswith("cfkit ")
    with pytest.raises(UserError, match="Did you mean 'ours'"):
        cfkit.load_editor("our")


def test_precedence_of_options():
    recommended = {"rate": 0.3, "count": 9}
    assert resolve(ToyOptions, {}) == ToyOptions()
    assert resolve(ToyOptions, {}, recommended=recommended) == ToyOptions(rate=0.3, count=9)
    assert resolve(ToyOptions, {"preset": "fast"}, recommended=recommended) == ToyOptions(rate=0.5, count=1)
    assert resolve(ToyOptions, {"preset": "fast", "count": 4}, recommended=recommended) == ToyOptions(rate=0.5, count=4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rte": 1}, "Did you mean 'rate'"),
        ({"rate": 2.0}, "--rate: 2.0 is out of range"),
        ({"rate": float("nan")}, "--rate: a finite number is wanted"),
        ({"rate": float("inf")}, "--rate: a finite number is wanted"),
        ({"kind": "c"}, "Unknown value of --kind 'c'"),
        ({"count": 1.5}, "--count: int wanted"),
        ({"count": True}, "--count: int wanted"),
        ({"flag": 1}, "--flag: bool wanted"),
        ({"preset": "slow"}, "Unknown preset"),
    ],
)
def test_wrong_options_are_named(given, message):
    with pytest.raises(UserError, match=message):
        resolve(ToyOptions, given)
