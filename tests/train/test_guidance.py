"""The guidance classifier's training: what its gradient is taught."""

import numpy as np
import pytest
import torch
from torch import nn

from cfkit.bundles.networks import SmoothClassifier
from cfkit.train.classifiers import SIZE, Films
from cfkit.train.guidance import augment_pair, draw_disturbance, label_loss, pair_loss
from cfkit.train.real import RealFilms


def real(side: int) -> RealFilms:
    pixels = np.random.default_rng(0).integers(0, 255, (4, side, side), dtype=np.uint8)
    return RealFilms(pixels, np.eye(4, 3, dtype=np.float32), np.arange(4), ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def films():
    """Two patients whose findings are bright squares, each in its own place."""
    stack = torch.full((2, 4, SIZE, SIZE), 90, dtype=torch.uint8)
    for variant, (row, column) in enumerate([(30, 30), (60, 60), (30, 90)], 1):
        stack[:, variant, row : row + 24, column : column + 24] = 170
    return Films(stack, real(64), real(256))


def test_both_films_of_a_pair_are_framed_alike():
    film = torch.rand(3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    first, second = augment_pair(film, film.clone(), torch.Generator().manual_seed(1))
    assert torch.equal(first, second) and not torch.allclose(first, film, atol=0.01)
    assert first.min() >= 0.0 and first.max() <= 1.0


def test_disturbances_are_small_and_differ():
    noise = draw_disturbance(8, torch.Generator().manual_seed(0))
    assert noise.shape == (8, 1, SIZE, SIZE)
    assert 0.001 < noise.std() < 0.06
    assert not torch.equal(noise[0], noise[1])


class Bright(nn.Module):
    """Logits that rise, hardly, with what is bright; their gradient lies on the squares."""

    def __init__(self, sign: float):
        super().__init__()
        self.sign = sign

    def forward(self, x):
        return (self.sign * 1e-6 * torch.relu(x - 0.5).sum((1, 2, 3))).unsqueeze(1).expand(-1, 3)


def test_a_gradient_that_points_to_the_finding_costs_less(films):
    costs = [float(pair_loss(Bright(sign), films, torch.Generator().manual_seed(0))) for sign in (1.0, -1.0)]
    assert costs[0] < costs[1] - 0.5


def test_training_lowers_the_loss(films):
    torch.manual_seed(0)
    module = SmoothClassifier()
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    values = []
    for step in range(14):
        loss = pair_loss(module, films, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert np.mean(values[-4:]) < 0.9 * np.mean(values[:4])


def test_labels_are_learnt_from_real_and_virtual_films(films):
    loss = label_loss(SmoothClassifier(), films, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite() and loss.ndim == 0
