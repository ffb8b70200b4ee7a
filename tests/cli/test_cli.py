"""The command line as a user meets it."""

import json
import os
import re
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from cfkit.cli import main
from cfkit.cli.run_edit import _read_jobs
from cfkit.images import sample_path

from ..test_images import dicom_film, make_bad

QUICK = ["--epochs", "1", "--num-inference-steps", "2", "--shrink", "0", "--device", "cpu"]


def cfkit_process(*args: object) -> subprocess.CompletedProcess:
    """As a user's shell starts it."""
    return subprocess.run(
        [sys.executable, "-m", "cfkit", *map(str, args)],
        capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def cfkit(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """The same in this process, which has torch loaded."""
    out, err = StringIO(), StringIO()
    argv, code = ["cfkit", *map(str, args)], 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err), chdir(cwd or Path.cwd()):
        patch.setattr(sys, "argv", argv)
        patch.setenv("COLUMNS", "200")
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    return subprocess.CompletedProcess(argv, code, out.getvalue(), err.getvalue())


def one_line(result: subprocess.CompletedProcess, *words: str) -> None:
    assert result.returncode == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("cfkit:")]
    assert len(lines) == 1 and len(result.stderr.splitlines()) == 1, result.stderr
    assert all(word in lines[0] for word in words), lines[0]


def test_a_film_gives_an_edit_a_record_and_a_panel(tmp_path):
    result = cfkit_process(
        "edit", "sample:effusion", "--remove", "pleural_effusion", "-o", tmp_path, "--seed", 3, "--json", *QUICK
    )
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "effusion.json").read_text())
    original = Image.open(sample_path("effusion"))
    edited = Image.open(tmp_path / "effusion.png")
    assert (edited.size, edited.mode) == (original.size, "L")
    assert "not for clinical use" in edited.text["Description"]
    assert Image.open(tmp_path / "effusion.panel.png").width > 1500
    assert sorted(p.name for p in tmp_path.iterdir()) == ["effusion.json", "effusion.panel.png", "effusion.png"]
    assert record["finding"] == "Pleural Effusion" and record["task"] == "removal"
    for model in ("classifier", "judge"):
        for when in ("before", "after"):
            assert set(record[model][when]) == {"Atelectasis", "Cardiomegaly", "Pleural Effusion"}
    assert {"inside_bones", "outside_bones"} <= set(record["change"])
    assert record["options"]["epochs"] == 1 and record["seed"] == 3
    assert len(record["bundle_hash"]) == 16 and len(record["input_sha256"]) == 64
    assert record["seconds"] > 0 and record["peak_memory_mb"] > 100


def test_an_edit_is_fast_unless_exact_or_a_preset_is_asked_for(tmp_path):
    for asked, speed in ([], "fast"), (["--speed", "exact"], "exact"), (["--preset", "paper"], "exact"):
        given = ["sample:normal", "--add", "Effusion", "-o", tmp_path, "--json", *QUICK, *asked]
        result = cfkit("edit", *given)
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)[0]["options"]["speed"] == speed


OFFLINE = """
import sys
def forbid(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
        sys.stderr.write(f"NETWORK {event} {args}")
        sys.stderr.flush()
        import os
        os._exit(99)
sys.addaudithook(forbid)
from cfkit.cli import main
main()
"""


