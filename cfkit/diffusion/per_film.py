"""Per-film weights: films edited together, each training its own copy of a few layers.

The module is copied in structure alone: frozen tensors are shared with the original, which stays
untouched. Only the chosen layers get a weight per film, (N, *shape), and only those get gradients.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError

LAYERS: dict[str, Callable[[str], bool]] = {
    "attention": lambda name: ".attentions." in name,
    "residual": lambda name: ".resnets." in name,
    "residual+attention": lambda name: ".resnets." in name or ".attentions." in name,
    "attention+input": lambda name: ".attentions." in name or name.endswith("conv_in"),
    "all": lambda name: True,
}


def trained_layers(module: nn.Module, layers: str) -> list[str]:
    """Names of the leaf layers that a choice stands for, in a diffusers U-Net.

    Args:
        module: A module around a diffusers U-Net.
        layers: One of `LAYERS`: "attention" (Gökmen & Konukoglu, section 3.6), "residual",
            "residual+attention", "attention+input" (the public release) or "all".

    Raises:
        UserError: The module has no such layer.
    """
    chosen = LAYERS[layers]
    names = [
        name
        for name, leaf in module.named_modules()
        if chosen("." + name)
        and next(leaf.children(), None) is None
        and next(leaf.parameters(recurse=False), None) is not None
    ]
    if not names:
        raise UserError(f"layers: this bundle's denoiser has none of kind '{layers}'")
    return names


def per_film(module: nn.Module, names: Iterable[str], count: int) -> tuple[nn.Module, list[nn.Parameter]]:
    """A module whose named layers hold one weight a film.

    Args:
        module: Any module of linear, convolution and group-norm layers; it is not changed.
        names: Names of leaf layers, as from `trained_layers`.
        count: N, the number of films; the copy then takes batches of N alone.

    Returns:
        The copy, and its trainable parameters, each (N, *shape) and starting at the module's own.

    Raises:
        UserError: A layer is of a kind that cannot be trained per film.
    """
    shared: dict[int, object] = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    copied = copy.deepcopy(module, shared)
    parameters: list[nn.Parameter] = []
    for name in names:
        parent_name, _, leaf_name = name.rpartition(".")
        parent = copied.get_submodule(parent_name)
        replaced = PerFilmLayer(parent.get_submodule(leaf_name), name, count)
        parent.add_module(leaf_name, replaced)
        parameters += list(replaced.parameters())
    return copied, parameters


class PerFilmLayer(nn.Module):
    """One linear, convolution, group-norm or layer-norm layer with N weights, for batches of N films."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, layer: nn.Module, name: str, count: int):
        super().__init__()
        if not isinstance(layer, tuple(APPLY)) or (isinstance(layer, nn.Conv2d) and layer.groups != 1):
            raise UserError(f"layers: {name} ({type(layer).__name__}) cannot be trained per film")
        apply = next(apply for kind, apply in APPLY.items() if isinstance(layer, kind))
        self.call = partial(apply, layer)  # of the layer its settings alone; its own weights stay outside
        self.count = count
        self.register_parameter("bias", None)
        for key, value in layer.named_parameters(recurse=False):
            stacked = value.detach().unsqueeze(0).repeat(count, *(1 for _ in value.shape))
            self.register_parameter(key, nn.Parameter(stacked))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[0] != self.count:
            raise ValueError(f"a batch of {x.shape[0]} in a layer with weights for {self.count} films")
        return self.call(x, self.weight, self.bias)


def _linear(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat = x.reshape(len(x), -1, x.shape[-1])  # (N, L, in)
    across = weight.transpose(1, 2)  # (N, in, out)
    out = torch.bmm(flat, across) if bias is None else torch.baddbmm(bias.unsqueeze(1), flat, across)
    return out.reshape(*x.shape[:-1], -1)


def _conv2d(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat_bias = None if bias is None else bias.flatten()
    out = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]),  # (1, N * in, H, W)
        weight.flatten(0, 1),  # (N * out, in, k, k)
        flat_bias, layer.stride, layer.padding, layer.dilation, groups=len(x),
    )  # fmt: skip
    return out.reshape(len(x), -1, *out.shape[2:])


def _group_norm(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    shape = (*weight.shape, *(1 for _ in x.shape[2:]))
    out = F.group_norm(x, layer.num_groups, eps=layer.eps) * weight.view(shape)
    return out if bias is None else out + bias.view(shape)


def _layer_norm(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    shape = (len(x), *(1 for _ in x.shape[2:]), x.shape[-1])
    out = F.layer_norm(x, layer.normalized_shape, eps=layer.eps) * weight.view(shape)
    return out if bias is None else out + bias.view(shape)


APPLY: dict[type[nn.Module], Callable[..., Tensor]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}
