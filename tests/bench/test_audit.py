"""An audit: a classifier of a stranger's, before and after."""

import json

import pytest
import torch
from torch import nn

import cfkit
from cfkit.bench.command import start_bench
from cfkit.bench.suite import Suite
from cfkit.bundles.audited import load_audited
from cfkit.errors import UserError

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """Takes bright films for large hearts and knows nothing of fluid."""

    findings = ("cardiomegaly", "Fracture")

    def forward(self, films):
        level = films.mean(dim=(1, 2, 3))
        return torch.stack([200 * (level - 0.5), 0 * level - 1], dim=1)


def brightness():
    return Brightness()


def wrong_shape():
    def call(films):
        return films.mean(dim=(1, 2))

    call.findings = ["Cardiomegaly"]
    return call


@pytest.fixture
def exported(tmp_path):
    path = tmp_path / "bright.pt2"
    program = torch.export.export(Brightness(), (torch.rand(1, 1, 64, 64),))  # of one film at a time
    torch.export.save(program, path, extra_files={"findings.json": json.dumps(Brightness.findings)})
    return path


def test_a_function_and_an_exported_file_agree(exported):
    films = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    by_function = load_audited("tests.bench.test_audit:brightness", (), CPU)
    by_file = load_audited(str(exported), (), CPU)
    assert by_function.findings == by_file.findings == ("Cardiomegaly", "Fracture")
    assert torch.allclose(by_function(films), by_file(films), atol=1e-5)


@pytest.mark.parametrize(
    ("source", "findings", "said"),
    [
        ("nosuch.pt2", (), "no such file"),
        ("nosuch", (), "package.module:function"),
        ("nosuch:thing", (), "cannot be made"),
        ("tests.bench.test_audit:nosuch", (), "cannot be made"),
        ("builtins:dict", (), "--findings"),
    ],
)
def test_what_cannot_be_audited_is_one_line(source, findings, said):
    with pytest.raises(UserError, match=said) as caught:
        load_audited(source, findings, CPU)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_and_a_wrong_shape_are_named(tmp_path):
    path = tmp_path / "weights.pt2"
    path.write_bytes(b"not a program")
    with pytest.raises(UserError, match=r"torch\.export\.save"):
        load_audited(str(path), ("A",), CPU)
    with pytest.raises(UserError, match=r"\(2, 1\) wanted"):
        load_audited("tests.bench.test_audit:wrong_shape", ("Cardiomegaly",), CPU)(torch.rand(2, 1, 8, 9))


def test_the_report_says_how_it_responds(tmp_path):
    given = {
        "classifier": "tests.bench.test_audit:brightness",
        "methods": "towards:strength=1.0",
        "tasks": "Cardiomegaly synthesis,Pleural Effusion synthesis",
        "limit": 3,
        "metrics": "audit_margin,audit_missed",
    }
    assert start_bench(Suite(title="Audit"), given, str(tmp_path / "run"), "cpu") == 0
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    responses = {(r["task"], r["finding"]): r for r in found["responses"]}
    own = responses["Cardiomegaly synthesis", "Cardiomegaly"]
    assert own["target"] and own["change"] > 0.05 and own["low"] <= own["change"] <= own["high"]
    assert responses["Pleural Effusion synthesis", "Cardiomegaly"]["change"] > 0.05, "brightness is a shortcut"
    assert responses["Cardiomegaly synthesis", "Fracture"]["change"] == 0.0
    scored = {(s["metric"], s["task"]) for s in found["scores"]}
    assert ("audit_margin", "Cardiomegaly synthesis") in scored
    assert ("audit_margin", "Pleural Effusion synthesis") not in scored, "it does not give that finding"
    assert "Fracture" in (tmp_path / "run" / "report.html").read_text()


def test_a_bench_without_one_says_nothing_of_it(tmp_path):
    given = {"methods": "towards", "tasks": "Cardiomegaly removal", "limit": 1, "metrics": "l1,audit_margin"}
    start_bench(Suite(), given, str(tmp_path / "run"), "cpu")
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert found["responses"] == [] and not any("audit" in s["metric"] for s in found["scores"])
    assert cfkit.load_bundle("demo", device="cpu").judge is not None
