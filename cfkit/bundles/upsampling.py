"""Nearest-neighbour upsampling and the convolution after it, in one: the same numbers for four ninths of the work.

Each pixel of the finer grid sees two by two different pixels of the coarser one, never three by
three: the kernel's taps that fall on the same pixel are added beforehand, for each of the four
places that a finer pixel has within a coarser one (sub-pixel convolution, Shi et al., CVPR 2016).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Upsampling(nn.Module):
    """In the place of diffusers' `Upsample2D` by 2 with a 3 x 3 convolution; parameters keep their names."""

    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, hidden_states: Tensor, output_size: Any = None, *args: Any, **kwargs: Any) -> Tensor:
        """(N, C, H, W) to (N, D, 2H, 2W)."""
        height, width = hidden_states.shape[-2:]
        conv = self.conv
        frozen = isinstance(conv, nn.Conv2d) and not any(p.requires_grad for p in conv.parameters())
        if not frozen or output_size not in (None, (2 * height, 2 * width)):
            finer = F.interpolate(hidden_states, size=output_size or (2 * height, 2 * width), mode="nearest")
            out: Tensor = conv(finer)
            return out
        assert isinstance(conv, nn.Conv2d)
        kernels = merge_taps(conv.weight).to(memory_format=torch.channels_last)
        bias = None if conv.bias is None else conv.bias.repeat(4)
        merged: Tensor = _Merged.apply(hidden_states, kernels, bias)
        return merged


class _Merged(torch.autograd.Function):
    """Two by two taps at a corner of each coarser pixel, put where they belong; no gradient of the kernels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, kernels)
        corners = F.conv2d(x, kernels, bias, padding=1).permute(0, 2, 3, 1)  # (N, H + 1, W + 1, 4 D)
        count, height, width = x.shape[0], x.shape[2], x.shape[3]
        out = x.new_empty(count, height, 2, width, 2, corners.shape[3] // 4)
        for a, b, part in _places(corners, height, width):
            out[:, :, a, :, b] = part
        return out.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        x, kernels = ctx.saved_tensors
        height, width = x.shape[2:]
        grad = grad.permute(0, 2, 3, 1).unflatten(2, (width, 2)).unflatten(1, (height, 2))  # (N, H, 2, W, 2, D)
        corners = grad.new_zeros(len(x), height + 1, width + 1, kernels.shape[0])
        for a, b, part in _places(corners, height, width):
            part.copy_(grad[:, :, a, :, b])
        inward = torch.ops.aten.convolution_backward(
            corners.permute(0, 3, 1, 2), x, kernels, [kernels.shape[0]],
            [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False],
        )[0]  # fmt: skip
        return inward, None, None


def _places(corners: Tensor, height: int, width: int) -> list[tuple[int, int, Tensor]]:
    """The finer pixels in row a and column b of each coarser one, as parts of what lies at corners."""
    parts = corners.chunk(4, dim=3)
    return [(a, b, parts[2 * a + b][:, a : a + height, b : b + width]) for a in (0, 1) for b in (0, 1)]


def merge_taps(weight: Tensor) -> Tensor:
    """3 x 3 kernels (D, C, 3, 3) as 2 x 2 ones of the coarser grid, the four places in turn: (4 D, C, 2, 2)."""
    first, middle, last = weight.unbind(dim=2)
    rows = (torch.stack([first, middle + last], dim=2), torch.stack([first + middle, last], dim=2))
    kernels = []
    for row in rows:
        left, centre, right = row.unbind(dim=3)
        kernels += [torch.stack([left, centre + right], dim=3), torch.stack([left + centre, right], dim=3)]
    return torch.cat(kernels)


def merge_upsampling(module: nn.Module) -> nn.Module:
    """Puts `Upsampling` in the place of every layer of a diffusers model that it can stand for."""
    from diffusers.models.upsampling import Upsample2D

    for name, layer in list(module.named_modules()):
        if not isinstance(layer, Upsample2D) or not isinstance(conv := getattr(layer, "conv", None), nn.Conv2d):
            continue
        plain = (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
        if plain and layer.norm is None and not layer.use_conv_transpose and layer.interpolate:
            module.set_submodule(name, Upsampling(conv))
    return module
