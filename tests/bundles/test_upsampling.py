"""Upsampling merged into its convolution gives the numbers of the two layers that it stands for."""

import pytest
import torch
from diffusers.models.upsampling import Upsample2D
from torch import nn

from cfkit.bundles.upsampling import Upsampling, merge_upsampling
from cfkit.diffusion import per_film


def layer(seed=0, channels=4, out=6):
    torch.manual_seed(seed)
    return Upsample2D(channels, use_conv=True, out_channels=out).requires_grad_(False)


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (1, 1)])
@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_forward_and_backward_agree(size, form):
    plain = layer()
    merged = Upsampling(plain.conv)
    x = torch.randn(3, 4, *size).to(memory_format=form)
    towards = torch.randn(3, 6, 2 * size[0], 2 * size[1])
    both = []
    for module in (plain, merged):
        moved = x.clone().requires_grad_(True)
        out = module(moved)
        (gradient,) = torch.autograd.grad((out * towards).sum(), moved)
        both.append((out, gradient))
    for one, other in zip(*both, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() < 1e-5


def test_a_size_of_its_own_and_trained_kernels_take_the_plain_way():
    plain = layer()
    merged = Upsampling(plain.conv)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(merged(x, output_size=(9, 9)), plain(x, output_size=(9, 9)))
    merged.requires_grad_(True)
    merged(x).sum().backward()
    assert merged.conv.weight.grad is not None
    copied, parameters = per_film(nn.Sequential(merged), ["0.conv"], 2)
    assert (copied(x) - plain(x)).abs().max() < 1e-5 and len(parameters) == 2


def test_names_of_parameters_stay_and_other_layers_are_left_alone():
    model = nn.ModuleDict({"a": layer(), "b": nn.ModuleList([layer(1)]), "c": Upsample2D(4)})
    before = list(model.state_dict())
    x = torch.randn(1, 4, 6, 6)
    out = model["b"][0](x)
    merge_upsampling(model)
    assert list(model.state_dict()) == before
    assert isinstance(model["a"], Upsampling) and isinstance(model["b"][0], Upsampling)
    assert isinstance(model["c"], Upsample2D)
    assert (model["b"][0](x) - out).abs().max() < 1e-5


def test_it_stays_on_its_device():
    merged = Upsampling(layer().conv).to("meta")
    x = torch.zeros(2, 4, 8, 8, device="meta", requires_grad=True)
    (gradient,) = torch.autograd.grad(merged(x).sum(), x)
    assert gradient.device.type == "meta" and gradient.shape == x.shape
