"""The 14 structures of ChestX-Det and the bone mask made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import UserError, unknown

if TYPE_CHECKING:
    from torch import Tensor

STRUCTURES = (
    "Left Clavicle",
    "Right Clavicle",
    "Left Scapula",
    "Right Scapula",
    "Left Lung",
    "Right Lung",
    "Left Hilus Pulmonis",
    "Right Hilus Pulmonis",
    "Heart",
    "Aorta",
    "Facies Diaphragmatica",
    "Mediastinum",
    "Weasand",
    "Spine",
)
BONES = (0, 1, 2, 3, 9, 11, 12, 13)  # Gökmen & Konukoglu, section A.3: identity lies in these


def parse_structures(text: str) -> tuple[int, ...]:
    """Indices of the structures that a comma-separated list names; "bones" is the paper's union.

    Raises:
        UserError: A name is not one of the 14, with the nearest that is.

    >>> parse_structures("Left Lung, heart")
    (4, 8)
    >>> parse_structures("bones") == BONES
    True
    """
    indices: list[int] = []
    lowered = [name.lower() for name in STRUCTURES]
    for part in (p.strip() for p in text.split(",")):
        if part.lower() == "bones":
            indices += BONES
        elif part.lower() in lowered:
            indices.append(lowered.index(part.lower()))
        else:
            raise UserError(unknown("structure", part, [*STRUCTURES, "bones"]))
    return tuple(dict.fromkeys(indices))


def union_mask(probabilities: Tensor, indices: tuple[int, ...] = BONES, threshold: float = 0.5) -> Tensor:
    """Union of structures, thresholded.

    Args:
        probabilities: Of the 14 structures, (N, 14, H, W) in [0, 1].
        indices: Which structures.
        threshold: A pixel belongs to a structure above it.

    Returns:
        Mask (N, 1, H, W), 0 or 1.
    """
    return (probabilities[:, list(indices)] > threshold).any(dim=1, keepdim=True).to(probabilities.dtype)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask on another grid, antialiased bilinear, so that its edge is soft: (N, 1, *size)."""
    from .film import resize

    return resize(mask, size)
