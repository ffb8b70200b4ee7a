"""The picture of an edit: original, counterfactual, signed difference and what was kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

TILE, GAP, HEAD, FOOT = 384, 12, 64, 34
INK, PAPER, FAINT = (235, 235, 235), (18, 18, 20), (160, 160, 165)
KEEP = np.array([70, 190, 170], np.float32)


def difference_colours(change: np.ndarray, limit: float) -> np.ndarray:
    """A signed change (H, W) in colours: black none, red brighter, blue darker, full at `limit`."""
    share = np.clip(change / limit, -1.0, 1.0)[..., None]
    red, blue = np.array([255, 80, 60], np.float32), np.array([80, 140, 255], np.float32)
    return (np.maximum(share, 0) * red + np.maximum(-share, 0) * blue).astype(np.uint8)


def draw_panel(
    original: np.ndarray, edited: np.ndarray, mask: np.ndarray | None, *, title: str, lines: Sequence[str] = ()
) -> np.ndarray:
    """Draws the panel.

    Args:
        original: (H, W) in [0, 1].
        edited: Same shape.
        mask: What was kept, (H, W) in [0, 1], or None.
        title: What was done.
        lines: Said under the title, such as the probabilities.

    Returns:
        (height, width, 3) uint8.
    """
    change = edited - original
    limit = max(float(np.quantile(np.abs(change), 0.995)), 0.05)
    film = (original * 255).astype(np.uint8)
    tiles = [
        ("original", np.repeat(film[..., None], 3, axis=2)),
        ("counterfactual", np.repeat((edited * 255).astype(np.uint8)[..., None], 3, axis=2)),
        (f"difference: red brighter, blue darker, full at {limit:.2f}", difference_colours(change, limit)),
    ]
    if mask is not None:
        share = 0.55 * mask[..., None]
        tiles.append(("kept (bones)", (film[..., None] * (1 - share) + KEEP * share).astype(np.uint8)))
    width = GAP + len(tiles) * (TILE + GAP)
    head = HEAD + 20 * max(len(lines) - 1, 0)
    canvas = Image.new("RGB", (width, head + TILE + FOOT), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((GAP, 8), title, fill=INK, font=ImageFont.load_default(20))
    for k, line in enumerate(lines):
        pen.text((GAP, 36 + 20 * k), line, fill=FAINT, font=ImageFont.load_default(14))
    for k, (caption, pixels) in enumerate(tiles):
        left = GAP + k * (TILE + GAP)
        canvas.paste(Image.fromarray(pixels).resize((TILE, TILE), Image.Resampling.BICUBIC), (left, head))
        pen.text((left, head + TILE + 8), caption, fill=FAINT, font=ImageFont.load_default(14))
    return np.asarray(canvas)
