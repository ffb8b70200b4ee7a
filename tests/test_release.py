"""What is handed out: the wheel and the sdist, and a licence for all that lies inside."""

import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path

import pytest

from cfkit.errors import read_toml

from .environment import call, make_environment

ROOT = Path(__file__).parents[1]
DATA = ROOT / "cfkit" / "data"
DEMO = ROOT / "cfkit" / "bundles" / "demo"


def test_every_weight_has_a_licence_and_a_place_in_the_card():
    told = read_toml(DEMO / "bundle.toml")
    weights = sorted(path.name for path in DEMO.glob("*.safetensors"))
    assert weights == sorted(part["file"] for part in told["parts"].values() if "file" in part)
    assert told["licence"] == "MIT" and told["origin"]
    card = (DEMO / "MODEL_CARD.md").read_text()
    assert "MIT licence" in card and "Not for clinical use" in card
    for name in weights:
        assert f"| {name.removesuffix('.safetensors')} |" in card or name == "radedit.safetensors"
    assert "text-conditional denoiser" in card  # of which the card has no figures; docs/methods.md has


def test_every_image_and_volume_has_a_licence():
    notice = (DATA / "NOTICE.md").read_text()
    for path in [*DATA.glob("samples/*"), *DATA.glob("virtual/*.npz")]:
        assert f"`{path.parent.name}/{path.name}`" in notice, path.name
    gallery = (ROOT / "docs" / "gallery" / "README.md").read_text()
    assert "NIH" in gallery and "Wang" in gallery


def shipped() -> set[str]:
    """All files of the packages that belong into a wheel."""
    found = [path for top in ("cfkit", "plugins") for path in (ROOT / top).rglob("*") if path.is_file()]
    names = {path.relative_to(ROOT).as_posix().removeprefix("plugins/") for path in found}
    return {name for name in names if "__pycache__" not in name and not name.endswith((".pyc", ".part"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a wheel, that was built from the sdist beside it."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", out, ROOT], check=True, capture_output=True)
    return out


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_packages_and_no_other(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if "/licenses/" in name]
    assert names == shipped()
    assert {Path(name).name for name in licences} == {"LICENSE", "NOTICE.md"}
    assert wheel.stat().st_size < 80e6


@pytest.mark.slow
def test_the_sdist_holds_the_sources_the_tests_and_the_pages(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md", "CITATION.cff", "mkdocs.yml"} <= names
    tracked = subprocess.run(
        ["git", "ls-files", "tests", "docs", "examples", "benchmarks"], cwd=ROOT, capture_output=True
    )
    if tracked.returncode == 0 and tracked.stdout:
        assert set(tracked.stdout.decode().split()) <= names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_what_is_handed_out_edits_a_film_in_a_fresh_environment(built, tmp_path, kind):
    """All but what pip would fetch: the environment sees this one's packages, torch above all, after its own."""
    (archive,) = built.glob(kind)
    python = make_environment(tmp_path / "env")
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    run = partial(call, python, cwd=tmp_path)
    run("-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", archive)  # this one's may be the same version
    where = run("-c", "import cfkit, cfkit_ours; print(cfkit.__file__, cfkit_ours.__file__)").stdout
    assert where.count(str(site)) == 2
    said = run(
        "-m", "cfkit", "edit", "sample:effusion", "--remove", "Pleural Effusion", "--epochs", "1", "-o", "out"
    ).stdout
    assert "effusion" in said and (tmp_path / "out" / "effusion.panel.png").is_file()
    bench = ["bench", "--methods", "gifsplanation", "--tasks", "Cardiomegaly synthesis", "--limit", "1", "-o", "run"]
    run("-m", "cfkit", *bench)
    assert (tmp_path / "run" / "report.html").is_file()
