"""Virtual patients: everything about one that is drawn by chance, drawn from its seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

FINDINGS = ("Atelectasis", "Cardiomegaly", "Pleural Effusion")


@dataclass(frozen=True)
class Disease:
    """One finding of a patient, as it is written into the volume.

    Attributes:
        finding: Canonical name.
        severity: 0 (mild) to 1 (severe).
        side: "left", "right", "both", or "" where the finding has none.
        kind: For atelectasis "band", "multiband" or a lobe such as "left lower"; else "".
        place: Where in the lung a band lies: height and tilt, each 0 to 1.
    """

    finding: str
    severity: float
    side: str = ""
    kind: str = ""
    place: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Habitus:
    """The body: how it differs from the CT it is made of. Lengths in mm, angles in degrees."""

    width: float
    height: float
    depth: float
    turn: float  # about the long axis
    tilt: float  # in the plane of the film
    lean: float  # forward
    shift: tuple[float, float]  # of the centre of the film, down and to the right
    elastic: float  # standard deviation of the elastic displacement
    lung_density: float  # factors
    bone_density: float
    soft_tissue: float
    fat: float  # water-equivalent mm added over the lower chest
    heart: float  # factor of the healthy heart


@dataclass(frozen=True)
class Exposure:
    """From water-equivalent thickness to grey level."""

    level: float
    width: float
    gamma: float
    local_contrast: float
    blur: float  # pixels at 256 px
    noise: float  # standard deviation in grey levels of [0, 1]
    collimation: tuple[float, float, float, float]  # top, bottom, left, right, share of the film
    view: str


@dataclass(frozen=True)
class Patient:
    """All that decides the films of one virtual patient."""

    seed: int
    habitus: Habitus
    exposure: Exposure
    diseases: tuple[Disease, ...]
    devices: tuple[str, ...]
    marker: str

    def metadata(self) -> dict[str, Any]:
        """The patient as plain data for a JSON file."""
        return asdict(self)


def draw_patient(seed: int) -> Patient:
    """Draws a patient; the same seed gives the same patient.

    Args:
        seed: Any non-negative integer; it is the patient's identity.
    """
    rng = np.random.default_rng([20261, seed])
    view = "AP" if rng.random() < 0.4 else "PA"
    habitus = Habitus(
        width=float(rng.normal(1.0, 0.06)),
        height=float(np.clip(rng.normal(1.06, 0.06), 0.94, 1.2)),
        depth=float(rng.normal(1.0, 0.08)),
        turn=float(rng.normal(0, 4.0)),
        tilt=float(rng.normal(0, 2.5)),
        lean=float(rng.normal(0, 4.0)),
        shift=(float(rng.normal(0, 8)), float(rng.normal(0, 7))),
        elastic=float(rng.uniform(2.0, 6.0)),
        lung_density=float(rng.uniform(0.9, 1.6)),
        bone_density=float(rng.uniform(0.85, 1.2)),
        soft_tissue=float(rng.uniform(0.95, 1.05)),
        fat=float(rng.gamma(2.0, 8.0)),
        heart=float(rng.uniform(0.94, 1.04)) + (0.03 if view == "AP" else 0.0),
    )
    dark = rng.random() < 0.25
    exposure = Exposure(
        level=float(rng.normal(0.0, 0.25)),
        width=float(rng.uniform(0.75, 1.25)),
        gamma=float(rng.uniform(0.85, 1.2)),
        local_contrast=float(rng.uniform(0.3, 1.1)),
        blur=float(rng.uniform(0.3, 0.8)),
        noise=float(rng.uniform(0.002, 0.008)),
        collimation=tuple(float(v) for v in rng.uniform(0, 0.05, 4) * dark),  # type: ignore[arg-type]
        view=view,
    )
    devices = tuple(
        name
        for name, chance in (("pacemaker", 0.06), ("central line", 0.12), ("leads", 0.15), ("tube", 0.08))
        if rng.random() < chance * (1.8 if view == "AP" else 0.7)
    )
    marker = str(rng.choice(["", "L", "R", "PORTABLE", "AP"], p=[0.3, 0.3, 0.2, 0.1, 0.1]))
    return Patient(seed, habitus, exposure, draw_diseases(rng), devices, marker)


def draw_diseases(rng: np.random.Generator) -> tuple[Disease, ...]:
    """One disease of each finding, in the order of `FINDINGS`."""
    side = str(rng.choice(["left", "right"]))
    kind = str(rng.choice(["band", "multiband", f"{side} lower"], p=[0.33, 0.27, 0.4]))
    atelectasis = Disease(
        "Atelectasis", float(rng.uniform(0, 1)), side, kind, (float(rng.random()), float(rng.random()))
    )
    cardiomegaly = Disease("Cardiomegaly", float(rng.uniform(0, 1)))
    effusion = Disease(
        "Pleural Effusion", float(rng.beta(1.2, 1.6)), str(rng.choice(["left", "right", "both"], p=[0.35, 0.35, 0.3]))
    )
    return (atelectasis, cardiomegaly, effusion)