@pytest.mark.parametrize("method", ["ours", "radedit", "gifsplanation"])
def test_an_edit_sends_nothing_anywhere(tmp_path, method):
    pytest.importorskip("diffusers")
    given = ["edit", "sample:normal", "--add", "Effusion", "--method", method, "-o", str(tmp_path), "--device", "cpu"]
    quick = {"ours": QUICK, "radedit": ["--num-inference-steps", "2"], "gifsplanation": ["--frames", "2"]}[method]
    done = subprocess.run([sys.executable, "-c", OFFLINE, *given, *quick], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_same_seed_gives_the_same_file(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        cfkit(
            "edit",
            "sample:normal",
            "--add",
            "Cardiomegaly",
            "-o",
            tmp_path / name,
            "--seed",
            seed,
            "--blending",
            "noise",
            *QUICK,
        )
    a, b, c = (np.asarray(Image.open(tmp_path / name / "normal.png")) for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_bad_films_are_named_and_the_good_one_is_done(tmp_path):
    bad = [make_bad(tmp_path / kind, kind) for kind in ("empty", "text", "truncated") if not (tmp_path / kind).mkdir()]
    out = tmp_path / "out"
    result = cfkit_process("edit", *bad, "sample:normal", tmp_path / "none.png", "--add", "Effusion", "-o", out, *QUICK)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("cfkit:")]
    assert len(lines) == 4
    assert all(any(str(path) in line for line in lines) for path in [*bad, tmp_path / "none.png"])
    assert sorted(p.name for p in out.iterdir()) == ["normal.json", "normal.panel.png", "normal.png"]


def test_films_of_one_name_are_both_kept(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "film.png").write_bytes(sample_path("normal").read_bytes())
    result = cfkit(
        "edit",
        tmp_path / "one/film.png",
        tmp_path / "two/film.png",
        "--add",
        "Atelectasis",
        "-o",
        tmp_path / "out",
        *QUICK,
    )
    assert result.returncode == 0, result.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["film.json", "two_film.json"]


def test_the_original_is_never_overwritten(tmp_path):
    film = tmp_path / "film.png"
    film.write_bytes(sample_path("normal").read_bytes())
    before = film.read_bytes()
    one_line(cfkit("edit", film, "--add", "Atelectasis", "-o", tmp_path, *QUICK), "film.png", "overwrite")
    assert film.read_bytes() == before
    other = tmp_path / "other" / "film.png"
    other.parent.mkdir()
    other.write_bytes(sample_path("cardiomegaly").read_bytes())
    one_line(cfkit("edit", other, "--add", "Atelectasis", film, "-o", tmp_path, *QUICK), "would overwrite the original")
    assert film.read_bytes() == before


def test_a_sample_is_never_overwritten(capsys):
    folder = sample_path("normal").parent
    assert list(_read_jobs(["sample:normal"], folder, 64, False)) == []  # what would be edited, if anything
    assert "would overwrite the original" in capsys.readouterr().err


def test_dicom_in_dicom_out(tmp_path):
    path = dicom_film(tmp_path / "film.dcm", window=(2047.5, 4096))
    result = cfkit("edit", path, "--add", "Effusion", "-o", tmp_path / "out", *QUICK)
    assert result.returncode == 0, result.stderr
    written = pydicom.dcmread(tmp_path / "out" / "film.dcm")
    assert written.ImageType[0] == "DERIVED" and written.pixel_array.shape == (120, 100)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["edit", "sample:normal", "--add", "Effusio"], ["Unknown finding", "Pleural Effusion"]),
        (["edit", "sample:normal"], ["--remove FINDING or --add FINDING"]),
        (["edit", "sample:normal", "--remove", ""], ["Unknown finding ''"]),
        (["edit", "sample:normal", "--add", "Edema", "--remove", "Edema"], ["either"]),
        (["edit", "sample:normal", "--add", "Edema"], ["Unknown finding 'Edema'", "Known: Atelectasis"]),
        (["edit", "sample:normal", "--add", "Effusion", "--method", "our"], ["Unknown method", "'ours'"]),
        (["edit", "sample:normal", "--add", "Effusion", "--bundle", "dmo"], ["Unknown bundle", "'demo'"]),
        (["edit", "sample:normal", "--add", "Effusion", "--epocs", "3"], ["--epocs"]),
        (["edit", "sample:normal", "--add", "Effusion", "--epochs", "0"], ["--epochs", "at least 1", "1 to 1000"]),
        (["edit", "sample:normal", "--add", "Effusion", "--layers", "some"], ["--layers"]),
        (["edit", "sample:normal", "--add", "Effusion", "--device", "cuda:63"], ["--device cuda:63", "--device cpu"]),
        (["edit", "sample:normal", "--add", "Effusion", "--device", "gpu"], ["device", "gpu"]),
        (["edit", "sample:normal", "--add", "Effusion", "-o", "/proc/none"], ["-o /proc/none", "cannot be written"]),
        (["edit", "sample:normal", "--add", "Effusion", "--keep", "Hart"], ["Unknown structure", "Heart"]),
        (["edit", "sample:nrmal", "--add", "Effusion"], ["Unknown sample", "normal"]),
        (["edit"], ["IMAGES"]),
        (["edti"], ["Unknown command", "edit"]),
        (["data", "virtual", "--out", "x", "--ct", "y"], ["--ct and --labels"]),
        (["train", "demo", "--nih", "nowhere"], ["--nih nowhere"]),
    ],
)
def test_what_the_user_can_mend_is_one_line(tmp_path, args, words):
    if "--epochs" in args:
        words = words[:1]
    one_line(cfkit(*args, cwd=tmp_path), *words)
    assert not list(tmp_path.rglob("*.png"))


