"""The visible mark."""

import numpy as np
import pytest

from cfkit.images import read_film
from cfkit.mark import stamp

from .test_images import dicom_film, save


@pytest.mark.parametrize("inverted", [False, True])
def test_the_mark_is_bright_on_dark_in_a_corner(tmp_path, inverted):
    film = read_film(dicom_film(tmp_path / "f.dcm", inverted=inverted))
    marked = stamp(film, film.stored)
    assert marked.dtype == film.stored.dtype and marked.shape == film.stored.shape
    changed = marked != film.stored
    rows, columns = np.nonzero(changed)
    assert rows.min() > film.stored.shape[0] // 2 and columns.min() < film.stored.shape[1] // 4
    shown = film.display(marked[changed])
    assert shown.max() == 1.0 and shown.min() == 0.0 and 0.2 < (shown == 1.0).mean() < 0.9
    assert np.array_equal(marked[: rows.min()], film.stored[: rows.min()])


def test_a_film_of_twelve_bits_stays_one(tmp_path):
    film = read_film(save(tmp_path, "12"))
    assert stamp(film, film.stored).max() == 4095
