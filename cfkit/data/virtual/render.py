"""From a virtual patient to its films: warp the volume, write disease into it, project it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...anatomy import STRUCTURES
from .film import develop, draw_collimation, draw_devices, draw_marker
from .patient import Disease, Habitus, Patient, draw_patient
from .volume import LOBES, LUNG_LEFT, LUNG_RIGHT, PLEURAL_SPACE, RIBS, SPACING, SPINE, Anatomy

FIELD = 302.0  # mm across the film
DEPTH = 72  # samples along a ray
WATER, BLOOD, COLLAPSED = 1.03, 1.05, 0.95  # attenuation of fluid, heart and airless lung, water = 1


@dataclass(frozen=True)
class Films:
    """One patient with and without each finding.

    Attributes:
        patient: What was drawn.
        films: By finding, "" being the film without one, each (H, W) float32 in [0, 1].
        structures: By finding, the 14 ChestX-Det structures, (14, H, W) bool.
    """

    patient: Patient
    films: dict[str, np.ndarray]
    structures: dict[str, np.ndarray]

    def difference(self, finding: str, threshold: float = 0.02) -> np.ndarray:
        """Where the film with the finding differs from the one without, (H, W) bool."""
        return np.asarray(np.abs(self.films[finding] - self.films[""]) > threshold)


@dataclass(frozen=True)
class Warped:
    """The fields of an anatomy, sampled along the rays of one film, each (H, W, D)."""

    attenuation: Tensor
    heart_scale: Tensor
    fluid_height: Tensor
    lobe_scale: Tensor
    labels: Tensor
    structures: np.ndarray


def render(anatomy: Anatomy, seed: int, *, size: int = 256) -> Films:
    """Renders a patient without a finding and with each of the three.

    Args:
        anatomy: The labelled CT.
        seed: The patient's identity; the same seed gives the same films.
        size: Side of the films in pixels.
    """
    patient = draw_patient(seed)
    rng = np.random.default_rng([20262, seed])
    grid = ray_grid(anatomy, patient.habitus, rng, size)
    warped = sample(anatomy, grid)
    lungs = _pleural_spaces(warped.structures)
    attenuation = _apply_habitus(warped, patient.habitus)
    step = anatomy.labels.shape[2] * SPACING[2] * patient.habitus.depth / DEPTH
    devices = draw_devices(patient.devices, size, rng)
    fat = _fat(patient.habitus.fat, size)
    noise = rng.standard_normal((size, size)).astype(np.float32)

    def expose(volume: Tensor, reference: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        thickness = (volume.sum(-1) * step).numpy() + fat + devices
        reference = thickness if reference is None else reference
        film = develop(thickness, reference, patient.exposure, noise)
        return draw_collimation(draw_marker(film, patient.marker), patient.exposure.collimation), reference

    healthy, reference = expose(attenuation, None)
    films, structures = {"": healthy}, {"": project(warped.structures)}
    for disease in patient.diseases:
        volume, bits = write_disease(disease, attenuation, warped, lungs, anatomy)
        films[disease.finding], _ = expose(volume, reference)
        structures[disease.finding] = project(bits)
    return Films(patient, films, structures)


def ray_grid(anatomy: Anatomy, habitus: Habitus, rng: np.random.Generator, size: int) -> Tensor:
    """Where each sample of each ray lies in the volume: (H, W, D, 3) in [-1, 1], order (Y, X, Z).

    Affine (habitus and positioning), the divergence of the beam, and a smooth elastic displacement.
    """
    extent = np.array(anatomy.labels.shape) * SPACING  # mm
    down = torch.linspace(-0.5, 0.5, size) * FIELD
    right = torch.linspace(-0.5, 0.5, size) * FIELD
    deep = torch.linspace(-0.5, 0.5, DEPTH) * float(extent[2]) * habitus.depth
    z, x, y = torch.meshgrid(down + habitus.shift[0], right + habitus.shift[1], deep, indexing="ij")
    diverge = 1.0 + y / 1800.0  # source at 1.8 m, behind the patient for PA
    z, x = z * diverge, x * diverge
    for angle, (a, b) in ((habitus.tilt, "zx"), (habitus.turn, "xy"), (habitus.lean, "zy")):
        axes = {"z": z, "x": x, "y": y}
        c, s = float(np.cos(np.deg2rad(angle))), float(np.sin(np.deg2rad(angle)))
        axes[a], axes[b] = c * axes[a] - s * axes[b], s * axes[a] + c * axes[b]
        z, x, y = axes["z"], axes["x"], axes["y"]
    coarse = torch.from_numpy(rng.standard_normal((1, 3, 6, 6, 4)).astype(np.float32)) * habitus.elastic
    elastic = F.interpolate(coarse, size=(32, 32, 12), mode="trilinear", align_corners=True)
    elastic = F.interpolate(elastic, size=(size, size, DEPTH), mode="trilinear", align_corners=True)[0]
    # the lungs' centre lies above the volume's
    z = z / habitus.height + elastic[0] - 23.0
    x = x / habitus.width + elastic[1]
    y = y / habitus.depth + 0.5 * elastic[2]
    return torch.stack([2 * y / float(extent[2]), 2 * x / float(extent[1]), 2 * z / float(extent[0])], dim=-1)


def sample(anatomy: Anatomy, grid: Tensor) -> Warped:
    """Samples every field at the grid: linear for the continuous ones, nearest for the labels."""
    # the lobe field is only defined inside its lobe, so it is sampled like the labels
    fields = torch.from_numpy(np.stack([anatomy.attenuation, anatomy.heart_scale, anatomy.fluid_height]))
    smooth = F.grid_sample(fields[None], grid[None], align_corners=True, padding_mode="border")[0]
    shape = torch.tensor(anatomy.labels.shape[::-1])
    index = ((grid + 1) / 2 * (shape - 1)).round().long()
    for axis in range(3):
        index[..., axis].clamp_(0, int(shape[axis]) - 1)
    _, nx, ny = anatomy.labels.shape
    flat = ((index[..., 2] * nx + index[..., 1]) * ny + index[..., 0]).reshape(-1)
    size = grid.shape[:3]
    return Warped(
        attenuation=smooth[0],
        heart_scale=smooth[1],
        fluid_height=smooth[2],
        lobe_scale=torch.from_numpy(anatomy.lobe_scale).reshape(-1)[flat].reshape(size),
        labels=torch.from_numpy(anatomy.labels).reshape(-1)[flat].reshape(size),
        structures=anatomy.structures.reshape(-1)[flat.numpy()].reshape(size),
    )


def _pleural_spaces(bits: np.ndarray) -> dict[str, Tensor]:
    """Where disease may be written: each lung with the shell of partial volume around it."""
    return {side: torch.from_numpy((bits & bit) != 0) for side, bit in PLEURAL_SPACE.items()}


def _apply_habitus(warped: Warped, habitus: Habitus) -> Tensor:
    labels = warped.labels
    bone = ((labels >= RIBS[0]) & (labels <= RIBS[-1])) | ((labels >= SPINE[0]) & (labels <= SPINE[-1]))
    lung = (labels >= LUNG_LEFT[0]) & (labels <= LUNG_RIGHT[-1])
    factor = torch.full(labels.shape, habitus.soft_tissue)
    factor[bone | ((labels >= 69) & (labels <= 78))] = habitus.bone_density
    factor[lung] = habitus.lung_density
    volume = warped.attenuation * factor
    # the healthy heart's size varies too: outward over lung
    grown = torch.sigmoid((habitus.heart - warped.heart_scale) / 0.03) * lung
    return fill(volume, grown, BLOOD)


def fill(volume: Tensor, share: Tensor, attenuation: float) -> Tensor:
    """Replaces a share of what is lighter than the filling by it; nothing gets lighter."""
    return volume + share * (attenuation - volume).clamp(min=0.0)


def _fat(amount: float, size: int) -> np.ndarray:
    """Fat and breasts: a smooth shadow of the lower chest in water-equivalent mm, (H, W)."""
    v, u = np.meshgrid(np.linspace(-1, 1, size), np.linspace(-1, 1, size), indexing="ij")
    sides = [np.exp(-(((u - side * 0.42) / 0.3) ** 2) - ((v - 0.38) / 0.34) ** 2) for side in (-1, 1)]
    return np.asarray(amount * (sides[0] + sides[1]), np.float32)


def write_disease(
    disease: Disease, volume: Tensor, warped: Warped, lungs: dict[str, Tensor], anatomy: Anatomy
) -> tuple[Tensor, np.ndarray]:
    """Writes one finding into the attenuation.

    Returns:
        Attenuation (H, W, D) and the structures' bits (H, W, D) uint16, both with the finding.
    """
    lung = lungs["left"] | lungs["right"]
    bits = warped.structures
    if disease.finding == "Cardiomegaly":
        scale = 1.24 + 0.42 * disease.severity
        share = torch.sigmoid((scale - warped.heart_scale) / 0.03) * lung
        inside = (share > 0.5).numpy()
        bits = np.where(inside, (bits & ~np.uint16(0b110000)) | np.uint16(1 << 8), bits)
        return fill(volume, share, BLOOD), bits
    if disease.finding == "Pleural Effusion":
        share = torch.zeros_like(volume)
        for side in ("left", "right"):
            if disease.side in (side, "both"):
                level = (0.15 + 0.33 * disease.severity) * anatomy.lung_span[side]
                if disease.side == "both" and side == "left":
                    level *= 0.85
                share += torch.sigmoid((level - warped.fluid_height) / 2.5) * lungs[side]
        bits = np.where((share > 0.5).numpy(), bits & ~np.uint16(0b110000), bits)
        return fill(volume, share, WATER), bits
    share = _collapse(disease, warped, lungs)
    return fill(volume, share, COLLAPSED), bits


def _collapse(disease: Disease, warped: Warped, lungs: dict[str, Tensor]) -> Tensor:
    """Share of airless lung for atelectasis: bands across a lung, or a lobe shrunk to its hilum."""
    lung = lungs[disease.side]
    if disease.kind in LOBES:
        reach = 0.88 + 0.26 * disease.severity
        lobe = warped.labels == LOBES[disease.kind]
        return torch.sigmoid((reach - warped.lobe_scale) / 0.04) * lobe * (0.55 + 0.35 * disease.severity)
    h, w, d = lung.shape
    v = torch.linspace(-1, 1, h)[:, None, None]
    u = torch.linspace(-1, 1, w)[None, :, None]
    share = torch.zeros(lung.shape)
    outward = u * (1 if disease.side == "left" else -1)
    height, tilt = disease.place
    for k in range(1 if disease.kind == "band" else 3):
        centre = 0.1 + 0.3 * height - (0.1 + 0.08 * tilt) * k
        slope = (tilt - 0.5) * 0.7 + (0.25 - 0.3 * height) * k
        bend = 0.5 * (height - tilt) * (outward - 0.4) ** 2
        half = (0.016 + 0.02 * disease.severity) * (1.0 - 0.25 * k)
        distance = v - centre - slope * (outward - 0.4) - bend
        inner, outer = 0.14 + 0.12 * k * tilt, 0.66 - 0.12 * k * height
        extent = torch.sigmoid((outward - inner) / 0.03) * torch.sigmoid((outer - outward) / 0.05)
        share = torch.maximum(share, torch.exp(-((distance / half) ** 2)) * extent * (0.95 - 0.15 * k))
    depth = torch.linspace(-1, 1, d)[None, None, :]
    return share * torch.exp(-(((depth + 0.1) / 0.45) ** 2)) * lung


def project(bits: np.ndarray) -> np.ndarray:
    """Structures along the rays, (H, W, D) uint16, to masks (14, H, W) bool."""
    flat = np.bitwise_or.reduce(bits, axis=-1)
    return np.stack([(flat >> k) & 1 for k in range(len(STRUCTURES))]).astype(bool)
