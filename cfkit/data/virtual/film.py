"""What happens between the patient and the finished film: detector, devices, markers, collimation."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from .patient import Exposure


def develop(thickness: np.ndarray, reference: np.ndarray, exposure: Exposure, noise: np.ndarray) -> np.ndarray:
    """Detector curve, local contrast as film processors apply it, blur and noise.

    Args:
        thickness: Water-equivalent thickness in mm, (H, W).
        reference: That of the same patient without a finding: it alone sets level and width, so
            that a pair differs where the disease is and nowhere else.
        exposure: Level and width, in units of the reference's spread.
        noise: Standard normal, (H, W); the same for all films of a patient.

    Returns:
        Film (H, W) float32 in [0, 1], dense tissue bright.
    """
    scale = thickness.shape[0] / 256
    low, middle, high = np.quantile(reference[reference > 20.0], [0.1, 0.4, 0.96])
    # multi-scale processing, as digital radiography does it: broad shadows compressed, detail lifted
    wide, fine = (ndimage.gaussian_filter(thickness, sigma * scale) for sigma in (30, 5))
    boost = 1.0 + 0.8 * exposure.local_contrast
    base = 0.72 * wide + boost * (fine - wide) + 2.0 * boost * (thickness - fine)
    centre = middle + 0.2 * exposure.level * (high - low)
    film = 1.0 / (1.0 + np.exp(-(base - centre) / (0.42 * exposure.width * (high - low))))
    film = np.clip((film - 0.06) / 0.86, 0.0, 1.0) ** (0.75 * exposure.gamma)
    film = ndimage.gaussian_filter(film, exposure.blur * scale)
    grain = ndimage.gaussian_filter(noise, 0.5 * scale) * 1.7
    return np.asarray(np.clip(film + exposure.noise * grain, 0.0, 1.0), np.float32)


def draw_devices(devices: tuple[str, ...], size: int, rng: np.random.Generator) -> np.ndarray:
    """Devices as water-equivalent thickness in mm, (H, W)."""
    canvas = Image.new("L", (4 * size, 4 * size))
    pen = ImageDraw.Draw(canvas)

    def curve(points: list[tuple[float, float]], width: float, value: int) -> None:
        knots = np.array(points) + rng.normal(0, 0.012, (len(points), 2))
        along = np.linspace(0, len(points) - 1, 80)
        smooth = [ndimage.map_coordinates(knots[:, k], [along], order=3, mode="nearest") for k in (0, 1)]
        path = [(float(x) * 4 * size, float(y) * 4 * size) for x, y in zip(*smooth, strict=True)]
        pen.line(path, fill=value, width=max(int(width * 4 * size / 256), 1), joint="curve")

    for device in devices:
        if device == "pacemaker":
            x, y = rng.uniform(0.72, 0.8), rng.uniform(0.17, 0.25)
            box = [(x - 0.055) * 4 * size, (y - 0.045) * 4 * size, (x + 0.055) * 4 * size, (y + 0.05) * 4 * size]
            pen.rounded_rectangle(box, radius=0.03 * 4 * size, fill=200)
            curve([(x, y), (0.6, 0.16), (0.5, 0.25), (0.47, 0.45), (0.55, 0.66)], 1.2, 110)
        elif device == "central line":
            curve([(0.3, 0.05), (0.36, 0.14), (0.43, 0.22), (0.45, 0.36), (0.45, 0.46)], 1.3, 60)
        elif device == "leads":
            for _ in range(int(rng.integers(2, 4))):
                a, b = rng.uniform(0.1, 0.9, 2)
                curve([(a, 0.0), (a + 0.05, 0.3), ((a + b) / 2, 0.6), (b, 1.0)], 1.1, 45)
                pen.ellipse([a * 4 * size - 14, 0.31 * 4 * size - 14, a * 4 * size + 14, 0.31 * 4 * size + 14], fill=90)
        elif device == "tube":
            curve([(0.5, 0.0), (0.5, 0.1), (0.49, 0.3), (0.5, 0.6), (0.54, 0.85), (0.58, 1.0)], 1.6, 50)
    shadow = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32)
    return np.asarray(shadow * 0.45)


def draw_marker(film: np.ndarray, marker: str) -> np.ndarray:
    """Burns a side or view marker into an upper corner: "R" on the patient's right, else the left."""
    if not marker:
        return film
    size = film.shape[0]
    font = ImageFont.load_default(size * (0.08 if len(marker) == 1 else 0.04))
    canvas = Image.new("L", (size, size))
    place = (0.04, 0.05) if marker == "R" else (0.95, 0.05)
    ImageDraw.Draw(canvas).text(
        (place[0] * size, place[1] * size), marker, fill=255, font=font, anchor="lt" if marker == "R" else "rt"
    )
    letters = np.asarray(canvas, np.float32) / 255
    return np.asarray(np.maximum(film, 0.97 * letters), np.float32)


def draw_collimation(film: np.ndarray, edges: tuple[float, float, float, float]) -> np.ndarray:
    """Blackens what lies outside the collimated field; edges are top, bottom, left, right."""
    size = film.shape[0]
    top, bottom, left, right = (round(e * size) for e in edges)
    out = np.full_like(film, 0.01)
    window = (slice(top, size - bottom), slice(left, size - right))
    out[window] = film[window]
    return out if any(edges) else film
