"""Converted checkpoints compute what the originals do."""

import pytest
import torch

from cfkit import UserError
from cfkit.bundles.cheff import convert_autoencoder, convert_unet

from ..golden_weights import autoencoder_checkpoint, golden, tiny_models, unet_checkpoint


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def test_single_forwards_agree():
    models, numbers = tiny_models(), golden()
    assert relative(models.denoiser(numbers["unet_in"], numbers["unet_t"]), numbers["unet_out"]) < 1e-4
    assert relative(models.autoencoder.encode(numbers["image"]), numbers["latent_mode"]) < 1e-4
    assert relative(models.autoencoder.decode(numbers["latent_mode"]) * 2 - 1, numbers["decoded"]) < 1e-4


def test_grey_films_are_three_equal_channels():
    grey = golden()["image"][:, :1]
    assert torch.equal(
        tiny_models().autoencoder.encode(grey), tiny_models().autoencoder.encode(grey.repeat(1, 3, 1, 1))
    )


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_prefixes_of_released_files_are_tolerated(prefix):
    checkpoint = {prefix + name: value for name, value in unet_checkpoint()["state_dict"].items()}
    convert_unet(checkpoint, num_head_channels=16)


def test_a_file_of_another_model_is_named():
    with pytest.raises(UserError, match="not a latent-diffusion U-Net"):
        convert_unet(autoencoder_checkpoint())
    with pytest.raises(UserError, match="not a latent-diffusion autoencoder"):
        convert_autoencoder(unet_checkpoint())
    half = {k: v for k, v in unet_checkpoint()["state_dict"].items() if "middle_block.1" not in k}
    with pytest.raises(UserError, match="nothing stands for mid_block"):
        convert_unet(half, num_head_channels=16)
