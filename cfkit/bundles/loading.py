"""From stored weights to a module that computes fast."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .upsampling import merge_upsampling


def prepare(module: nn.Module) -> nn.Module:
    """The same module in a form that computes faster: channels last, upsampling merged into its convolution."""
    if next(iter(module.parameters())).device.type != "cuda":  # measured on CPUs alone
        module = merge_upsampling(module)
    return module.to(memory_format=torch.channels_last)


def fill(build: Callable[[], nn.Module], state: dict[str, Tensor]) -> nn.Module:
    """A module with the given weights as floats, which are not drawn first: that would take time and memory.

    Raises:
        RuntimeError: The weights do not fit.
    """
    floats = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    with torch.device("meta"):
        module = build()
    stored = module.state_dict()
    if all(name in stored for name, _ in (*module.named_parameters(), *module.named_buffers())):
        module.load_state_dict(floats, assign=True)
        return module
    module = build()  # it has tensors that are computed and not stored
    module.load_state_dict(floats)
    return module
