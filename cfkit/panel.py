"""The picture of an edit: original, counterfactual, signed difference and what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .files import write_beside

TILE, GAP, HEAD, FOOT = 384, 12, 64, 34
INK, PAPER, FAINT = (235, 235, 235), (18, 18, 20), (160, 160, 165)
KEEP = np.array([70, 190, 170], np.float32)


def difference_colours(change: np.ndarray, limit: float) -> np.ndarray:
    """A signed change (H, W) in colours: black none, red brighter, blue darker, full at `limit`."""
    share = np.clip(change / limit, -1.0, 1.0)[..., None]
    red, blue = np.array([255, 80, 60], np.float32), np.array([80, 140, 255], np.float32)
    return (np.maximum(share, 0) * red + np.maximum(-share, 0) * blue).astype(np.uint8)


def heat_colours(heat: np.ndarray, film: np.ndarray) -> np.ndarray:
    """A heatmap (H, W), 0 or more, over its film (H, W) in [0, 1]: from the film's grey to yellow."""
    share = (heat / max(float(np.quantile(heat, 0.995)), 1e-6)).clip(0.0, 1.0)[..., None]
    glow = np.concatenate([255 * share**0.5, 235 * share**1.2, 60 * share], axis=-1)
    return np.asarray(np.maximum(110 * film[..., None], glow), np.uint8)


def draw_panel(
    original: np.ndarray,
    edited: np.ndarray,
    mask: np.ndarray | None,
    *,
    title: str,
    lines: Sequence[str] = (),
    heatmap: np.ndarray | None = None,
) -> np.ndarray:
    """Draws the panel.

    Args:
        original: (H, W) in [0, 1].
        edited: Same shape.
        mask: What was kept, (H, W) in [0, 1], or None.
        title: What was done.
        lines: Said under the title, such as the probabilities.
        heatmap: Where the method says that it changed the film, (H, W), or None.

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
        tiles.append(("kept", (film[..., None] * (1 - share) + KEEP * share).astype(np.uint8)))
    if heatmap is not None:
        tiles.append(("heatmap of the method", heat_colours(heatmap, original)))
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


def write_gif(path: Path, frames: np.ndarray, *, milliseconds: int = 120) -> None:
    """Writes films as an animation that goes there and back for ever.

    Args:
        path: Where.
        frames: (F, H, W) in [0, 1], F of 2 or more.
        milliseconds: Each is shown.
    """
    there = [Image.fromarray((frame * 255).round().astype(np.uint8)) for frame in frames]
    pictures = [*there, *there[-2:0:-1]]
    held = [3 * milliseconds if k in (0, len(there) - 1) else milliseconds for k in range(len(pictures))]
    write_beside(
        path,
        lambda part: pictures[0].save(part, "GIF", save_all=True, append_images=pictures[1:], duration=held, loop=0),
    )
