"""Reads checkpoints as they are published, without running what is in them.

PyTorch's own restricted unpickler does the reading. Classes that only describe a file (the
hyper-parameters of a Lightning run, the modules of a model that was pickled whole) are read as
dictionaries, of which the tensors are taken; a file that names anything else is refused.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import UserError

# what may stand in a file of weights beside weights: these are never imported
DESCRIPTIVE = ("pytorch_lightning.", "lightning.", "omegaconf.", "argparse.", "torchxrayvision.", "torch.nn.modules.")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
MOST_NAMES = 200


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What a file holds: safetensors, or PyTorch's format, new or old.

    Raises:
        UserError: It is missing, damaged, no checkpoint, or would have to run code to be read.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".safetensors":
        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path}: not a safetensors file ({error}); copy it again") from None
    names: list[str] = []
    for _ in range(MOST_NAMES):
        try:
            with torch.serialization.safe_globals([(OrderedDict, name) for name in names]):
                read = torch.load(path, map_location="cpu", weights_only=True)
            break
        except Exception as error:  # torch raises many kinds for a file that is none of its own
            name = re.search(r"GLOBAL ([\w.]+) ", str(error))
            if name and name[1].startswith(DESCRIPTIVE):
                names.append(name[1])
                continue
            if name:
                raise UserError(
                    f"{path}: would run code to be read ({name[1]}); only files of weights are read"
                ) from None
            line = str(error).rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
            if "persistent_load" in line:
                raise UserError(f"{path}: a whole model in PyTorch's old format; save its state_dict() anew") from None
            line = " ".join(line.split())[:90]
            raise UserError(f"{path}: not a checkpoint, or half of one ({line}); copy it again") from None
    else:
        raise UserError(f"{path}: names more than {MOST_NAMES} classes; only files of weights are read")
    if not isinstance(read, dict):
        raise UserError(f"{path}: holds a {type(read).__name__}, no weights by name")
    return read


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: of what wraps them, or of a module that was pickled whole."""
    for key in WRAPPERS:
        if isinstance(checkpoint.get(key), Mapping):
            return weights_of(checkpoint[key])
    if "_modules" in getattr(checkpoint, "__dict__", {}):
        return _walk(checkpoint)
    return {name: value for name, value in checkpoint.items() if isinstance(value, Tensor)}


def _walk(read: Any) -> dict[str, Tensor]:
    module = vars(read)
    own = {**(module.get("_parameters") or {}), **(module.get("_buffers") or {})}
    found = {name: value.detach() for name, value in own.items() if isinstance(value, Tensor)}
    for name, child in (module.get("_modules") or {}).items():
        if child is not None:
            found |= {f"{name}.{rest}": value for rest, value in _walk(child).items()}
    return found


def bare_weights(checkpoint: Mapping[str, Any], *prefixes: str) -> dict[str, Tensor]:
    """The tensors as floats, without "module." and the given prefixes where every name has them."""
    state = weights_of(checkpoint)
    for prefix in ("module.", *prefixes):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], kind: str) -> nn.Module:
    """Fills a model with tensors of just its names and shapes.

    Raises:
        UserError: One is missing, has another shape, or has no place; the first such name is given.
    """
    wanted = model.state_dict()
    for name, value in wanted.items():
        if name not in state and not name.endswith("num_batches_tracked"):
            raise UserError(f"not a {kind} of a known layout: nothing stands for {name}")
        if name in state and state[name].shape != value.shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(value.shape)}"
            raise UserError(f"not a {kind} of a known layout: {name} is {shapes}")
    extra = sorted(set(state) - set(wanted))
    if extra:
        raise UserError(f"not a {kind} of a known layout: {extra[0]} has no place")
    model.load_state_dict(dict(state), strict=False)
    return model.eval().requires_grad_(False)
