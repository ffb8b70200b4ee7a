"""Renders the test split that ships inside the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.virtual.patient import FINDINGS
from ..data.virtual.render import render
from ..data.virtual.volume import load_anatomy
from ..files import write_beside

FIRST, COUNT = 30_000, 64  # no other split has these seeds


def write_test_split(path: Path, *, first: int = FIRST, count: int = COUNT) -> None:
    """Writes films and structures, those with a finding as differences, into one compressed file."""
    anatomy = load_anatomy()
    films, masks, views = [], [], []
    for seed in range(first, first + count):
        rendered = render(anatomy, seed)
        films.append([np.round(rendered.films[f] * 255).astype(np.uint8) for f in ("", *FINDINGS)])
        masks.append([np.packbits(rendered.structures[f], axis=-1) for f in ("", *FINDINGS)])
        views.append(rendered.patient.exposure.view)
    film, mask = np.array(films), np.array(masks)

    def write(part: Path) -> None:
        with part.open("wb") as stream:
            np.savez_compressed(
                stream,
                healthy=film[:, 0],
                change=film[:, 1:] - film[:, :1],
                structures=mask[:, 0],
                flips=mask[:, 1:] ^ mask[:, :1],
                patients=np.arange(first, first + count),
                views=np.array(views),
            )

    write_beside(path, write)
