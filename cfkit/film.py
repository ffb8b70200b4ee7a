"""A film as it was read, whatever its file, and its working square."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from .errors import UserError

MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Film:
    """A film as it was read.

    Attributes:
        path: Where it came from; for a sample its name.
        stored: The file's own values, (H, W).
        shown: The same as shown, (H, W) float32 in [0, 1].
        display: Maps stored values to shown ones.
        depth: Bits of the file's values: 8 or 16.
        dataset: The DICOM data set, None for other files.
    """

    path: Path
    stored: np.ndarray
    shown: np.ndarray
    display: Callable[[np.ndarray], np.ndarray]
    depth: int
    dataset: Any = None

    @property
    def square(self) -> tuple[slice, slice]:
        """The working square: the largest centred one."""
        return centred_square(self.shown.shape)

    def working(self, size: int) -> Tensor:
        """The working square at a bundle's size, (1, size, size) float32 in [0, 1]."""
        square = torch.from_numpy(np.ascontiguousarray(self.shown[self.square]))[None, None]
        return resize(square, (size, size), mode="bicubic")[0].clamp(0.0, 1.0)


def centred_square(shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The largest centred square of a picture (H, W)."""
    height, width = shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return slice(top, top + side), slice(left, left + side)


def resize(x: Tensor, size: tuple[int, int], *, mode: str = "bilinear") -> Tensor:
    """Planes (N, C, H, W) at another size, antialiased: (N, C, *size)."""
    if x.shape[-2:] == size:
        return x
    return F.interpolate(x, size=size, mode=mode, antialias=True, align_corners=False)


def check_size(path: Path, width: int, height: int) -> None:
    """Refuses a film of more than 100 megapixels before its pixels are decoded."""
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels is over the limit of 100 megapixels; reduce it first")
