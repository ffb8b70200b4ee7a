"""A visible mark on a film that is not a patient's."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .film import Film
from .images import display_levels

WORD = "SYNTHETIC"


def stamp(film: Film, pixels: np.ndarray) -> np.ndarray:
    """Writes "SYNTHETIC" into the lower left corner, bright with a dark edge.

    Args:
        film: The film as it was read: what is bright and what is dark in it.
        pixels: Stored values, (H, W).

    Returns:
        A copy, same shape and dtype.
    """
    levels = display_levels(film)
    shown = film.display(levels).clip(0.0, 1.0)  # 12 bits in a file of 16 are white before its last level
    bright, dark = levels[int(shown.argmax())], levels[int(shown.argmin())]
    height, width = pixels.shape
    size = max(min(height // 24, width // 10), 8)
    picture = Image.new("L", (width, height))
    place = (size // 2, height - 2 * size)
    font, edge = ImageFont.load_default(size), max(size // 10, 1)
    ImageDraw.Draw(picture).text(place, WORD, fill=255, font=font, stroke_width=edge, stroke_fill=128)
    drawn, out = np.asarray(picture), pixels.copy()
    out[(drawn > 0) & (drawn <= 192)] = dark
    out[drawn > 192] = bright
    return out