def test_options_from_a_file(tmp_path):
    (tmp_path / "c.toml").write_text("[ours]\nepochs = 1\nnum_inference_steps = 2\nlayers = 'residual'\n")
    result = cfkit(
        "edit",
        "sample:normal",
        "--add",
        "Effusion",
        "-o",
        tmp_path,
        "--config",
        tmp_path / "c.toml",
        "--lr",
        "0.001",
        "--json",
    )
    (record,) = json.loads(result.stdout)
    assert (record["options"]["layers"], record["options"]["lr"], record["options"]["epochs"]) == ("residual", 0.001, 1)
    (tmp_path / "bad.toml").write_text("[ours\n")
    one_line(
        cfkit("edit", "sample:normal", "--add", "Effusion", "--config", tmp_path / "bad.toml", cwd=tmp_path),
        "bad.toml",
        "TOML",
    )


def test_help_shows_every_method_s_options():
    text = cfkit("edit", "--help").stdout
    assert "Options of ours" in text
    for flag in ("--lr", "--epochs", "--preset", "--bone-mask", "--remove", "--keep"):
        assert flag in text


def test_methods_doctor_bundles_and_completion():
    assert "ours" in cfkit("methods").stdout
    listed = json.loads(cfkit("methods", "--json").stdout)
    methods = {method["name"]: method for method in listed["methods"]}
    assert methods.keys() >= {"ours", "radedit", "gifsplanation"}
    assert methods["ours"]["options"]["num_inference_steps"] == 50
    doctor = cfkit("doctor")
    assert doctor.returncode == 0 and "torch" in doctor.stdout and "demo: complete" in doctor.stdout
    verified = cfkit("bundles", "verify")
    assert verified.returncode == 0 and verified.stdout.count("ok") == 10
    assert "_CFKIT_COMPLETE" in cfkit("completion", "bash").stdout


ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_the_documentation_exist(page):
    """Every cfkit command parses: its flags are those of the program."""
    text = (ROOT / page).read_text()
    commands = [
        line.split("cfkit ", 1)[1].partition("#")[0]
        for block in re.findall(r"```bash\n(.*?)```", text, re.S)
        for line in block.splitlines()
        if "cfkit " in line
    ]
    assert commands or page != "README.md"
    help_of = lru_cache(lambda *names: cfkit(*names, "--help").stdout)
    for command in commands:
        name, *rest = command.split()
        names = [name]
        while " ".join(names) in ("bundles", "bundles import", "data", "train") and rest[:1] != ["--help"]:
            names.append(rest.pop(0))
        helped = help_of(*names)
        assert helped, f"no help for `cfkit {command}`"
        for flag in (word for word in rest if word.startswith("--") and word != "--help"):
            assert flag in helped, f"{flag} of `cfkit {command}`"


def test_the_readme_s_python_runs(tmp_path):
    text = (ROOT / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    code = code.replace('device="auto")', 'device="auto", epochs=1, num_inference_steps=2)')
    result = subprocess.run(
        [sys.executable, "-c", code + "\nassert edit.images.shape == (1, 1, 256, 256)"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_sweep_becomes_an_animation(tmp_path):
    result = cfkit(
        "edit", "sample:normal", "--method", "gifsplanation", "--add", "Cardiomegaly", "-o", tmp_path,
        "--frames", 5, "--shrink", 0, "--device", "cpu", "--json",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(result.stdout)
    animation = Image.open(tmp_path / "normal.gif")
    assert animation.n_frames == 8 and animation.info["loop"] == 0  # five there, three back
    assert len(record["details"]["lambdas"]) == 5 and record["details"]["lambdas"][0] == 0.0
    narrow = Image.open(tmp_path / "normal.panel.png").width
    assert narrow > 4 * 384  # original, counterfactual, difference, heatmap


def test_a_drawn_mask_is_kept(tmp_path):
    drawn = np.zeros((1024, 1024), np.uint8)
    drawn[:, :512] = 255
    Image.fromarray(drawn).save(tmp_path / "mask.png")
    result = cfkit(
        "edit", "sample:normal", "--method", "gifsplanation", "--add", "Cardiomegaly", "-o", tmp_path / "out",
        "--keep-mask", tmp_path / "mask.png", "--frames", 2, "--shrink", 0, "--device", "cpu",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    before, after = np.asarray(Image.open(sample_path("normal"))), np.asarray(Image.open(tmp_path / "out/normal.png"))
    middle = before.shape[1] // 2
    assert np.array_equal(before[:, : middle - 8], after[:, : middle - 8])
    assert not np.array_equal(before[:, middle:], after[:, middle:])
    one_line(
        cfkit("edit", "sample:normal", "--add", "Atelectasis", "-o", tmp_path, "--keep-mask", "no.png", *QUICK),
        "no.png: not found",
    )
