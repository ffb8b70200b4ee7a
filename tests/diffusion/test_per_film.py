"""Per-film weights compute what N separate models would, and share all else."""

import pytest
import torch
from diffusers import UNet2DModel
from torch import nn

from cfkit import UserError
from cfkit.bundles.cheff import Denoiser
from cfkit.diffusion import per_film, trained_layers


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    unet = UNet2DModel(
        in_channels=3, out_channels=3, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8,
    )  # fmt: skip
    return Denoiser(unet).eval().requires_grad_(False)


@pytest.mark.parametrize("layers", ["attention", "residual", "residual+attention", "attention+input", "all"])
def test_fresh_weights_change_nothing(denoiser, layers):
    x, t = torch.randn(3, 3, 16, 16), torch.tensor([5, 500, 900])
    copied, _ = per_film(denoiser, trained_layers(denoiser, layers), 3)
    torch.testing.assert_close(copied(x, t), denoiser(x, t), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_each_film_has_its_own_weights(denoiser, layers):
    names = trained_layers(denoiser, layers)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([400, 400])
    together, parameters = per_film(denoiser, names, 2)
    changes = [torch.randn_like(p) * 0.05 for p in parameters]
    for p, change in zip(parameters, changes, strict=True):
        p.data += change
    out = together(x, t)
    for k in range(2):
        alone, own = per_film(denoiser, names, 1)
        for p, change in zip(own, changes, strict=True):
            p.data += change[k : k + 1]
        torch.testing.assert_close(out[k : k + 1], alone(x[k : k + 1], t[:1]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(out, denoiser(x, t), atol=1e-3)


def test_only_the_chosen_layers_are_copied_and_trained(denoiser):
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    copied, parameters = per_film(denoiser, trained_layers(denoiser, "attention"), 2)
    shared = {p.data_ptr() for p in denoiser.parameters()}
    frozen = [p for p in copied.parameters() if not p.requires_grad]
    assert frozen and all(p.data_ptr() in shared for p in frozen)
    assert {id(p) for p in copied.parameters() if p.requires_grad} == {id(p) for p in parameters}
    copied(torch.randn(2, 3, 16, 16), torch.tensor([1, 2])).sum().backward()
    assert all(p.grad is not None for p in parameters)
    assert all(torch.equal(before[name], value) for name, value in denoiser.state_dict().items())
    assert not any(p.requires_grad for p in denoiser.parameters())


def test_another_batch_is_refused(denoiser):
    copied, _ = per_film(denoiser, trained_layers(denoiser, "attention"), 2)
    with pytest.raises(ValueError, match="weights for 2 films"):
        copied(torch.randn(3, 3, 16, 16), torch.tensor([1, 2, 3]))


def test_layers_of_other_kinds_are_named():
    with pytest.raises(UserError, match="Embedding"):
        per_film(nn.Sequential(nn.Embedding(3, 4)), ["0"], 2)
    with pytest.raises(UserError, match="none of kind 'attention'"):
        trained_layers(nn.Sequential(nn.Linear(2, 2)), "attention")
