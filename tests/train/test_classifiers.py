"""What the judge and the CLIP-style model are shown."""

import numpy as np
import pytest
import torch

from cfkit.train.augment import expose, frame
from cfkit.train.classifiers import SIZE, Batch, Films, classification_loss, draw_batch, draw_grafts
from cfkit.train.real import RealFilms


@pytest.fixture(scope="module")
def films():
    """Two patients whose findings are bright squares, and four dark real films, each but one with a finding."""
    stack = torch.full((2, 4, SIZE, SIZE), 90, dtype=torch.uint8)
    for variant, (row, column) in enumerate([(30, 30), (60, 60), (30, 90)], 1):
        stack[:, variant, row : row + 24, column : column + 24] = 170
    real = RealFilms(
        np.full((4, 64, 64), 60, np.uint8), np.eye(4, 3, dtype=np.float32), np.arange(4), ("a", "b", "c", "d")
    )
    return Films(stack, real)


def test_a_graft_changes_nothing_but_the_finding(films):
    batch = draw_grafts(films, 6, torch.Generator().manual_seed(0))
    without, grafted = batch.films.chunk(2)
    assert without.shape == (6, 1, SIZE, SIZE)
    change = torch.nn.functional.avg_pool2d(grafted - without, 8).flatten(1)  # noise differs between the two
    assert (change.amax(1) > 0.06).all() and (change.amin(1) > -0.03).all(), "a bright square is added"
    before, after = batch.findings.chunk(2)
    added = after - before
    assert torch.equal(added, torch.eye(3).repeat(2, 1)), "the findings take turns"


def test_the_label_of_a_graft_is_certain_and_others_of_a_real_film_are_not(films):
    batch = draw_grafts(films, 6, torch.Generator().manual_seed(0))
    expected = torch.zeros(6, 3, dtype=torch.bool)
    expected[:4] = ~torch.eye(3, dtype=torch.bool).repeat(2, 1)[:4]  # the first two thirds are real
    assert torch.equal(batch.noisy, expected.repeat(2, 1))


def test_no_finding_is_grafted_onto_a_film_that_has_it(films):
    for seed in range(20):
        before, _ = draw_grafts(films, 6, torch.Generator().manual_seed(seed)).findings.chunk(2)
        assert (before[torch.arange(6), torch.arange(6) % 3] == 0).all()


def test_batches_hold_whole_quadruplets_then_real_films(films):
    batch = draw_batch(films, torch.Generator().manual_seed(0), quadruplets=2, reals=3)
    assert batch.films.shape == (11, 1, SIZE, SIZE) and batch.films.min() >= 0 and batch.films.max() <= 1
    assert torch.equal(batch.findings[:8], torch.cat([torch.zeros(1, 3), torch.eye(3)]).repeat(2, 1))
    assert not batch.noisy[:8].any() and batch.noisy[8:].all()


def test_noisy_labels_weigh_less():
    x, y = torch.zeros(2, 1, SIZE, SIZE), torch.zeros(2, 3)
    logits = torch.full((2, 3), 2.0)
    certain, noisy = (float(classification_loss(logits, Batch(x, y, torch.full((2, 3), n)))) for n in (False, True))
    assert noisy < certain


def test_channels_share_framing_and_exposure():
    pair = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1, -1)
    generator = torch.Generator().manual_seed(1)
    moved = expose(
        frame(pair, generator, angle=0.2, scale=(0.8, 1.2), shift=0.1, mirrored=0.5), generator, gamma=(0.5, 2.0)
    )
    assert torch.equal(moved[:, 0], moved[:, 1]) and not torch.allclose(moved, pair, atol=0.05)


def test_a_frame_without_range_is_the_film_itself_or_its_mirror_image():
    film = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator()
    still = frame(film, generator, angle=0.0, scale=(1.0, 1.0), shift=0.0)
    mirrored = frame(film, generator, angle=0.0, scale=(1.0, 1.0), shift=0.0, mirrored=1.0)
    assert torch.allclose(still, film, atol=1e-5)
    assert torch.allclose(mirrored, film.flip(-1), atol=1e-5)
