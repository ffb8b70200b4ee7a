"""The films that the demo bundle is trained on: virtual patients, rendered once and kept on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ..data.virtual.patient import FINDINGS
from ..data.virtual.render import render
from ..data.virtual.volume import load_anatomy

CHUNK = 16  # patients a file
SPLITS = {  # first seed and number of patients: no two splits share one
    "train": (0, 768),
    "judge": (10_000, 384),
    "validation": (20_000, 64),
}
VARIANTS = ("", *FINDINGS)


def render_chunk(start: int, *, folder: Path, size: int = 256) -> None:
    """Renders `CHUNK` patients into one file; a file that is there is not made again."""
    path = folder / f"{start:06d}.npz"
    if path.exists():
        return
    import torch

    torch.set_num_threads(1)
    anatomy = load_anatomy()
    films = np.zeros((CHUNK, len(VARIANTS), size, size), np.uint8)
    masks = np.zeros((CHUNK, len(VARIANTS), 14, size // 2, size // 2 // 8), np.uint8)
    for k in range(CHUNK):
        rendered = render(anatomy, start + k, size=size)
        for v, finding in enumerate(VARIANTS):
            films[k, v] = np.round(rendered.films[finding] * 255)
            masks[k, v] = np.packbits(rendered.structures[finding][:, ::2, ::2], axis=-1)
    beside = path.with_suffix(".part")
    with beside.open("wb") as stream:
        np.savez_compressed(stream, films=films, masks=masks)
    os.replace(beside, path)


def render_split(
    name: str, folder: Path, *, limit: int | None = None, workers: int = 2, report: Callable[[str], None] = print
) -> None:
    """Renders a split, or its first `limit` patients, in parallel, going on where an earlier run stopped."""
    first, count = SPLITS[name]
    count = min(count, limit or count)
    target = folder / name
    target.mkdir(parents=True, exist_ok=True)
    starts = range(first, first + count, CHUNK)
    with ProcessPoolExecutor(workers) as pool:
        for done, _ in enumerate(pool.map(partial(render_chunk, folder=target), starts), 1):
            report(f"{name}: {done * CHUNK}/{count} patients")


def read_split(name: str, folder: Path, *, limit: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Films (P, 4, H, W) uint8 and structures (P, 4, 14, H/2, W/2) bool of a rendered split."""
    chunks = sorted((folder / name).glob("*.npz"))[: None if limit is None else -(-limit // CHUNK)]
    loaded = [np.load(path, allow_pickle=False) for path in chunks]
    films = np.concatenate([chunk["films"] for chunk in loaded])
    masks = np.concatenate([np.unpackbits(chunk["masks"], axis=-1).astype(bool) for chunk in loaded])
    return films, masks
