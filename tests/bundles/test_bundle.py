"""A bundle's own file: what is wrong in it is named, and what decides a result is in its hash."""

import os

import pytest
import torch
from safetensors.torch import save_file

import cfkit
from cfkit import UserError
from cfkit.bundles.bundle import choose_device

GOOD = """image_size = 64
[parts.denoiser]
class = "unet2d"
file = "d.safetensors"
config = { sample_size = 8 }
[parts.schedule]
beta_schedule = "linear"
[parts.features]
of = "clip"
[methods.ours]
fast = { epochs = 1 }
"""


def write(folder, text=GOOD):
    save_file({"a": torch.ones(1)}, folder / "d.safetensors")
    (folder / "bundle.toml").write_text(text)
    return cfkit.load_bundle(folder, device="cpu")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image_size = 64", 'image_size = "64px"', "image_size: a number of pixels"),
        ('class = "unet2d"', "", "denoiser. has no class"),
        ('file = "d.safetensors"', "", "denoiser. has no file"),
        ('of = "clip"', 'of = "klip"', "Did you mean 'clip'"),
        ('class = "unet2d"\nfile = "d.safetensors"', 'folder = "x"', "denoiser. has no class"),
        ('class = "unet2d"\nfile = "d.safetensors"', 'of = "clip"', "denoiser. has no class"),
        ("fast = { epochs = 1 }", "fast = true", "fast: a table of options"),
        ("[parts.schedule]", '[parts.radedit]\nclass = "x"\nfile = "y"\n[parts.schedule]', "radedit. has no schedule"),
    ],
)
def test_what_is_wrong_in_it_is_named_when_it_is_opened(tmp_path, old, new, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, GOOD.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("sample_size = 8", "no_such_option = 8", "denoiser"),
        ('beta_schedule = "linear"', 'beta_schedule = "bent"', "schedule"),
    ],
)
def test_what_describes_no_part_is_named_when_it_is_used(tmp_path, old, new, part):
    bundle = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError) as caught:
        getattr(bundle, part)
    assert part in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path):
    bundle = write(tmp_path)
    (tmp_path / "d.safetensors").chmod(0)
    with pytest.raises(UserError, match="cannot be read"):
        assert bundle.denoiser


def test_the_hash_holds_the_size_and_the_weights(tmp_path):
    first = write(tmp_path).hash
    assert write(tmp_path).hash == first
    assert write(tmp_path, GOOD.replace("64", "128")).hash != first
    save_file({"a": torch.zeros(1)}, tmp_path / "d.safetensors")
    assert cfkit.load_bundle(tmp_path, device="cpu").hash != first


@pytest.mark.parametrize("device", ["xpu", "vulkan", "gpu"])
def test_a_device_of_another_kind_is_named(device):
    with pytest.raises(UserError, match="Unknown device"):
        choose_device(device)
