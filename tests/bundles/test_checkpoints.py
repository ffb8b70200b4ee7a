"""Checkpoints are read without running what is in them."""

import os
import sys
import types

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cfkit import UserError
from cfkit.bundles.checkpoints import bare_weights, load_exactly, read_checkpoint, weights_of


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, zipped):
    path, trace = tmp_path / "evil.pt", tmp_path / "trace"
    torch.save({"w": torch.ones(2), "x": Runs(trace)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"evil\.pt: would run code to be read \(posix\.mkdir\)"):
        read_checkpoint(path)
    assert not trace.exists()


def test_metadata_of_a_lightning_run_is_passed_over(tmp_path, monkeypatch):
    module = types.ModuleType("pytorch_lightning.utilities.parsing")

    class AttributeDict(dict):
        pass

    AttributeDict.__module__, AttributeDict.__qualname__ = module.__name__, "AttributeDict"
    module.AttributeDict = AttributeDict
    for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    path = tmp_path / "run.ckpt"
    torch.save({"state_dict": {"a": torch.arange(3.0)}, "epoch": 4, "hyper_parameters": AttributeDict(lr=1)}, path)
    for name in list(sys.modules):
        if name.startswith("pytorch_lightning"):
            monkeypatch.delitem(sys.modules, name)
    assert torch.equal(weights_of(read_checkpoint(path))["a"], torch.arange(3.0))


def test_a_model_that_was_pickled_whole_gives_its_weights(tmp_path):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.Linear(2, 2)))
    torch.save(model, tmp_path / "whole.pt")
    found = weights_of(read_checkpoint(tmp_path / "whole.pt"))
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_formats_prefixes_and_halves(tmp_path):
    state = {"module.a": torch.arange(4.0).half(), "module.n": torch.tensor(3)}
    torch.save({"state_dict": state, "global_step": 1}, tmp_path / "a.pt")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "c.safetensors")
    for name in ("a.pt", "b.pt", "c.safetensors"):
        bare = bare_weights(read_checkpoint(tmp_path / name))
        assert bare["a"].dtype == torch.float32 and bare["a"].tolist() == [0, 1, 2, 3] and int(bare["n"]) == 3


def test_what_is_no_checkpoint_is_named(tmp_path):
    torch.save({"a": torch.ones(1000)}, tmp_path / "whole.pt")
    (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
    (tmp_path / "text.pt").write_text("no weights here")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("half.pt", "text.pt", "empty.pt", "cut.safetensors", "list.pt", "absent.pt"):
        with pytest.raises(UserError, match=name) as caught:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_the_first_name_that_does_not_fit_is_given():
    model = nn.Linear(2, 3)
    with pytest.raises(UserError, match="nothing stands for bias"):
        load_exactly(model, {"weight": torch.ones(3, 2)}, "line")
    with pytest.raises(UserError, match=r"weight is \(2, 2\), not \(3, 2\)"):
        load_exactly(model, {"weight": torch.ones(2, 2), "bias": torch.ones(3)}, "line")
    with pytest.raises(UserError, match="more has no place"):
        load_exactly(model, {"weight": torch.ones(3, 2), "bias": torch.ones(3), "more": torch.ones(1)}, "line")
