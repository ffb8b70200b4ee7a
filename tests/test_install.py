"""Strangers' packages, installed by pip into an environment of their own."""

import json
from pathlib import Path

import pytest

from cfkit.cli.new_method import write_package

from .environment import call, make_environment

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Python of a fresh environment that sees what this one has installed, torch above all."""
    return make_environment(tmp_path_factory.mktemp("environment"), ROOT, ROOT / "plugins")


def install(python: Path, package: Path) -> None:
    call(python, "-m", "pip", "install", "--no-deps", "--quiet", package)


def test_a_strangers_method_is_everywhere(python, tmp_path):
    install(python, ROOT / "examples" / "cfkit-identity")
    listed = call(python, "-m", "cfkit", "methods").stdout
    assert any("identity" in line and "cfkit-identity 1.0.0" in line for line in listed.splitlines())
    shown = call(python, "-m", "cfkit", "edit", "--help").stdout
    assert "Options of identity (cfkit-identity 1.0.0)" in shown and "--blur" in shown
    edit = ["edit", "sample:normal", "--method", "identity", "--add", "Cardiomegaly", "--device", "cpu", "-o"]
    call(python, "-m", "cfkit", *edit, tmp_path / "same")
    from cfkit.images import sample_path

    original, same = sample_path("normal"), tmp_path / "same" / "normal.png"
    code = (
        "import sys; from PIL import Image; a, b = map(Image.open, sys.argv[1:]); sys.exit(a.tobytes() != b.tobytes())"
    )
    call(python, "-c", code, original, same)
    blurred = call(python, "-m", "cfkit", *edit, tmp_path / "even", "--blur", 4, check=False)
    assert blurred.returncode == 2 and "--blur: 4 is even" in blurred.stderr
    assert "identity" not in call(python, "-m", "cfkit", "methods", CFKIT_DISABLE_PLUGINS="identity").stdout
    call(python, "-m", "pytest", "-q", ROOT / "examples" / "cfkit-identity" / "tests", "-p", "no:cacheprovider")


def test_a_strangers_method_runs_in_the_benchmark_beside_a_faulty_one(python, tmp_path):
    install(python, ROOT / "examples" / "cfkit-identity")
    write_package("faulty", tmp_path / "cfkit-faulty")
    editor = tmp_path / "cfkit-faulty" / "cfkit_faulty" / "editor.py"
    raises = "        raise RuntimeError('out of ideas')\n        known ="
    editor.write_text(editor.read_text().replace("        known =", raises))
    install(python, tmp_path / "cfkit-faulty")
    try:
        bench = ["bench", "--methods", "faulty,identity", "--tasks", "Cardiomegaly synthesis", "--limit", 2]
        done = call(python, "-m", "cfkit", *bench, "--device", "cpu", "--out", tmp_path / "run", check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "cfkit-faulty 0.1.0" in done.stderr and "out of ideas" in done.stderr
        results = json.loads((tmp_path / "run" / "results.json").read_text())
        assert results["methods"]["identity"]["distribution"] == "cfkit-identity 1.0.0"
        scores = {s["metric"]: s for s in results["scores"] if s["method"] == "identity" and s["task"] == "mean"}
        assert scores["l1"]["value"] == 0 and scores["l1"]["n"] == 2
        assert scores["flip_rate"]["value"] == 0 and scores["ssim"]["value"] == pytest.approx(1)
    finally:
        call(python, "-m", "pip", "uninstall", "-y", "-q", "cfkit-faulty")


def test_a_new_method_passes_its_own_tests_at_once(python, tmp_path):
    write_package("my-own", tmp_path / "cfkit-my-own")
    install(python, tmp_path / "cfkit-my-own")
    done = call(python, "-m", "pytest", "-q", tmp_path / "cfkit-my-own", "-p", "no:cacheprovider")
    assert "2 passed" in done.stdout
    listed = call(python, "-m", "cfkit", "methods").stdout
    assert any("my-own" in line and "cfkit-my-own 0.1.0" in line for line in listed.splitlines())


FAULTS = {
    "import": ("raise RuntimeError('no licence')", "", "does not load: RuntimeError: no licence"),
    "edit": ("", "raise RuntimeError('out of ideas')", "cfkit-faulty 0.1.0 failed: RuntimeError: out of ideas"),
    "shape": ("", "return Edit(images=images[..., :-1])", "cfkit-faulty 0.1.0 failed"),
    "nan": ("", "return Edit(images=images * float('nan'))", "cfkit-faulty 0.1.0 failed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_method_is_named_with_its_distribution(python, tmp_path, fault):
    at_import, at_edit, message = FAULTS[fault]
    package = tmp_path / "cfkit-faulty"
    write_package("faulty", package)
    module, editor = package / "cfkit_faulty" / "__init__.py", package / "cfkit_faulty" / "editor.py"
    if at_import:
        module.write_text(f"{at_import}\n{module.read_text()}")
    if at_edit:
        text = editor.read_text()
        editor.write_text(text.replace("        known =", f"        {at_edit}\n        known ="))
    install(python, package)
    try:
        edit = ["edit", "sample:normal", "--add", "Cardiomegaly", "--device", "cpu"]
        done = call(python, "-m", "cfkit", *edit, "--method", "faulty", "-o", tmp_path / "out", check=False)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("cfkit:")]
        assert message in line and "cfkit-faulty 0.1.0" in line
        assert not list((tmp_path / "out").glob("*.png"))
        listed = call(python, "-m", "cfkit", "methods").stdout
        assert "gifsplanation" in listed and "ours" in listed and "radedit" in listed
    finally:
        call(python, "-m", "pip", "uninstall", "-y", "-q", "cfkit-faulty")
